package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// notYet are the keys of the agreed file format that this version does not implement. Such a key, set to anything but its default, is an
// error: what is silently not done may be what someone's security hangs on. A key here is a path without names and numbers
// ("listener.tls.client_auth"), or a path and one value of it ("backend.protocol=h2"); the value is the words of the fault.
var notYet = map[string]string{}

// notSupported are the words for notYet where there is nothing better to say.
const notSupported = "is not supported by this version"

// decoder fills the raw types from the tree, over their defaults.
type decoder struct {
	l        *loader
	written  []*place                // of keys and entries
	patterns map[patternKey][]string // of the fields of a table, see patternsOf
}

type patternKey struct {
	table   reflect.Type
	pattern string
}

// patternsOf are the patterns of the fields of a table.
func (d *decoder) patternsOf(table reflect.Type, pattern string, fields []field) []string {
	k := patternKey{table, pattern}
	if p, ok := d.patterns[k]; ok {
		return p
	}
	p := make([]string, len(fields))
	for i := range fields {
		p[i] = joinKey(pattern, fields[i].key)
	}
	if d.patterns == nil {
		d.patterns = map[patternKey][]string{}
	}
	d.patterns[k] = p
	return p
}

// root decodes the whole tree.
func (d *decoder) root(n *node, raw *rawConfig) {
	d.table(n, n.at, "", reflect.ValueOf(raw).Elem())
}

// field is a key that a raw type knows.
type field struct {
	key                 string
	index               []int
	one, inline, secret bool
	eg                  string
}

// fieldsOf are the keys of a raw table type, in the order of the source.
func fieldsOf(t reflect.Type) []field {
	var fs []field
	for i := 0; i < t.NumField(); i++ {
		f := t.Field(i)
		tag, ok := f.Tag.Lookup("toml")
		switch {
		case ok:
			key, options, _ := strings.Cut(tag, ",")
			has := strings.Split(options, ",")
			fs = append(fs, field{
				key: key, index: []int{i}, eg: f.Tag.Get("eg"),
				one: slices.Contains(has, "one"), inline: slices.Contains(has, "inline"), secret: slices.Contains(has, "secret"),
			})
		case f.Anonymous && f.Type != reflect.TypeFor[tbl]():
			for _, g := range fieldsOf(f.Type) {
				g.index = append([]int{i}, g.index...)
				fs = append(fs, g)
			}
		}
	}
	return fs
}

// knownFields are fieldsOf of every raw type, found once.
var knownFields = func() map[reflect.Type][]field {
	m := map[reflect.Type][]field{}
	var walk func(reflect.Type)
	walk = func(t reflect.Type) {
		if t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
			walk(t.Elem())
			return
		}
		if t.Kind() != reflect.Struct || isLeaf(t) || m[t] != nil {
			return
		}
		m[t] = fieldsOf(t)
		for _, f := range m[t] {
			walk(t.FieldByIndex(f.index).Type)
		}
	}
	walk(reflect.TypeFor[rawConfig]())
	return m
}()

func isLeaf(t reflect.Type) bool {
	return t == reflect.TypeFor[str]() || t == reflect.TypeFor[num]() || t == reflect.TypeFor[flag]() || t == reflect.TypeFor[list]()
}

// table decodes n, nil for a table that was left out, into the struct v. pattern is the key without names and numbers.
func (d *decoder) table(n *node, at *place, pattern string, v reflect.Value) {
	if r, ok := v.Addr().Interface().(interface{ setDefaults() }); ok {
		r.setDefaults()
	}
	v.Addr().Interface().(interface{ setAt(*place) }).setAt(at)
	if n != nil && !n.isTable() {
		d.l.fault(n.at, "is %s%s; must be a table", n.kind(), n.got())
		n = nil
	}
	var keys map[string]*node
	if n != nil {
		keys = n.keys
		d.note(at)
	}
	fields := knownFields[v.Type()]
	patterns := d.patternsOf(v.Type(), pattern, fields)
	leftOut := make([]place, len(fields)) // one allocation for all of them
	for i := range fields {
		f := &fields[i]
		child := keys[f.key]
		cat := &leftOut[i]
		if child != nil {
			cat = child.at
			d.note(cat)
		} else {
			*cat = at.child(f.key)
		}
		cat.secret = f.secret
		d.field(child, cat, f, patterns[i], v.FieldByIndex(f.index))
	}
	if len(keys) > 0 {
		d.unknown(n, fields)
	}
}

func (d *decoder) note(at *place) { d.written = append(d.written, at) }

func (d *decoder) field(n *node, at *place, f *field, pattern string, v reflect.Value) {
	switch leaf := v.Addr().Interface().(type) {
	case *str:
		leaf.At = at
		if s, ok := leafOf[string](d, n, f, "a string"); ok {
			if s != leaf.V {
				d.refuse(at, pattern, s)
			}
			leaf.V = s
		}
	case *num:
		leaf.At = at
		if i, ok := leafOf[int64](d, n, f, "a whole number"); ok {
			if i != leaf.V {
				d.refuse(at, pattern, "")
			}
			leaf.V = i
		}
	case *flag:
		leaf.At = at
		if b, ok := leafOf[bool](d, n, f, "true or false"); ok {
			if b != leaf.V {
				d.refuse(at, pattern, "")
			}
			leaf.V = b
		}
	case *list:
		d.list(n, at, f, pattern, leaf)
	default:
		d.tables(n, at, pattern, v)
	}
}

// tables decodes what is a table, a table that may be left out, or an array of tables.
func (d *decoder) tables(n *node, at *place, pattern string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if n != nil && len(n.keys) > 0 {
			d.refuse(at, pattern, "")
		}
		d.table(n, at, pattern, v)
	case reflect.Pointer:
		if n != nil {
			v.Set(reflect.New(v.Type().Elem()))
			d.refuse(at, pattern, "")
			d.table(n, at, pattern, v.Elem())
		}
	case reflect.Slice:
		if n == nil {
			return
		}
		if !n.tablesOnly() {
			d.l.fault(at, "is %s%s; must be an array of tables: write [[%s]], or %s = [ { … } ]", n.kind(), n.got(), pattern, lastKey(pattern))
			return
		}
		if len(n.list) > 0 {
			d.refuse(at, pattern, "")
		}
		for _, e := range n.list {
			p := reflect.New(v.Type().Elem().Elem())
			d.table(e, e.at, pattern, p.Elem())
			v.Set(reflect.Append(v, p))
		}
	}
}

// leafOf is the value of a leaf, if it was written and is of the type.
func leafOf[T any](d *decoder, n *node, f *field, want string) (T, bool) {
	if n == nil {
		var zero T
		return zero, false
	}
	if v, ok := n.leaf.(T); ok {
		return v, true
	}
	d.wrongType(n, f, want)
	var zero T
	return zero, false
}

func (d *decoder) wrongType(n *node, f *field, want string) {
	eg := f.eg
	if strings.HasPrefix(want, "a string") {
		eg = quote(eg)
	}
	if strings.HasPrefix(want, "an array") {
		eg = "[ " + quote(eg) + " ]"
	}
	got := n.got()
	if f.secret {
		got = ""
	}
	d.l.fault(n.at, "is %s%s; must be %s, for example %s = %s", n.kind(), got, want, f.key, eg)
	n.at.unset = true // its default stands in, about which nothing needs to be said
}

func (d *decoder) list(n *node, at *place, f *field, pattern string, v *list) {
	v.At = at
	for i := range v.V {
		v.V[i].At = at
	}
	if n == nil {
		return
	}
	nodes := n.list
	if f.one {
		if _, ok := n.leaf.(string); ok {
			nodes = []*node{n}
		}
	}
	if nodes == nil {
		want := "an array of strings"
		if f.one {
			want = "a string, or an array of them"
		}
		d.wrongType(n, f, want)
		return
	}
	out := make([]str, 0, len(nodes))
	for _, e := range nodes {
		s, ok := e.leaf.(string)
		if !ok {
			d.l.fault(e.at, "is %s%s; must be a string, for example %s", e.kind(), e.got(), quote(f.eg))
			continue
		}
		if e != n {
			d.note(e.at)
		}
		out = append(out, str{At: e.at, V: s})
	}
	if !slices.EqualFunc(out, v.V, func(a, b str) bool { return a.V == b.V }) {
		d.refuse(at, pattern, "")
		for _, s := range out {
			d.refuse(s.At, pattern, s.V)
		}
	}
	v.V = out
}

// refuse faults a key that was set, or set to this value, if notYet has it.
func (d *decoder) refuse(at *place, pattern, value string) {
	if len(notYet) == 0 || !at.written {
		return
	}
	// What a listener's tls table cannot do, its policies cannot either.
	for _, p := range []string{pattern, strings.Replace(pattern, "listener.tls.policy.", "listener.tls.", 1)} {
		if words, ok := notYet[p]; ok {
			d.l.fault(at, "%s; leave it out", words)
			return
		}
		if words, ok := notYet[p+"="+value]; ok {
			d.l.fault(at, "%s (got %q); use another value", words, value)
			return
		}
	}
}

// unknown faults the keys of a table that no field has.
func (d *decoder) unknown(n *node, fields []field) {
	for _, key := range n.sorted() {
		if slices.ContainsFunc(fields, func(f field) bool { return f.key == key }) {
			continue
		}
		names := make([]string, len(fields))
		for i, f := range fields {
			names[i] = f.key
		}
		if near := nearest(key, names); near != "" {
			d.l.fault(n.keys[key].at, "is not a known key; did you mean %s?", near)
			continue
		}
		d.l.fault(n.keys[key].at, "is not a known key; known here: %s", strings.Join(names, ", "))
	}
}

func lastKey(pattern string) string { return pattern[strings.LastIndexByte(pattern, '.')+1:] }

// nearest is the name that key probably was meant to be, "" if none is near.
func nearest(key string, names []string) string {
	best, limit := "", 1+len(key)/4
	for _, name := range names {
		if d := distance(strings.ToLower(key), name, limit); d <= limit {
			best, limit = name, d-1
		}
	}
	return best
}

// distance is the number of letters to insert, delete, change or swap with their neighbour to make b of a; what is above limit need not be exact.
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

// quote is s as a TOML basic string.
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
