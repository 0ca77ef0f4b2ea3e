package config

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"mpgate/proxy/template"
)

// Of several layers the last replaces keys, and header tables are merged field by field.
func TestSets(t *testing.T) {
	c := mustLoad(t, "testdata/sets.good.toml")
	a, b, passed := &c.Routes[0], &c.Routes[1], &c.Routes[2]
	fields := func(r *Route) string { return headerText(r.ResponseHeaders) }
	for _, tt := range []struct{ name, got, want string }{
		{"headers of a", fields(a), "Server= X-Own=3 X-Set=2 x-frame-options=SAMEORIGIN"},
		{"headers of b", fields(b), "Referrer-Policy=no-referrer Server= X-Frame-Options=DENY"},
		{"headers of passed", fields(passed), ""},
		{"allow of a", fmt.Sprint(a.Allow), "[10.0.0.0/8]"},
		{"deny of a", fmt.Sprint(a.Deny), "[192.0.2.1/32]"},
		{"allow of b", fmt.Sprint(b.Allow), "[]"},
		{"encoded_slash", string(a.EncodedSlash + b.EncodedSlash), "keepreject"},
		{"connect_timeout", c.Backends[0].ConnectTimeout.String(), "3s"},
		{"what is left", fmt.Sprint(c.Filters, a.Use, b.Use, c.Defaults.Route.Deny), "[] [] [] []"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, tt.got, tt.want)
		}
	}
	for path, line := range map[string]int{
		"route.a.allow":                            20,
		"route.a.response_headers":                 31,
		"route.a.response_headers.X-Own":           31,
		"route.a.response_headers.X-Set":           21,
		"route.a.response_headers.x-frame-options": 16,
		"route.a.response_headers.Server":          6,
		"route.a.deny":                             6,
		"route.b.response_headers.Referrer-Policy": 11,
		"route.b.encoded_slash":                    36,
		"route.passed.allow":                       39,
		"backend.app.connect_timeout":              46,
		"backend.app.balance":                      7,
		"route.a.response_headers.nothing":         31,
	} {
		if _, got := c.Position(path); got != line {
			t.Errorf("the position of %s is line %d, want %d", path, got, line)
		}
	}
}

func headerText(fields map[string][]template.Template) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		for _, value := range fields[name] {
			list = append(list, name+"="+value.String())
		}
	}
	return strings.Join(list, " ")
}

// The output of EncodeWhy is that of Encode with a comment at each value.
func TestEncodeWhy(t *testing.T) {
	c := mustLoad(t, "testdata/sets.good.toml")
	var plain, why bytes.Buffer
	if err := c.Encode(&plain); err != nil {
		t.Fatal(err)
	}
	if err := c.EncodeWhy(&why); err != nil {
		t.Fatal(err)
	}
	var without []string
	for line := range strings.SplitSeq(why.String(), "\n") {
		text, comment, found := strings.Cut(line, " # ")
		if !found && strings.Contains(line, " = ") || found && comment == "" {
			t.Errorf("no comment: %s", line)
		}
		without = append(without, text)
	}
	if got := strings.Join(without, "\n"); got != plain.String() {
		t.Errorf("got\n%s\nwant\n%s", got, &plain)
	}
	for _, line := range []string{
		`level = "info" # default`,
		`allow = ["10.0.0.0/8"] # testdata/sets.good.toml:20 (filters.strict.allow)`,
		`encoded_slash = "reject" # testdata/sets.good.toml:36`,
		`encoded_slash = "keep" # testdata/sets.good.toml:6 (defaults.route.encoded_slash)`,
		`connect_timeout = "3s" # testdata/sets.good.toml:46`,
		`Server: testdata/sets.good.toml:6 (defaults.route.response_headers.Server)`,
	} {
		if !strings.Contains(why.String(), line) {
			t.Errorf("%s is missing in\n%s", line, &why)
		}
	}
}

// Many expressions that cannot be told apart by their beginnings are slow; check measures that.
func TestSlowExpressions(t *testing.T) {
	for expression, slow := range map[string]bool{"[a-z]+[0-9]+x%d?[^/]$": true, "^/x%d/[0-9]+$": false} {
		var b strings.Builder
		b.WriteString("[[listener]]\nname = \"web\"\naddress = \":80\"\n[[backend]]\nname = \"app\"\nservers = [ { address = \"127.0.0.1:1\" } ]\n")
		for i := range 1000 {
			fmt.Fprintf(&b, "[[route]]\nname = \"r%d\"\nbackend = \"app\"\nmatch.path_regex = '%s'\n", i, fmt.Sprintf(expression, i))
		}
		file := write(t, map[string]string{"main.toml": b.String()})
		_, faults := Check(file, Options{Lookup: noEnv, Check: true})
		got := Errors(faults).Error()
		if strings.Contains(got, "is the first of 1000 expressions for the same hosts") != slow {
			t.Errorf("%s: %s", expression, got)
		}
		if _, faults := Check(file, Options{Lookup: noEnv}); len(faults) > 0 {
			t.Errorf("run measures: %v", faults)
		}
	}
}
