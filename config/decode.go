package config

import (
	"fmt"
	"reflect"
	"strings"
)

// table decodes a table into the struct v, over the defaults. n is nil for a table that is not in
// the file.
func (l *loader) table(n *node, v reflect.Value) {
	ks, known := keys[v.Type()], 0
	for i := range ks {
		k, field := &ks[i], ks[i].in(v)
		var child *node
		if n != nil {
			child = n.keys[k.name]
		}
		if child != nil {
			known++
			child.at.secret = k.secret
		}
		switch {
		case child != nil:
			l.key(child, k, field)
		case k.table != nil && field.Kind() == reflect.Struct:
			l.table(nil, field)
		default:
			k.setDefault(field)
			if n != nil && k.required != nil && (k.unless == "" || !n.has(k.unless)) {
				l.missing(n.get(k.name), k, field)
			}
		}
	}
	if n == nil {
		return
	}
	if known < len(n.keys) {
		l.unknown(n, v.Type())
	}
	l.groups(n, ks)
}

// key decodes the value of a key.
func (l *loader) key(n *node, k *key, v reflect.Value) {
	n.expandShort(k)
	switch {
	case k.elem != nil:
		l.mapping(n, k, v)
	case k.table != nil:
		l.tables(n, k, v)
	default:
		l.value(n, k, v)
	}
}

// setDefault sets v to the default.
func (k *key) setDefault(v reflect.Value) {
	switch {
	case !k.def.IsValid():
	case k.list:
		v.Set(reflect.AppendSlice(reflect.Zero(v.Type()), k.def))
	default:
		v.Set(k.def)
	}
}

// tables decodes a table, an optional table, or an array of tables.
func (l *loader) tables(n *node, k *key, v reflect.Value) {
	l.headings(n, k)
	switch {
	case k.list && !k.one && n.at.in.in != nil && !n.isTable() && !n.tablesOnly():
		l.notTables(n, k)
	case k.list && !n.tablesOnly(), !k.list && !n.isTable() && !n.isOff(k):
		l.fault(n.at, "is %s%s; must be %s", n.kind(), n.got(), k.tableForms(n.at))
		if v.Kind() == reflect.Struct {
			l.table(nil, v)
		}
	case k.list && len(n.list) > 0:
		v.Set(reflect.MakeSlice(v.Type(), len(n.list), len(n.list)))
		for i, e := range n.list {
			l.table(e, v.Index(i))
		}
	case k.list, n.isOff(k):
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		l.table(n, v.Elem())
	default:
		l.table(n, v)
	}
}

// value decodes a value or a list of them.
func (l *loader) value(n *node, k *key, v reflect.Value) {
	if !k.list {
		l.single(n, k, v)
		return
	}
	nodes := n.list
	if _, ok := n.leaf.(string); ok && k.one {
		nodes = []*node{n}
	}
	switch {
	case nodes == nil && k.one:
		l.wrongType(n, k, v, "a string, or an array of them", quote(k.eg))
	case nodes == nil:
		l.wrongType(n, k, v, "an array of strings", "[ "+quote(k.eg)+" ]")
	case len(nodes) == 0 && k.required != nil:
		l.missing(n, k, v)
	case len(nodes) > 0:
		v.Set(reflect.MakeSlice(v.Type(), len(nodes), len(nodes)))
	}
	for i, e := range nodes { // an invalid one stays zero
		if s, ok := e.leaf.(string); !ok {
			l.fault(e.at, "is %s%s; must be a string, for example %s", e.kind(), e.got(), quote(k.eg))
		} else if problem := k.codec.set(v.Index(i), s, e.at.dir); problem != "" {
			l.wrong(e, problem)
		}
	}
}

func (l *loader) single(n *node, k *key, v reflect.Value) {
	switch c := k.codec; c.form {
	case "boolean":
		b, ok := n.leaf.(bool)
		if !ok {
			l.wrongType(n, k, v, "true or false", k.eg)
			return
		}
		v.SetBool(b)
	case "integer":
		i, ok := n.leaf.(int64)
		if !ok {
			l.wrongType(n, k, v, "a whole number", k.eg)
		} else if problem := c.setInt(v, i); problem != "" {
			l.wrong(n, problem)
		}
	default:
		switch s, ok := c.stringOf(n); {
		case !ok:
			l.wrongType(n, k, v, c.want(), c.literal(k.eg))
		case s == "" && k.required != nil:
			l.missing(n, k, v)
		case s == "" && c.empty:
		default:
			if problem := c.set(v, s, n.at.dir); problem != "" {
				l.wrong(n, problem)
				n.at.unset = n.at.unset || c.values != nil // the zero value is one of them
			}
		}
	}
}

// missing reports a required key that is missing or empty.
func (l *loader) missing(n *node, k *key, v reflect.Value) {
	switch {
	case *k.required == "":
		l.wrong(n, k.codec.set(v, "", ""))
	case k.list:
		l.fault(n.at, "is empty; %s", *k.required)
	default:
		l.fault(n.at, "is missing; %s", *k.required)
	}
}

// wrongType reports a value of the wrong TOML type. The default is used instead, so that no other
// fault follows from it.
func (l *loader) wrongType(n *node, k *key, v reflect.Value, want, eg string) {
	l.fault(n.at, "is %s%s; must be %s, for example %s = %s", n.kind(), n.got(), want, k.name, eg)
	n.at.unset = true
	k.setDefault(v)
}

// wrong reports an invalid value. The problem has the form "what is wrong; what would be right".
func (l *loader) wrong(n *node, problem string) {
	got := n.got()
	if s := n.text(); strings.HasPrefix(problem, "is empty") || strings.Contains(s, "://") && strings.Contains(s, "@") {
		got = "" // there is nothing to quote, or it may contain a password
	}
	l.fault(n.at, "%s", withGot(problem, got))
}

// withGot inserts the value, as got, into a problem of the form "what is wrong; what would be
// right".
func withGot(problem, got string) string {
	what, right, ok := strings.Cut(problem, "; ")
	if ok {
		right = "; " + right
	}
	return what + got + right
}

// nearest returns the name that is most similar to key, "" if none is similar enough.
func nearest(key string, names []string) string {
	best, limit := "", 1+len(key)/4
	for _, name := range names {
		if d := distance(strings.ToLower(key), name, limit); d <= limit {
			best, limit = name, d-1
		}
	}
	return best
}

// distance returns the number of letters to insert, delete, change or swap with their neighbour to
// turn a into b. A result above limit is not exact.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	var before, last []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}

// quote returns s as a TOML basic string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
