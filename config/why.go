package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// line prints a value and its comment. The comment of an array of several lines stands at its
// first.
func (e *encoder) line(text, comment string) {
	first, rest, more := strings.Cut(text, "\n")
	e.b.WriteString(withComment(first, comment) + "\n")
	if more {
		e.b.WriteString(rest + "\n")
	}
}

func withComment(text, comment string) string {
	if comment == "" {
		return text
	}
	return text + " # " + comment
}

// comment says where the value of a key is written.
func (e *encoder) comment(k *key, path string, v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	switch {
	case e.why == nil:
		return ""
	case k.elem != nil:
		var names []string
		for _, name := range v.MapKeys() {
			names = append(names, k.names.text(name))
		}
		slices.Sort(names)
		return e.places(path, names)
	case k.table != nil && v.Kind() == reflect.Struct:
		return e.tableComment(path, v)
	}
	return e.places(path, nil)
}

// tableComment says where the values of an inline table are written.
func (e *encoder) tableComment(path string, v reflect.Value) string {
	if e.why == nil {
		return ""
	}
	var names []string
	for _, k := range keys[v.Type()] {
		names = append(names, k.name)
	}
	return e.places(path, names)
}

// places says where a value is written, and those of its keys that are written elsewhere.
func (e *encoder) places(path string, names []string) string {
	var list []string
	own := e.why.find(path)
	if own != nil {
		list = append(list, placeText(own, path))
	}
	for _, name := range names {
		path := joinKey(path, name)
		if at := e.why.find(path); at != nil && (own == nil || at.file != own.file || at.line != own.line) {
			list = append(list, name+": "+placeText(at, path))
		}
	}
	if list == nil {
		return "default"
	}
	return strings.Join(list, ", ")
}

// placeText is "file:line", with the key if that is not path.
func placeText(at *place, path string) string {
	text := fmt.Sprintf("%s:%d", at.file, at.line)
	if key := at.key(); key != path {
		text += " (" + key + ")"
	}
	return text
}
