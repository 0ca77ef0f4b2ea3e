package main

import (
	"regexp"
	"strings"
	"testing"

	"mpgate/internal/lab"
	"mpgate/internal/proxytest"
)

// An interface that is misspelt is a warning at the start, a path that is down in the report and
// the metrics and, if no path is left, the reason why a gateway that manages paths is not ready.
func TestMissingInterfaces(t *testing.T) {
	l := lab.Start(t, lab.Pair(2, lab.Path{}))
	for name, c := range map[string]struct {
		mptcp  string
		health string // what mpgate health says; "": it succeeds
	}{
		"no management": {`paths = [ { name = "lte", interface = "lnik2" } ]`, ""},
		"one of two":    {`manage = "sync"` + "\n" + `paths = [ { name = "dsl", interface = "link1" }, { name = "lte", interface = "lnik2" } ]`, ""},
		"all":           {`manage = "sync"` + "\n" + `paths = [ { name = "lte", interface = "lnik2" }, { interface = "lnik1", optional = true } ]`, `path "lte" is down: there is no interface lnik2`},
		"all optional":  {`manage = "sync"` + "\n" + `paths = [ { name = "lte", interface = "lnik2", optional = true } ]`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			config := strings.Replace(plainConfig("127.0.0.1:1"), "[[listener]]", "[mptcp]\n"+c.mptcp+"\n[[listener]]", 1)
			file := write(t, "mpgate.toml", config)
			p := start(t, within(l.Place("client")), "run", "-c", file)
			p.ready("web")
			warned := regexp.MustCompile(`"msg":"path is down","path":"lte","why":"there is no interface lnik2"`)
			if !proxytest.Within(patience, func() bool { return warned.MatchString(p.text()) }) {
				t.Errorf("no warning at the start:\n%s", p.text())
			}
			asked := func(want string, args ...string) (out string) {
				t.Helper()
				if !proxytest.Within(patience, func() bool { out, _ = command(append(args, "-c", file)...); return strings.Contains(out, want) }) {
					t.Errorf("mpgate %s says\n%s\nwant %s", strings.Join(args, " "), out, want)
				}
				return out
			}
			asked("there is no interface lnik2", "paths")
			out, code := command("health", "-c", file)
			if (code == 0) != (c.health == "") || !strings.Contains(out, c.health) {
				t.Errorf("mpgate health: exit code %d, %s; want %q", code, out, c.health)
			}
		})
	}
}
