package config

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestReference holds reference.toml to the declarations: it loads, every key is in it, every value
// that is not marked as an example is the default, and every value of an enumeration is named.
func TestReference(t *testing.T) {
	file := filepath.Join(t.TempDir(), "reference.toml")
	if err := os.WriteFile(file, []byte(Reference), 0o644); err != nil {
		t.Fatal(err)
	}
	l := newLoader(Options{Lookup: noEnv})
	l.user = user{uid: 0, lookup: noEnv}
	root := l.files(file)
	if _, faults := l.finish(root); Errors(faults).errors() != nil {
		t.Fatal(Errors(faults))
	}

	lines := strings.Split(Reference, "\n")
	seen := map[string]bool{}
	checkReference(t, lines, seen, root, reflect.TypeFor[Config]())
	for key := range seen { // what a policy has, its listener can have
		seen[strings.Replace(key, "listener.tls.policy.", "listener.tls.", 1)] = true
	}
	eachKey(func(pattern string, k *key) {
		if !seen[pattern] {
			t.Errorf("reference.toml: %s is missing", pattern)
		}
		if k.help == "" || strings.ContainsAny(k.help, "\n") || len(k.help) > 100 {
			t.Errorf("%s has no line of help: %q", pattern, k.help)
		}
		if k.codec == nil {
			return
		}
		for _, value := range k.codec.values {
			if !regexp.MustCompile(`(?m)^.*\b` + k.name + `\b.*[ "]` + regexp.QuoteMeta(value) + `\b`).MatchString(Reference) {
				t.Errorf("reference.toml: no line with %s names its value %s", pattern, value)
			}
		}
	})
}

// TestOnly sees that a key which takes some values of an enumeration takes no others.
func TestOnly(t *testing.T) {
	found := 0
	for table := range keys {
		for i := range table.NumField() {
			f := table.Field(i)
			only, ok := f.Tag.Lookup("only")
			if !ok || f.Type.Kind() == reflect.Int {
				continue
			}
			found++
			typ := f.Type
			if typ.Kind() == reflect.Slice {
				typ = typ.Elem()
			}
			all := reflect.Zero(typ).Interface().(interface{ Values() []string }).Values()
			for value := range strings.SplitSeq(only, ",") {
				if !slices.Contains(all, value) {
					t.Errorf("%v.%s takes %q, which %v does not have", table, f.Name, value, typ)
				}
			}
		}
	}
	if found == 0 {
		t.Error("no key takes some values only")
	}
}

var example = regexp.MustCompile(`# .*\bexample\b`)

// checkReference compares what is written in a table with the defaults.
func checkReference(t *testing.T, lines []string, seen map[string]bool, n *node, table reflect.Type) {
	t.Helper()
	for _, k := range keys[table] {
		child := n.keys[k.name]
		if child == nil {
			continue
		}
		pattern := child.at.pattern()
		seen[pattern] = true
		line := int(child.at.line)
		switch {
		case k.table != nil && child.isArray():
			for _, e := range child.list {
				checkReference(t, lines, seen, e, k.table)
			}
		case k.table != nil:
			checkReference(t, lines, seen, child, k.table)
		case k.codec != nil:
			if got, want := leafText(child), defaultText(&k, pattern); !example.MatchString(lines[line-1]) && got != want {
				t.Errorf("reference.toml:%d: %s = %s, but the default is %s; mark it as an example or correct it", line, pattern, got, want)
			}
		}
	}
}

// leafText is a value as it would be a default.
func leafText(n *node) string {
	if n.isArray() {
		items := make([]string, len(n.list))
		for i, e := range n.list {
			items[i] = e.text()
		}
		return "[" + strings.Join(items, ",") + "]"
	}
	return strings.TrimSuffix(strings.TrimPrefix(n.got(), " (got "), ")")
}

// defaultText is a default as leafText would have it.
func defaultText(k *key, pattern string) string {
	u := user{uid: 0, lookup: noEnv}
	switch {
	case pattern == "state_dir":
		return quote(u.stateDir())
	case pattern == "admin.address":
		return quote(u.adminAddress())
	case k.list:
		return "[" + k.defText + "]"
	case k.codec.isBool(k.defText):
		return k.defText
	case k.codec.form == "string":
		return quote(k.defText)
	}
	return k.defText
}

// eachKey calls f for every key, by its name without those of entries. What a policy has and its
// listener too comes once.
func eachKey(f func(pattern string, k *key)) {
	var walk func(pattern string, table reflect.Type)
	walk = func(pattern string, table reflect.Type) {
		for _, k := range keys[table] {
			switch {
			case pattern == "listener.tls.policy" && k.name != "hosts", pattern == "filters" && k.name != "name",
				pattern == "defaults.route", pattern == "defaults.backend":
				continue // as in a listener, a route or a backend
			}
			f(joinKey(pattern, k.name), &k)
			if k.table != nil {
				walk(joinKey(pattern, k.name), k.table)
			}
		}
	}
	walk("", reflect.TypeFor[Config]())
}

func noEnv(string) (string, bool) { return "", false }
