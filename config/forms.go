package config

import (
	"fmt"
	"strconv"
)

// Some keys have a short form:
//
//	one      limit = { … }       for  limit = [ { … } ]      (an array of tables)
//	         backend = "api"     for  backend = { api = 1 }  (a map of integers)
//	toggle   compress = true     for  compress = {}          (a table; false: none)
//	short    "404" = "404.html"  for  "404" = { file = "404.html" }
//
// It is rewritten before the value is decoded, so that decoding and the checks see one form. A list
// that is written as one string is not rewritten: see value in decode.go.

// expandShort rewrites the short form of the value of a key. The new nodes keep the place of the
// value.
func (n *node) expandShort(k *key) {
	switch v := n.leaf.(type) {
	case string:
		switch {
		case k.elem != nil && k.one:
			if v != "" {
				*n = node{at: n.at, keys: map[string]*node{v: {at: n.at, leaf: int64(1)}}}
			}
		case k.short != "" && k.table != nil && !k.list:
			*n = node{at: n.at, keys: map[string]*node{k.short: {at: n.at, leaf: v}}}
		}
	case bool:
		if k.toggle && v {
			*n = node{at: n.at, keys: map[string]*node{}}
		}
	case nil:
		if k.one && k.list && k.table != nil && n.isTable() {
			*n = node{at: n.at, list: []*node{{at: n.at, keys: n.keys}}}
		}
	}
}

// isOff reports whether n is false in place of a table.
func (n *node) isOff(k *key) bool { return k.toggle && n.leaf == false }

// tableForms says how the value of a key that is a table, or an array of tables, may be written.
func (k *key) tableForms(at *place) string {
	switch {
	case k.list && k.one:
		return fmt.Sprintf("a table or an array of tables: write %s = { … }, or %s = [ { … } ]", k.name, k.name)
	case k.list:
		return fmt.Sprintf("an array of tables: write [[%s]], or %s = [ { … } ]", at.pattern(), k.name)
	case k.toggle:
		return "true, false or a table"
	case k.short != "" && k.tableExample() != "":
		return "a string or a table, for example " + k.tableExample()
	case k.short != "":
		return "a string or a table"
	}
	if eg := k.tableExample(); eg != "" {
		return "a table, for example " + eg
	}
	return "a table"
}

// tableExample is an inline table with its first key that has an example, "" for other tables.
func (k *key) tableExample() string {
	if !k.inline {
		return ""
	}
	for _, in := range keys[k.table] {
		if in.codec == nil || in.eg == "" {
			continue
		}
		eg := in.eg
		if _, err := strconv.Atoi(eg); err != nil {
			eg = quote(eg)
		}
		return fmt.Sprintf("%s = { %s = %s }", k.name, in.name, eg)
	}
	return ""
}

// groups reports a table in which not exactly one key of a group is set.
func (l *loader) groups(n *node, ks []key) {
	for i, k := range ks {
		if k.group == "" || hasGroup(ks[:i], k.group) {
			continue
		}
		var names []string
		count := 0
		for _, k := range ks[i:] {
			if child := n.keys[k.name]; k.group == ks[i].group {
				names = append(names, k.name)
				if n.unset(k.name) {
					return // it may be set or not
				}
				if n.has(k.name) || child != nil && child.isTable() {
					count++
				}
			}
		}
		if count != 1 {
			l.fault(n.at, "has %d %ss; must have exactly one of %s", count, k.group, list(names, " and "))
		}
	}
}

func hasGroup(ks []key, group string) bool {
	for _, k := range ks {
		if k.group == group {
			return true
		}
	}
	return false
}
