package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// TestReference holds reference.toml to the decoder: it loads, every key that is known stands in it, and every value that is not marked as an
// example is the default.
func TestReference(t *testing.T) {
	file := filepath.Join(t.TempDir(), "reference.toml")
	if err := os.WriteFile(file, []byte(Reference), 0o644); err != nil {
		t.Fatal(err)
	}
	l := newLoader(Options{Lookup: noEnv})
	l.user.uid = 0
	root := l.files(file)
	raw := &rawConfig{}
	(&decoder{l: l}).root(root, raw)
	l.user = user{uid: 0, lookup: noEnv}
	if _, faults := l.finish(root); Errors(faults).errors() != nil {
		t.Fatal(Errors(faults))
	}

	defaults := &rawConfig{}
	emptyLoader := newLoader(Options{Lookup: noEnv})
	(&decoder{l: emptyLoader}).root(&node{at: emptyLoader.place("", 0), keys: map[string]*node{}}, defaults)
	defaults.Admin.Address.V = user{lookup: noEnv}.adminAddress()
	defaults.StateDir.V = user{lookup: noEnv}.stateDir()

	lines := strings.Split(Reference, "\n")
	seen := map[string]bool{}
	checkTable(t, lines, seen, "", reflect.ValueOf(raw).Elem(), reflect.ValueOf(defaults).Elem())

	for key := range seen { // what a policy has, its listener can have
		seen[strings.Replace(key, "listener.tls.policy.", "listener.tls.", 1)] = true
	}
	for _, key := range knownKeys() {
		if !seen[key] {
			t.Errorf("reference.toml: %s is missing", key)
		}
	}
}

var example = regexp.MustCompile(`# .*\bexample\b`)

// checkTable compares what is written in a table with what would be there without.
func checkTable(t *testing.T, lines []string, seen map[string]bool, pattern string, v, def reflect.Value) {
	t.Helper()
	for _, f := range knownFields[v.Type()] {
		fv, dv := v.FieldByIndex(f.index), def.FieldByIndex(f.index)
		key := joinKey(pattern, f.key)
		if isLeaf(fv.Type()) {
			at := fv.FieldByName("At").Interface().(*place)
			if !at.written {
				continue
			}
			seen[key] = true
			got, want := leafText(fv), leafText(dv)
			if !example.MatchString(lines[at.line-1]) && got != want {
				t.Errorf("reference.toml:%d: %s = %s, but the default is %s; mark it as an example or mend it", at.line, key, got, want)
			}
			continue
		}
		switch fv.Kind() {
		case reflect.Struct:
			if fv.FieldByName("At").Interface().(*place).written {
				seen[key] = true
			}
			checkTable(t, lines, seen, key, fv, dv)
		case reflect.Pointer:
			if !fv.IsNil() {
				seen[key] = true
				checkTable(t, lines, seen, key, fv.Elem(), withDefaults(fv.Type().Elem()))
			}
		case reflect.Slice:
			for i := range fv.Len() {
				seen[key] = true
				e := fv.Index(i).Elem()
				checkTable(t, lines, seen, key, e, withDefaults(e.Type()))
			}
		}
	}
}

func withDefaults(typ reflect.Type) reflect.Value {
	d := &decoder{l: newLoader(Options{Lookup: noEnv})}
	v := reflect.New(typ).Elem()
	d.table(nil, d.l.place("", 0), "", v)
	if r, ok := v.Addr().Interface().(*rawListener); ok {
		r.Protocols = list{V: []str{{V: "h1"}}} // it depends on tls
	}
	return v
}

func leafText(v reflect.Value) string {
	switch leaf := v.Interface().(type) {
	case str:
		return quote(leaf.V)
	case list:
		return fmt.Sprintf("%q", values(leaf))
	default:
		return fmt.Sprint(v.FieldByName("V").Interface())
	}
}

// knownKeys are all keys that the decoder knows, without names and numbers.
func knownKeys() []string {
	var keys []string
	var walk func(pattern string, t reflect.Type)
	walk = func(pattern string, t reflect.Type) {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if isLeaf(t) {
			return
		}
		for _, f := range knownFields[t] {
			key := joinKey(pattern, f.key)
			if strings.HasPrefix(pattern, "listener.tls.policy") && f.key != "hosts" {
				continue // they are the listener's, and stand there
			}
			keys = append(keys, key)
			walk(key, t.FieldByIndex(f.index).Type)
		}
	}
	walk("", reflect.TypeFor[rawConfig]())
	return keys
}

func noEnv(string) (string, bool) { return "", false }
