package config

import (
	"encoding/json"
	"fmt"
	"reflect"
)

// variable is the pattern of strings that a schema cannot judge: a variable may be in them.
const variable = `\$\{`

// Schema is a JSON Schema (draft 7) of the file format, for editors. What it rejects, Load rejects;
// Load checks more.
func Schema() []byte {
	s := objectSchema(reflect.TypeFor[Config]())
	s["$schema"] = "http://json-schema.org/draft-07/schema#"
	s["title"] = "Configuration of mpgate"
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic(err) // there is nothing in it that JSON does not have
	}
	return append(b, '\n')
}

func objectSchema(table reflect.Type) map[string]any {
	properties, required := map[string]any{}, []string{}
	for i := range keys[table] {
		k := &keys[table][i]
		s := k.schema(table.FieldByIndex(k.index).Type)
		s["description"] = k.help
		properties[k.name] = s
		if k.required != nil {
			required = append(required, k.name)
		}
	}
	out := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

func (k *key) schema(t reflect.Type) map[string]any {
	if k.codec == nil {
		s := objectSchema(tableOf(t))
		if t.Kind() == reflect.Slice {
			s = map[string]any{"type": "array", "items": s}
		}
		return s
	}
	s := k.codec.schema()
	if k.list {
		array := map[string]any{"type": "array", "items": s}
		if s = array; k.one {
			s = map[string]any{"anyOf": []any{k.codec.schema(), array}}
		}
	}
	if k.def.IsValid() {
		s["default"] = k.schemaDefault()
	}
	return s
}

// schemaDefault is the default as it would be written.
func (k *key) schemaDefault() any {
	switch {
	case k.list:
		items := []string{}
		for i := range k.def.Len() {
			items = append(items, k.codec.text(k.def.Index(i)))
		}
		return items
	case k.codec.form == "string":
		return k.defText
	}
	return k.def.Interface()
}

func (c *codec) schema() map[string]any {
	s := map[string]any{"type": c.form}
	switch {
	case c.form == "integer":
		s["minimum"], s["maximum"] = c.min, c.max
	case c.values != nil:
		values := c.values
		if c.empty {
			values = append([]string{""}, values...)
		}
		s["anyOf"] = []any{map[string]any{"enum": values}, map[string]any{"pattern": variable}}
	case c.pattern != "":
		s["pattern"] = fmt.Sprintf("%s|%s", c.pattern, variable)
		if c.empty {
			s["pattern"] = fmt.Sprintf("^$|%s", s["pattern"])
		}
	}
	return s
}
