package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// unknown reports the keys of a table that are not declared, and what would be right.
func (l *loader) unknown(n *node, table reflect.Type) {
	names := make([]string, len(keys[table]))
	for i, k := range keys[table] {
		names[i] = k.name
	}
	for _, name := range n.sorted() {
		if !slices.Contains(names, name) {
			l.fault(n.keys[name].at, "%s", unknownKey(n, name, table, names))
		}
	}
}

// unknownKey returns the fault of a key that is not in names.
func unknownKey(n *node, name string, table reflect.Type, names []string) string {
	isEntry := n.at.entry && n.at.in.in != nil && n.at.in.in.in == nil
	if child := n.keys[name]; isEntry && child.isTable() && child.looksLike(names) {
		what := n.at.in.step
		return fmt.Sprintf("is a table within the %s above it; for another %s write [[%s]] and name = %s", what, what, what, quote(name))
	}
	if right := rightFor(name, n.at); right != "" {
		return "is not a key of mpgate; " + right
	}
	if why := notShared(n.at.pattern(), name); why != "" {
		return why
	}
	near := nearest(name, names)
	if near != "" && distance(strings.ToLower(name), near, 1) <= 1 {
		return fmt.Sprintf("is not a known key; did you mean %s?", near)
	}
	if n.at.in != nil {
		if right := within(n, name, table); right != "" {
			return right
		}
	}
	switch {
	case near != "":
		return fmt.Sprintf("is not a known key; did you mean %s?", near)
	}
	if found := tablesWith(name); len(found) > 0 && len(found) < 3 {
		return fmt.Sprintf("is a key of %s; write it there", list(found, " and "))
	}
	return "is not a known key; known here: " + strings.Join(names, ", ")
}

// notShared returns the fault of a key of a route or a backend in a table of what several of them
// share, in which it cannot be.
func notShared(table, name string) string {
	for _, t := range []struct{ shared, of, cannot string }{
		{"defaults.route", "route", "has no default"},
		{"defaults.backend", "backend", "has no default"},
		{"filters", "route", "cannot be in a set of filters"},
	} {
		if table == t.shared && declares(reflect.TypeFor[Config](), t.of+"."+name) {
			return fmt.Sprintf("%s; write it in the [[%s]]", t.cannot, t.of)
		}
	}
	return ""
}

// within returns the fault of a key of the tables within the one in which it stands, "" if it is of
// none.
func within(n *node, name string, table reflect.Type) string {
	var in []string
	var first *key
	for i := range keys[table] {
		k := &keys[table][i]
		if k.table == nil || !declares(k.table, name) {
			continue
		}
		if first == nil {
			first = k
		}
		in = append(in, k.name)
		if k.name == "match" {
			break // what describes a request in a route is meant to match it
		}
	}
	switch {
	case first == nil:
		return ""
	case !first.inline && len(in) == 1:
		return fmt.Sprintf("is a key of [%s]; write it there", joinKey(n.at.pattern(), first.name))
	case first.list && !first.one:
		return fmt.Sprintf("is a key of %s; write %s = [ { %s = … } ]", list(in, " and "), first.name, name)
	}
	example := ""
	if len(in) > 1 {
		example = "for example "
	}
	return fmt.Sprintf("is a key of %s; write %s%s = { %s = … }", list(in, " and "), example, first.name, name)
}

// looksLike reports whether a table has one of the keys.
func (n *node) looksLike(names []string) bool {
	for name := range n.keys {
		if slices.Contains(names, name) {
			return true
		}
	}
	return false
}

// headings reports the tables [backend.app] and [backend.web] in place of [[backend]], and makes
// entries with these names of them, so that no other fault follows from that.
func (l *loader) headings(n *node, k *key) {
	isTop := n.at.in != nil && n.at.in.in == nil
	if !k.list || !isTop || !n.isTable() || len(n.keys) == 0 {
		return
	}
	names := n.sorted()
	if slices.ContainsFunc(names, func(name string) bool { return !n.keys[name].isTable() }) {
		l.fault(n.at, "is one table; write [[%s]], in two brackets", k.name)
		entry := &node{at: n.at, keys: n.keys}
		n.keys, n.list = nil, []*node{entry}
		return
	}
	entries := make([]*node, 0, len(names))
	for _, name := range names {
		entry := n.keys[name]
		l.fault(entry.at, "is a table of its own; write [[%s]], in two brackets, and name = %s in it", k.name, quote(name))
		if entry.keys["name"] == nil {
			at := entry.at.child("name")
			entry.keys["name"] = &node{at: &at, leaf: name}
		}
		entries = append(entries, entry)
	}
	slices.SortStableFunc(entries, func(a, b *node) int { return int(a.at.line - b.at.line) })
	n.keys, n.list = nil, entries
}

// notTables reports the values in place of a table, or in an array of tables. The table is not
// empty for what comes after it.
func (l *loader) notTables(n *node, k *key) {
	n.at.unset = true
	if !n.isArray() {
		l.faultTable(n, k, k.name+" = [ %s ]")
		return
	}
	for _, e := range n.list {
		if !e.isTable() {
			l.faultTable(e, k, "%s")
		}
	}
}

// faultTable reports a value in place of a table. The table with that value stands in format.
func (l *loader) faultTable(n *node, k *key, format string) {
	at := *n.at
	at.unset = false
	var parts []string
	for _, need := range keys[k.table] {
		if need.required == nil {
			continue
		}
		value := need.eg
		if s := n.text(); s != "" && len(parts) == 0 {
			if _, host, _ := cutURL(s); host != "" {
				s = host
			}
			value = s
		}
		parts = append(parts, need.name+" = "+quote(value))
	}
	if i := slices.IndexFunc(keys[k.table], func(k key) bool { return k.name != "name" }); len(parts) == 0 {
		parts = append(parts, keys[k.table][i].name+" = "+quote(keys[k.table][i].eg))
	}
	l.fault(&at, "is %s%s; write %s", n.kind(), n.got(), fmt.Sprintf(format, "{ "+strings.Join(parts, ", ")+" }"))
}
