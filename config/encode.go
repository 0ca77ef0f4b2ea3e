package config

import (
	"fmt"
	"io"
	"reflect"
	"strings"
)

// hidden is printed in place of a secret.
const hidden = "(hidden)"

// Encode writes the configuration as TOML, with all defaults, absolute paths and hidden secrets.
// Apart from the secrets, loading the output gives the same configuration.
func (c *Config) Encode(w io.Writer) error {
	var e encoder
	e.table("", reflect.ValueOf(c).Elem())
	_, err := io.WriteString(w, strings.TrimLeft(e.b.String(), "\n"))
	return err
}

// encoder prints tables.
type encoder struct{ b strings.Builder }

// table prints the values of a table, then the tables in it.
func (e *encoder) table(key string, v reflect.Value) {
	ks := keys[v.Type()]
	for i := range ks {
		if k := &ks[i]; k.oneLine() {
			if text, ok := e.value(k, k.in(v), false); ok {
				fmt.Fprintf(&e.b, "%s = %s\n", k.name, text)
			}
		}
	}
	for i := range ks {
		k := &ks[i]
		if k.oneLine() {
			continue
		}
		sub, field := joinKey(key, k.name), k.in(v)
		switch {
		case field.Kind() == reflect.Slice:
			for i := range field.Len() {
				fmt.Fprintf(&e.b, "\n[[%s]]\n", sub)
				e.table(sub, field.Index(i))
			}
		case field.Kind() == reflect.Struct:
			fmt.Fprintf(&e.b, "\n[%s]\n", sub)
			e.table(sub, field)
		case !field.IsNil():
			fmt.Fprintf(&e.b, "\n[%s]\n", sub)
			e.table(sub, field.Elem())
		}
	}
}

// oneLine reports whether the key is printed on a line of its own, not as a table with a header.
func (k *key) oneLine() bool { return k.table == nil || k.inline }

// value is a value or an inline table as text; ok is false if there is nothing to print. In an
// inline table (short) empty values without a default are left out.
func (e *encoder) value(k *key, v reflect.Value, short bool) (text string, ok bool) {
	switch {
	case k.elem != nil:
		return e.mapping(k, v), v.Len() > 0 || !short
	case k.codec != nil && k.list:
		items := make([]string, v.Len())
		for i := range items {
			items[i] = k.single(v.Index(i))
		}
		return "[" + strings.Join(items, ", ") + "]", k.name != "include" && (len(items) > 0 || !short || k.defText != "")
	case k.codec != nil:
		s := k.single(v)
		return s, s != `""` || !short || k.defText != ""
	case v.Kind() == reflect.Struct:
		return e.inline(v), true
	case v.Kind() == reflect.Pointer:
		if v.IsNil() {
			return "", false
		}
		return e.inline(v.Elem()), true
	case v.Len() == 0:
		return "[]", !short
	}
	var b strings.Builder
	b.WriteString("[\n")
	for i := range v.Len() {
		fmt.Fprintf(&b, "\t%s,\n", e.inline(v.Index(i)))
	}
	b.WriteString("]")
	return b.String(), true
}

func (e *encoder) inline(table reflect.Value) string {
	var parts []string
	ks := keys[table.Type()]
	for i := range ks {
		if text, ok := e.value(&ks[i], ks[i].in(table), true); ok {
			parts = append(parts, ks[i].name+" = "+text)
		}
	}
	return braces(parts)
}

func braces(parts []string) string {
	if len(parts) == 0 {
		return "{}"
	}
	return "{ " + strings.Join(parts, ", ") + " }"
}

// single is a value that is not a list, as TOML.
func (k *key) single(v reflect.Value) string {
	s := k.codec.print(v)
	switch {
	case k.codec.form != "string":
		return s
	case k.secret && s != "":
		s = hidden
	}
	return k.codec.literal(escape(s))
}
