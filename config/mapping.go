package config

import (
	"reflect"
	"slices"
	"strings"
)

// Maps are tables whose keys the operator chooses, such as header fields or backends with weights.
// The type of the map's keys has a codec, and its values are decoded like those of any other key.

// declareMap declares the names and the values of a map. Its example is "name = value".
func (k *key) declareMap(f reflect.StructField, tag []string) {
	t := f.Type
	f.Type = t.Elem()
	elem := newKey(f, tag, reflect.Value{})
	k.one = elem.one && elem.codec != nil && elem.codec.form == "integer"
	elem.one = elem.one && !k.one
	_, elem.eg, _ = strings.Cut(k.eg, " = ")
	k.elem, k.names = &elem, codecOf(t.Key(), reflect.StructTag(`as:"`+f.Tag.Get("names")+`"`), true)
}

// mapping decodes a map. Entries with faults are left out.
func (l *loader) mapping(n *node, k *key, v reflect.Value) {
	if k.one && n.leaf == "" {
		return
	}
	if !n.isTable() {
		want, eg := k.mapForms()
		l.wrongType(n, k, v, want, eg)
		return
	}
	if len(n.keys) == 0 {
		return
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), len(n.keys)))
	first := make(map[string]*node, len(n.keys))
	for _, written := range n.sorted() {
		child, name := n.keys[written], reflect.New(v.Type().Key()).Elem()
		child.at.secret = k.secret
		problem := "has an empty name"
		if written != "" {
			problem = k.names.set(name, written, child.at.dir)
		}
		if problem != "" {
			l.fault(child.at, "%s", withGot(problem, " (got "+quote(written)+")"))
			continue
		}
		same := k.names.text(name)
		if k.names.fold {
			same = strings.ToLower(same)
		}
		if twin := first[same]; twin != nil {
			l.twice(child.at, twin.at)
			continue
		}
		first[same] = child
		elem, value := *k.elem, reflect.New(v.Type().Elem()).Elem()
		elem.name = joinKey("", written)
		l.key(child, &elem, value)
		v.SetMapIndex(name, value)
	}
}

// mapForms says how a map may be written, with an example.
func (k *key) mapForms() (want, eg string) {
	name, value, _ := strings.Cut(k.eg, " = ")
	switch {
	case k.one:
		return "a string or a table", quote(name)
	case k.elem.codec == nil || k.elem.codec.form == "string":
		value = quote(value)
	}
	return "a table", "{ " + joinKey("", name) + " = " + value + " }"
}

// mapping is a map as an inline table, sorted by name.
func (e *encoder) mapping(k *key, v reflect.Value) string {
	parts := make([]string, 0, v.Len())
	for iter := v.MapRange(); iter.Next(); {
		name, value := k.names.text(iter.Key()), iter.Value()
		if k.one && v.Len() == 1 && value.Int() == 1 {
			return quote(escape(name))
		}
		text, _ := e.value(k.elem, "", value, false)
		if k.elem.list && k.elem.one && value.Len() == 1 {
			text = k.elem.single(value.Index(0))
		}
		parts = append(parts, joinKey("", name)+" = "+text)
	}
	slices.Sort(parts)
	return braces(parts)
}

func (k *key) mapSchema() map[string]any {
	s := map[string]any{"type": "object", "additionalProperties": k.elem.schema()}
	if k.names.pattern != "" {
		s["propertyNames"] = map[string]any{"pattern": k.names.pattern}
	}
	if k.one {
		return anyOf(k.names.schema(), s)
	}
	return s
}
