package config

import (
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
)

// hidden is printed instead of a secret.
const hidden = "(hidden)"

// Encode writes the configuration as TOML, with every default, paths absolute and secrets hidden.
// Except for the secrets it can be loaded again and says the same.
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
		if k := &ks[i]; k.inline || k.codec != nil {
			if text, ok := e.value(k, v, false); ok {
				fmt.Fprintf(&e.b, "%s = %s\n", k.name, text)
			}
		}
	}
	for i := range ks {
		k := &ks[i]
		if k.inline || k.codec != nil {
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

// value is a value or an inline table as text; ok is false for what is not there. In an inline
// table (short) what is empty is left out.
func (e *encoder) value(k *key, table reflect.Value, short bool) (text string, ok bool) {
	v := k.in(table)
	switch {
	case k.codec != nil && k.list:
		items := k.strings(table)
		for i, s := range items {
			items[i] = quote(escape(s))
		}
		return "[" + strings.Join(items, ", ") + "]", k.name != "include" && (len(items) > 0 || !short)
	case k.codec != nil:
		s := k.single(table)
		return s, s != `""` || !short
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
		if text, ok := e.value(&ks[i], table, true); ok {
			parts = append(parts, ks[i].name+" = "+text)
		}
	}
	if len(parts) == 0 {
		return "{}"
	}
	return "{ " + strings.Join(parts, ", ") + " }"
}

// single is a value that is not a list, as TOML.
func (k *key) single(table reflect.Value) string {
	v := k.in(table)
	switch {
	case k.codec.form == "boolean":
		return strconv.FormatBool(v.Bool())
	case k.codec.form == "integer" && v.CanUint():
		return strconv.FormatUint(v.Uint(), 10)
	case k.codec.form == "integer":
		return strconv.FormatInt(v.Int(), 10)
	}
	s := k.strings(table)[0]
	if k.secret && s != "" {
		s = hidden
	}
	return quote(escape(s))
}

// strings are what a string or a list of them says in the file.
func (k *key) strings(table reflect.Value) []string {
	var out []string
	if v := k.in(table); !k.list {
		out = append(out, k.codec.text(v))
	} else {
		for i := range v.Len() {
			out = append(out, k.codec.text(v.Index(i)))
		}
	}
	switch t := table.Addr().Interface().(type) { // where two fields are one key
	case *Admin:
		if t.Off {
			out[0] = "off"
		}
	case *Listener:
		if k.name == "trusted_proxies" && t.TrustUnix {
			out = append(out, trustedUnix)
		}
	}
	return out
}
