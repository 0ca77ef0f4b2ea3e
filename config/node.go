package config

import (
	"fmt"
	"sort"
	"time"
)

// node is a value in the files and its place: a table, an array or a leaf.
type node struct {
	at   *place
	keys map[string]*node // of a table (not nil, maybe empty)
	list []*node          // of an array (not nil, maybe empty)
	leaf any              // string, int64, float64, bool, time.Time
}

func (n *node) isTable() bool { return n.keys != nil }
func (n *node) isArray() bool { return n.list != nil }

// tablesOnly reports whether n is an array that contains only tables.
func (n *node) tablesOnly() bool {
	for _, e := range n.list {
		if !e.isTable() {
			return false
		}
	}
	return n.isArray()
}

// sorted returns the keys of a table, sorted by name.
func (n *node) sorted() []string {
	keys := make([]string, 0, len(n.keys))
	for k := range n.keys {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// kind returns the type of n, for faults.
func (n *node) kind() string {
	switch {
	case n.isTable():
		return "a table"
	case n.isArray():
		return "an array"
	}
	switch n.leaf.(type) {
	case string:
		return "a string"
	case int64:
		return "a number"
	case float64:
		return "a number with a fraction"
	case bool:
		return "a boolean"
	case time.Time:
		return "a date"
	}
	return "a value of another kind"
}

// got returns the value for faults, as TOML: ` (got "x")`. It is empty for a secret, a table and an
// array.
func (n *node) got() string {
	if n.at.secret {
		return ""
	}
	switch v := n.leaf.(type) {
	case string:
		return fmt.Sprintf(" (got %q)", v)
	case int64, float64, bool:
		return fmt.Sprintf(" (got %v)", v)
	}
	return ""
}

// The methods for the checks. A key that is not in the file has a node too.

// get returns the node of a key.
func (n *node) get(key string) *node {
	if child := n.keys[key]; child != nil {
		return child
	}
	at := n.at.child(key)
	return &node{at: &at}
}

// has reports whether a key is in the file and is not an empty string or array.
func (n *node) has(key string) bool {
	child := n.keys[key]
	return child != nil && (child.text() != "" || len(child.list) > 0)
}

// written reports whether a key is in the file.
func (n *node) written(key string) bool { return n.keys[key] != nil }

// unset reports whether the value of one of the keys is not known.
func (n *node) unset(keys ...string) bool {
	for _, key := range keys {
		if child := n.keys[key]; child != nil && child.at.unset {
			return true
		}
	}
	return false
}

// text returns the value of a string, "" for any other type.
func (n *node) text() string {
	s, _ := n.leaf.(string)
	return s
}

// item returns an element of a list, which may be written as one value.
func (n *node) item(i int) *node {
	if n.isArray() {
		return n.list[i]
	}
	return n
}

// entries returns the tables of an array of tables.
func (n *node) entries() []*node {
	if n.tablesOnly() {
		return n.list
	}
	return nil
}

// build converts the parser's result to nodes, with the places that locate found. at is the place
// of v. where is nil only if parser and locate disagree, which the tests exclude; the place of the
// parent is used then.
func (l *loader) build(v any, where *spot, at *place) *node {
	if where == nil {
		where = &spot{line: int(at.line)}
	}
	at.line, at.written = int32(where.line), true
	l.written = append(l.written, at)
	n := &node{at: at}
	switch v := v.(type) {
	case map[string]any:
		n.keys = make(map[string]*node, len(v))
		for key, val := range v {
			child := at.child(key)
			n.keys[key] = l.build(val, where.keys[key], &child)
		}
	case []map[string]any:
		n.list = make([]*node, 0, len(v))
		for i := range v {
			n.list = append(n.list, l.element(v[i], i, where, at))
		}
	case []any:
		n.list = make([]*node, 0, len(v))
		for i := range v {
			n.list = append(n.list, l.element(v[i], i, where, at))
		}
	case string:
		n.leaf = l.expand(v, at)
	default:
		n.leaf = v
	}
	return n
}

// element builds an element of an array. Entries of top-level arrays of tables are named by their
// key name.
func (l *loader) element(v any, i int, where *spot, array *place) *node {
	at := array.child("")
	at.entry, at.number = true, int32(i)
	if t, ok := v.(map[string]any); ok && array.in != nil && array.in.in == nil {
		if s, ok := t["name"].(string); ok {
			if name, unset, err := expand(s, l.lookup); err == nil && unset == nil {
				at.step = name
			}
		}
	}
	var sp *spot
	if i < len(where.elems) {
		sp = where.elems[i]
	}
	return l.build(v, sp, &at)
}

func (l *loader) expand(s string, at *place) string {
	out, unset, err := expand(s, l.lookup)
	switch {
	case err != nil:
		l.fault(at, "%v", err)
		at.unset = true
	case unset != nil:
		msg := fmt.Sprintf("needs the variable %s, which is not set (got \"${%s}\"); set it, or write ${%s:-default}", unset[0], unset[0], unset[0])
		if l.check {
			l.warn(at, "%s", msg)
		} else {
			l.fault(at, "%s", msg)
		}
		at.unset = true // after the fault: later faults about this value would mislead
	}
	return out
}

// merge adds an included file to the main one. Entries of top-level arrays of tables are appended,
// and keys of top-level tables are added.
func (l *loader) merge(into, from *node) {
	for _, key := range from.sorted() {
		have, add := into.keys[key], from.keys[key]
		switch {
		case have == nil:
			into.keys[key] = add
		case have.isTable() && add.isTable():
			for _, k := range add.sorted() {
				if old := have.keys[k]; old != nil {
					l.twice(add.keys[k].at, old.at)
					continue
				}
				have.keys[k] = add.keys[k]
			}
		case have.tablesOnly() && add.tablesOnly():
			have.list = append(have.list, add.list...)
		default:
			l.twice(add.at, have.at)
		}
	}
}

func (l *loader) twice(at, first *place) {
	l.fault(at, "is set twice, here and at %s:%d; keep one of them", first.file, first.line)
}

// joinKey appends a step to a key, quoted if necessary.
func joinKey(key, step string) string {
	for i := 0; i < len(step); i++ {
		c := step[i]
		if c != '_' && c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			step = quote(step)
			break
		}
	}
	if step == "" {
		step = `""`
	}
	if key == "" {
		return step
	}
	return key + "." + step
}
