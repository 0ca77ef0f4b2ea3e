package config

import (
	"encoding/json"
	"fmt"
	"reflect"
)

// variable is the pattern of strings that a schema cannot check, because a variable may be in them.
const variable = `\$\{`

// Schema returns a JSON Schema (draft 7) of the file format, for editors. Load rejects everything
// that the schema rejects, and more.
func Schema() []byte {
	s := objectSchema(reflect.TypeFor[Config]())
	s["$schema"] = "http://json-schema.org/draft-07/schema#"
	s["title"] = "Configuration of mpgate"
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic(err) // all types in it are those of JSON
	}
	return append(b, '\n')
}

func objectSchema(table reflect.Type) map[string]any {
	properties, required, groups := map[string]any{}, []string{}, map[string][]any{}
	for i := range keys[table] {
		k := &keys[table][i]
		s := k.schema()
		s["description"] = k.help
		properties[k.name] = s
		if k.unless != "" {
			for _, name := range []string{k.name, k.unless} {
				groups[k.unless] = append(groups[k.unless], map[string]any{"required": []string{name}})
			}
		} else if k.required != nil {
			required = append(required, k.name)
		}
		if k.group != "" {
			groups[k.group] = append(groups[k.group], map[string]any{"required": []string{k.name}})
		}
	}
	out := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		out["required"] = required
	}
	var all []any
	for _, group := range groups { // not oneOf: a key with an empty value counts as missing
		all = append(all, anyOf(group...))
	}
	if all != nil {
		out["allOf"] = all
	}
	return out
}

func anyOf(alternatives ...any) map[string]any { return map[string]any{"anyOf": alternatives} }

func (k *key) schema() map[string]any {
	s := k.schemaOfOne()
	switch {
	case k.list && k.one:
		s = anyOf(s, map[string]any{"type": "array", "items": k.schemaOfOne()})
	case k.list:
		s = map[string]any{"type": "array", "items": s}
	case k.toggle:
		s = anyOf(map[string]any{"type": "boolean"}, s)
	case k.table != nil && k.short != "":
		s = anyOf(map[string]any{"type": "string"}, s)
	}
	if k.def.IsValid() {
		s["default"] = k.schemaDefault()
	}
	return s
}

// schemaOfOne describes the value, or each element of a list.
func (k *key) schemaOfOne() map[string]any {
	switch {
	case k.elem != nil:
		return k.mapSchema()
	case k.table != nil:
		return objectSchema(k.table)
	}
	return k.codec.schema()
}

// schemaDefault returns the default as it would be written.
func (k *key) schemaDefault() any {
	switch {
	case k.list:
		items := []string{}
		for i := range k.def.Len() {
			items = append(items, k.codec.text(k.def.Index(i)))
		}
		return items
	case k.codec.isBool(k.defText):
		return k.defText == "true"
	case k.codec.form == "string":
		return k.defText
	}
	return k.def.Interface()
}

func (c *codec) schema() map[string]any {
	s := map[string]any{"type": c.form}
	switch {
	case c.only != nil:
		s["enum"] = c.only
	case c.form == "integer":
		s["minimum"], s["maximum"] = c.min, c.max
	case c.values != nil:
		return c.enumSchema()
	case c.pattern != "":
		s["pattern"] = fmt.Sprintf("%s|%s", c.pattern, variable)
		if c.empty {
			s["pattern"] = fmt.Sprintf("^$|%s", s["pattern"])
		}
	}
	return s
}

// enumSchema describes the values of an enumeration. Values that are written as booleans may also
// be strings, because of variables.
func (c *codec) enumSchema() map[string]any {
	values := []any{}
	if c.empty {
		values = append(values, "")
	}
	for _, s := range c.values {
		values = append(values, s)
		if c.isBool(s) {
			values = append(values, s == "true")
		}
	}
	return anyOf(map[string]any{"enum": values}, map[string]any{"type": "string", "pattern": variable})
}
