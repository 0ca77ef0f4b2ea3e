package config

import (
	"strings"
	"testing"
)

// TestVariables loads the same file with and without what it refers to.
func TestVariables(t *testing.T) {
	main := write(t, map[string]string{"main.toml": `
[log]
access = "${LOG}/access$${x}.log"
[admin]
address = "${ADMIN:-127.0.0.1:9080}"
[[listener]]
name = "web"
address = ":8080"
[[route]]
name = "all"
backend = "${NAME}"
[[backend]]
name = "${NAME}"
servers = [{ address = "${HOST}:9000" }]
`})
	vars := map[string]string{"LOG": "/var/log", "HOST": "app", "NAME": "b1", "ADMIN": ""}
	c, err := Load(main, Options{Lookup: env(vars)})
	if err != nil {
		t.Fatal(err)
	}
	if c.Log.Access != "/var/log/access${x}.log" || c.Admin.Address.String() != "127.0.0.1:9080" || !c.Admin.Written ||
		c.Routes[0].Backend() != "b1" || c.Backends[0].Servers[0].Address.Host != "app" {
		t.Errorf("%+v", c)
	}
	if _, line := c.Position("backend.b1.servers"); line != 14 {
		t.Errorf("backend.b1.servers is in line %d", line)
	}

	want := []string{
		`main.toml:3: log.access: needs the variable LOG, which is not set (got "${LOG}"); set it, or write ${LOG:-default}`,
		`main.toml:11: route.all.backend: needs the variable NAME, which is not set (got "${NAME}"); set it, or write ${NAME:-default}`,
		`main.toml:13: backend[0].name: needs the variable NAME, which is not set (got "${NAME}"); set it, or write ${NAME:-default}`,
		`main.toml:14: backend[0].servers[0].address: needs the variable HOST, which is not set (got "${HOST}"); set it, or write ${HOST:-default}`,
	}
	c, fs := Check(main, Options{Lookup: noEnv, Check: true})
	if c == nil {
		t.Fatalf("check has errors:\n%v", Errors(fs))
	}
	for _, f := range fs {
		if f.Severity != Warning {
			t.Errorf("%v is an error", f)
		}
	}
	if got := faults(main, Options{Lookup: noEnv, Check: true}); got != strings.Join(want, "\n") {
		t.Errorf("check: got\n%s", got)
	}
	if got := faults(main, Options{Lookup: noEnv}); got != strings.Join(want, "\n") {
		t.Errorf("run: got\n%s", got)
	}
	if _, err := Load(main, Options{Lookup: noEnv}); err == nil {
		t.Error("run takes a file with variables that are not set")
	}
}

func TestExpand(t *testing.T) {
	vars := env(map[string]string{"A": "1", "B": "${A}", "EMPTY": ""})
	for _, tt := range []struct{ in, want, unset, err string }{
		{in: "", want: ""},
		{in: "plain $A $$ $", want: "plain $A $$ $"},
		{in: "${A}", want: "1"},
		{in: "x${A}y${A}z", want: "x1y1z"},
		{in: "${B}", want: "${A}"}, // once
		{in: "$${A}", want: "${A}"},
		{in: "$$${A}", want: "$${A}"},
		{in: "$${", want: "${"},
		{in: "${EMPTY}", want: ""},
		{in: "${EMPTY:-d}", want: "d"},
		{in: "${NO:-}", want: ""},
		{in: "${NO:-a:-b}", want: "a:-b"},
		{in: "a${NO}b${NOT}", want: "ab", unset: "NO NOT"},
		{in: "${A", err: errUnclosed.Error()},
		{in: "${}", err: errVariable.Error()},
		{in: "${1A}", err: errVariable.Error()},
		{in: "${A-b}", err: errVariable.Error()},
		{in: "${NO:-${A}}", err: errNested.Error()},
		{in: "x${NO:-y${A:-z}}", err: errNested.Error()},
		{in: "${NO:-$${A}}", err: errNested.Error()},
	} {
		got, unset, err := expand(tt.in, vars)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if got != tt.want || strings.Join(unset, " ") != tt.unset || text != tt.err {
			t.Errorf("expand(%q) = %q, %v, %v", tt.in, got, unset, err)
		}
		if err == nil && unset == nil {
			if again, _, err := expand(escape(got), vars); err != nil || again != got {
				t.Errorf("expand(escape(%q)) = %q, %v", got, again, err)
			}
		}
	}
}
