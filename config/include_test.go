package config

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"mpgate/telemetry"
)

func TestInclude(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"globs and names", map[string]string{
			"main.toml": `include = ["conf.d/*.toml", "none/*.toml", "more.toml", "conf.d/b.toml"]` + rest + "[log]\nlevel = \"debug\"\n",
			"conf.d/a.toml": `[log]
format = "text"
[[backend]]
name = "a"
servers = [{ address = "unix:a.sock" }]
[[route]]
name = "a"
backend = "a"
match.path = "/a"`,
			"conf.d/b.toml": "shutdown.drain = \"1s\"\n", "conf.d/.b.toml": "nonsense", "more.toml": "",
		}, ""},
		{"a name that does not exist", map[string]string{"main.toml": `include = ["x.toml"]` + rest},
			`main.toml:1: include[0]: names a file that cannot be read (got "x.toml"): no such file or directory; a pattern such as "conf.d/*.toml" may match nothing`},
		{"no pattern", map[string]string{"main.toml": `include = ["[x"]` + rest},
			`main.toml:1: include[0]: is not a pattern (got "[x"): syntax error in pattern; write for example "conf.d/*.toml"`},
		{"itself", map[string]string{"main.toml": `include = ["main.toml"]` + rest},
			`main.toml:1: include[0]: is the file that includes (got "main.toml"); name other files`},
		{"itself by a pattern", map[string]string{"main.toml": `include = ["*.toml"]` + rest}, ""},
		{"nested", map[string]string{"main.toml": `include = ["a.toml"]` + rest, "a.toml": "\ninclude = [\"b.toml\"]"},
			`a.toml:2: include: is only for the main file (main.toml); include these files there`},
		{"a key twice", map[string]string{"main.toml": `include = ["a.toml"]` + rest + "[log]\nlevel = \"info\"\n", "a.toml": "log.level = \"info\""},
			`a.toml:1: log.level: is set twice, here and at main.toml:12; keep one of them`},
		{"a table of two kinds", map[string]string{"main.toml": `include = ["a.toml"]` + rest, "a.toml": "[listener]\nname = \"x\""},
			`a.toml:1: listener: is set twice, here and at main.toml:2; keep one of them`},
		{"a name twice", map[string]string{"main.toml": `include = ["a.toml"]` + rest,
			"a.toml": "[[backend]]\nname = \"app\"\nservers = [{ address = \"127.0.0.1:1\" }]\n"},
			`a.toml:2: backend.app.name: is the second backend named "app" (the first: main.toml:9); give one of them another name`},
		{"a tie over two files", map[string]string{"main.toml": `include = ["a.toml"]` + rest, "a.toml": "[[route]]\nname = \"b\"\nbackend = \"app\"\n"},
			`a.toml:1: route.b.match: is the same as that of the route "all" (main.toml:5): neither is more specific; change one of them`},
		{"a fault in each", map[string]string{"main.toml": `include = ["*.toml"]` + rest + "[log]\nlevel = 1\n", "a.toml": "x = 1", "b.toml": "= 1"},
			"main.toml:12: log.level: is a number (got 1); must be a string, for example level = \"info\"\n" +
				"a.toml:1: x: is not a known key; known here: include, state_dir, log, admin, shutdown, limits, mptcp, listener, route, backend, filters, defaults\n" +
				"b.toml:1: is not TOML: unexpected '=': key name appears blank"},
		{"a faulty file hides what others refer to", map[string]string{"main.toml": `include = ["*.toml"]` + strings.Replace(rest, `"app"`, `"else"`, 1), "b.toml": "[[backend]]\nname = \"else"},
			"b.toml:2: is not TOML: a string is not closed; add its quote at the end of the value"},
		{"a directory", map[string]string{"main.toml": `include = ["d"]` + rest, "d/x": ""}, "d: cannot be read: is a directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := faults(write(t, tt.files), Options{Lookup: noEnv}); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestIncludeValues(t *testing.T) {
	main := write(t, map[string]string{
		"main.toml":   `include = ["${DIR}/*.toml"]` + rest,
		"sub/b.toml":  "[log]\nformat = \"text\"\n",
		"sub/a.toml":  "[[backend]]\nname = \"a\"\nservers = [{ address = \"unix:a.sock\" }]\n[[route]]\nname = \"a\"\nbackend = \"a\"\nmatch.path = \"/a\"\n",
		"sub/c.other": "nonsense",
	})
	c, err := Load(main, Options{Lookup: env(map[string]string{"DIR": "sub"})})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(main)
	if want := []string{main, dir + "/sub/a.toml", dir + "/sub/b.toml"}; !reflect.DeepEqual(c.Files, want) {
		t.Errorf("files %v, want %v", c.Files, want)
	}
	if c.Log.Format != telemetry.FormatText || len(c.Backends) != 2 || c.Backends[1].Servers[0].Address.Path != dir+"/sub/a.sock" {
		t.Errorf("%+v", c)
	}
	for _, tt := range []struct {
		path string
		file string
		line int
	}{
		{"backend.a.servers[0].address", "sub/a.toml", 3},
		{"backend[1].servers[0].address", "sub/a.toml", 3},
		{"backend[1].servers[0].weight", "sub/a.toml", 3},
		{"backend.a.mptcp", "sub/a.toml", 1},
		{"route.a.match.path", "sub/a.toml", 7},
		{"route.a", "sub/a.toml", 4},
		{"listener.web", "main.toml", 2},
		{"listener[0].address", "main.toml", 4},
		{"log.format", "sub/b.toml", 2},
		{"log.level", "sub/b.toml", 1},
		{"limits.header_time", "main.toml", 1},
		{"listener[7].x", "main.toml", 2},
		{"no.such[key", "main.toml", 1},
		{"", "main.toml", 1},
	} {
		if file, line := c.Position(tt.path); file != filepath.Join(dir, tt.file) || line != tt.line {
			t.Errorf("Position(%q) = %s:%d, want %s:%d", tt.path, file, line, tt.file, tt.line)
		}
	}
}

func TestMissingFile(t *testing.T) {
	main := filepath.Join(t.TempDir(), "main.toml")
	if got, want := faults(main, Options{}), "main.toml: cannot be read: no such file or directory"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestTwiceInOneFile(t *testing.T) {
	main := write(t, map[string]string{"main.toml": "[log]\nlevel = \"info\"\n[admin]\n[log]\n"})
	if got, want := faults(main, Options{}), "main.toml:4: is not TOML: Key 'log' has already been defined, at line 1; keep one of them"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
