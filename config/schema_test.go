package config

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

type object = map[string]any

// TestSchema validates every file that Load takes.
func TestSchema(t *testing.T) {
	schema := theSchema(t)
	for _, pattern := range []string{"testdata/*.good.toml", "../examples/*.toml", "../packaging/*.toml", "reference.toml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no file %s: %v", pattern, err)
		}
		for _, file := range files {
			if problems := validateText(t, schema, readText(t, file)); len(problems) > 0 {
				t.Errorf("%s: %s", file, strings.Join(problems, "\n"))
			}
		}
	}
}

// TestSchemaRejects validates files that Load does not take, for a reason that a schema can know.
func TestSchemaRejects(t *testing.T) {
	schema := theSchema(t)
	for file, keys := range map[string]string{
		"unknown.bad.toml": "logs limit listner log.levle listener.adress listener.tls.certificate route.match.hosts backend.servers.adress backend.servers.frobnicate backend.servers",
		"types.bad.toml": "include log limits.header_bytes limits.header_fields limits.header_time limits.idle_time limits.connections mptcp.enabled mptcp.paths mptcp.limits " +
			"listener route.name route.match route.backend backend.servers.address backend.servers.weight backend.tls backend.servers backend.tls.san",
		"values.bad.toml": "log.level log.format limits.header_bytes limits.header_fields limits.header_time limits.min_rate limits.connections limits.connections_per_client " +
			"mptcp.manage mptcp.failover mptcp.limits.subflows mptcp.limits.add_addr_accepted mptcp.paths.port mptcp.paths.name",
	} {
		var got []string
		for _, problem := range validateText(t, schema, readText(t, "testdata/"+file)) {
			key, _, _ := strings.Cut(problem, ":")
			got = append(got, key)
		}
		for key := range strings.FieldsSeq(keys) {
			if !slices.Contains(got, key) {
				t.Errorf("%s: %s is not rejected, only %q", file, key, got)
			}
		}
	}
}

// TestSchemaClosed looks into every table: an unknown key is rejected, every key has a description,
// and the default of a key is a value that it takes.
func TestSchemaClosed(t *testing.T) {
	count := 0
	var walk func(path string, s object)
	walk = func(path string, s object) {
		properties, ok := s["properties"].(object)
		if !ok {
			if items, ok := s["items"].(object); ok {
				walk(path, items)
			}
			return
		}
		if len(validate(s, object{"no_such_key": int64(1)}, "")) == 0 {
			t.Errorf("%s takes a key that does not exist", path)
		}
		for name, p := range properties {
			count++
			p := p.(object)
			if p["description"] == "" || p["description"] == nil {
				t.Errorf("%s.%s has no description", path, name)
			}
			if def, ok := p["default"]; ok {
				if n, ok := def.(float64); ok {
					def = int64(n)
				}
				if problems := validate(p, def, name); len(problems) > 0 {
					t.Errorf("%s: the default of %v", path, problems)
				}
			}
			walk(path+"."+name, p)
		}
	}
	walk("", theSchema(t))
	declared := 0
	eachKey(func(string, *key) { declared++ })
	if count < declared {
		t.Errorf("the schema has %d keys, the declarations %d", count, declared)
	}
}

func theSchema(t testing.TB) object {
	t.Helper()
	var s object
	if err := json.Unmarshal(Schema(), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func validateText(t testing.TB, schema object, text string) []string {
	t.Helper()
	tree := object{}
	if _, err := toml.Decode(text, &tree); err != nil {
		t.Fatal(err)
	}
	return validate(schema, tree, "")
}

// validate is a validator of the part of JSON Schema that Schema uses. It gives the problems, each
// with its key.
func validate(s object, v any, key string) []string {
	var problems []string
	bad := func(format string, args ...any) {
		problems = append(problems, key+": "+fmt.Sprintf(format, args...))
	}
	for word, arg := range s {
		switch word {
		case "$schema", "title", "description", "default":
		case "allOf":
			for _, all := range arg.([]any) {
				problems = append(problems, validate(all.(object), v, key)...)
			}
		case "propertyNames":
			table, _ := v.(object)
			for name := range table {
				problems = append(problems, validate(arg.(object), name, key+"."+name)...)
			}
		case "type":
			if !isType(v, arg.(string)) {
				bad("is %T, not %s", v, arg)
			}
		case "enum":
			value := v
			if n, ok := v.(int64); ok {
				value = float64(n)
			}
			if !slices.Contains(arg.([]any), value) {
				bad("%v is none of %v", v, arg)
			}
		case "pattern":
			if text, ok := v.(string); ok && !regexp.MustCompile(arg.(string)).MatchString(text) {
				bad("%q does not match %s", text, arg)
			}
		case "minimum":
			if n, ok := v.(int64); ok && n < int64(arg.(float64)) {
				bad("%d is below %v", n, arg)
			}
		case "maximum":
			if n, ok := v.(int64); ok && n > int64(arg.(float64)) {
				bad("%d is above %v", n, arg)
			}
		case "anyOf":
			if !slices.ContainsFunc(arg.([]any), func(alt any) bool { return len(validate(alt.(object), v, key)) == 0 }) {
				bad("%v fits nothing of %v", v, arg)
			}
		case "items":
			for _, item := range items(v) {
				problems = append(problems, validate(arg.(object), item, key)...)
			}
		case "properties", "additionalProperties":
		case "required":
			table, ok := v.(object)
			for _, name := range arg.([]any) {
				if _, has := table[name.(string)]; ok && !has {
					problems = append(problems, strings.TrimPrefix(key+"."+name.(string), ".")+": is missing")
				}
			}
		default:
			bad("the schema has a word that this validator does not know: %s", word)
		}
	}
	if table, ok := v.(object); ok {
		properties, _ := s["properties"].(object)
		for name, value := range table {
			sub := strings.TrimPrefix(key+"."+name, ".")
			if p, ok := properties[name]; ok {
				problems = append(problems, validate(p.(object), value, sub)...)
			} else if s["additionalProperties"] == false {
				problems = append(problems, sub+": is not a known key")
			} else if all, ok := s["additionalProperties"].(object); ok {
				problems = append(problems, validate(all, value, sub)...)
			}
		}
	}
	return problems
}

func isType(v any, name string) bool {
	switch v.(type) {
	case object:
		return name == "object"
	case string:
		return name == "string"
	case bool:
		return name == "boolean"
	case int64:
		return name == "integer"
	}
	return name == "array" && reflect.ValueOf(v).Kind() == reflect.Slice
}

// items are those of an array, of tables or of anything.
func items(v any) []any {
	switch v := v.(type) {
	case []any:
		return v
	case []object:
		out := make([]any, len(v))
		for i := range v {
			out[i] = v[i]
		}
		return out
	}
	return nil
}
