// Package archtest tests rules of the design that apply to the whole source tree. The table of the
// imports that each package may have is in ARCHITECTURE.md, and cmd/mpgate tests it. The rules here
// must hold whatever that table says.
package archtest

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const (
	root   = "../.."
	module = "mpgate"
)

// file is a Go file of the module, by its path from the root.
type file struct {
	name    string
	fset    *token.FileSet
	source  []byte
	syntax  *ast.File
	imports []string
}

func (f *file) dir() string  { return path.Dir(f.name) }
func (f *file) isTest() bool { return strings.HasSuffix(f.name, "_test.go") }

// under says whether a package, by its path from the root, is dir or below it.
func under(pkg, dir string) bool { return pkg == dir || strings.HasPrefix(pkg, dir+"/") }

// load gives all Go files: those of the modules in tools too, which must be formatted as well. They
// are read once.
func load(t *testing.T) []*file {
	t.Helper()
	all, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 100 {
		t.Fatalf("found %d Go files; is %s the root of the module?", len(all), root)
	}
	return all
}

var parsed = sync.OnceValues(func() (all []*file, err error) {
	fset := token.NewFileSet()
	err = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base := d.Name(); d.IsDir() && name != root && (base == "testdata" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")) {
			return fs.SkipDir
		}
		if d.IsDir() || filepath.Ext(name) != ".go" {
			return nil
		}
		f, err := parse(fset, name)
		all = append(all, f)
		return err
	})
	return all, err
})

func parse(fset *token.FileSet, name string) (*file, error) {
	f := &file{fset: fset}
	var err error
	if f.source, err = os.ReadFile(name); err != nil {
		return nil, err
	}
	if f.syntax, err = parser.ParseFile(fset, name, f.source, parser.ParseComments|parser.SkipObjectResolution); err != nil {
		return nil, err
	}
	rel, err := filepath.Rel(root, name)
	f.name = filepath.ToSlash(rel)
	for _, i := range f.syntax.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return nil, err
		}
		f.imports = append(f.imports, p)
	}
	return f, err
}

func TestFormatted(t *testing.T) {
	for _, f := range load(t) {
		want, err := format.Source(f.source)
		if err != nil {
			t.Errorf("%s: %v", f.name, err)
		} else if !bytes.Equal(f.source, want) {
			t.Errorf("%s is not formatted; run gofmt -w", f.name)
		}
	}
}

// arrows are who may import whom within the data plane and the leaves; what is not named imports
// nothing of ours.
var arrows = map[string][]string{
	"config":              {"mptcp", "mptcp/paths", "proxy/coding", "proxy/files", "proxy/filter", "proxy/filter/limit", "proxy/limits", "proxy/preread", "proxy/resolve", "proxy/route", "proxy/target", "proxy/template", "telemetry"},
	"cmd/mpgate/migrate":  {"config", "internal/nginxconf", "proxy/target"},
	"telemetry":           {"task"},
	"admin":               {"task"},
	"certs":               {"task"},
	"mptcp":               {"task"},
	"task":                {},
	"listener":            {"mptcp", "task"},
	"listener/units":      {},
	"internal/lab":        {"internal/need"},
	"internal/need":       {},
	"internal/nginxconf":  {},
	"proxy/limits":        {},
	"proxy/netio":         {},
	"proxy/message":       {},
	"proxy/preread":       {},
	"proxy/target":        {},
	"proxy/coding":        {"proxy/message"},
	"proxy/template":      {"proxy/message"},
	"proxy/files":         {"proxy/coding", "proxy/message", "task"},
	"proxy/filter":        {"proxy/coding", "proxy/message", "proxy/target", "proxy/template", "telemetry"},
	"proxy/filter/limit":  {"proxy/filter", "proxy/message", "proxy/template", "telemetry"},
	"proxy/filter/mirror": {"proxy/backend", "proxy/filter", "proxy/message", "proxy/template", "task", "telemetry"},
	"proxy/filter/auth":   {"proxy/backend", "proxy/filter", "proxy/message", "proxy/target", "proxy/template", "telemetry"},
	"proxy/route":         {"proxy/message", "proxy/target"},
	"proxy/split":         {},
	"proxy/resolve":       {"task"},
	"proxy/passthrough":   {"proxy/message", "proxy/netio", "task"},
	"proxy/http1":         {"proxy/limits", "proxy/message", "proxy/netio", "proxy/target", "task"},
	"proxy/http2":         {"proxy/limits", "proxy/message", "proxy/netio", "proxy/preread", "proxy/target", "task"},
	"proxy/conninfo":      {"mptcp", "telemetry"},
	"proxy/backend":       {"mptcp", "proxy/resolve", "proxy/http1", "proxy/http2", "proxy/conninfo", "proxy/limits", "proxy/message", "proxy/netio", "proxy/preread", "proxy/target", "telemetry", "task"},
	"proxy": {"mptcp", "proxy/backend", "proxy/http1", "proxy/http2", "proxy/conninfo", "proxy/limits", "proxy/message", "proxy/netio", "proxy/passthrough",
		"proxy/preread", "proxy/coding", "proxy/files", "proxy/filter", "proxy/route", "proxy/split", "proxy/target", "proxy/template", "telemetry", "task"},
}

func TestArrowsGoOneWay(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range load(t) {
		if f.isTest() {
			continue
		}
		pkg := f.dir()
		seen[pkg] = true
		allowed, named := arrows[pkg]
		for _, i := range f.imports {
			ours, ok := strings.CutPrefix(i, module+"/")
			switch {
			case !ok:
			case named && !slices.Contains(allowed, ours):
				t.Errorf("%s imports %s; %s may import of ours: %q", f.name, i, pkg, allowed)
			case !named && under(pkg, "proxy"):
				t.Errorf("%s imports %s; say in arrows what package %s may import", f.name, i, pkg)
			}
		}
	}
	for pkg := range arrows {
		if !seen[pkg] {
			t.Errorf("arrows names package %s, which there is not", pkg)
		}
	}
}

// onlyIn are imports that belong to some packages alone, tests included.
var onlyIn = []struct {
	what string // an import, or what it begins with, ending in a slash
	dirs []string
}{
	{module + "/config", []string{"cmd", "gateway", "config"}},
	{module + "/gateway", []string{"cmd", "gateway"}},
	{module + "/admin", []string{"cmd", "gateway", "admin"}},
	{"github.com/caddyserver/certmagic", []string{"certs", "internal/acmetest"}},
	{"github.com/caddyserver/", []string{"certs", "internal/acmetest"}},
	{"github.com/BurntSushi/toml", []string{"config", "cmd", "examples", "packaging"}},
	{"github.com/alecthomas/kong", []string{"cmd", "bench"}},
	{"testing", []string{"internal"}}, // besides test files
}

func TestImportsThatBelongSomewhere(t *testing.T) {
	for _, f := range load(t) {
		if under(f.dir(), "tools") {
			continue
		}
		for _, i := range f.imports {
			for _, rule := range onlyIn {
				hit := i == rule.what || strings.HasSuffix(rule.what, "/") && strings.HasPrefix(i, rule.what)
				if !hit || rule.what == "testing" && f.isTest() {
					continue
				}
				if !slices.ContainsFunc(rule.dirs, func(dir string) bool { return under(f.dir(), dir) }) {
					t.Errorf("%s imports %s, which only %q may", f.name, i, rule.dirs)
				}
			}
		}
	}
}

// ofHTTP is what the data plane may use of net/http: words, no machinery. Its server, client and
// reverse proxy are what mpgate does without.
var ofHTTP = []string{"StatusText", "TimeFormat"}

// notOfHTTP2 is the machinery of x/net/http2; the framer, with its error codes and settings, is
// what proxy/http2 builds on.
var notOfHTTP2 = []string{"Server", "ServeConnOpts", "ConfigureServer", "Transport", "ConfigureTransport", "ConfigureTransports", "ClientConn", "ClientConnPool"}

func TestNoHTTPMachineryInTheDataPlane(t *testing.T) {
	uses := 0
	for _, f := range load(t) {
		if f.isTest() || !under(f.dir(), "proxy") {
			continue
		}
		for _, i := range f.imports {
			if strings.HasPrefix(i, "net/http/") {
				t.Errorf("%s imports %s", f.name, i)
			}
		}
		for _, name := range f.selectors("net/http") {
			uses++
			if !slices.Contains(ofHTTP, name) {
				t.Errorf("%s uses http.%s; the data plane may use %q", f.name, name, ofHTTP)
			}
		}
		for _, name := range f.selectors("golang.org/x/net/http2") {
			uses++
			if slices.Contains(notOfHTTP2, name) {
				t.Errorf("%s uses http2.%s of x/net", f.name, name)
			}
		}
	}
	if uses == 0 {
		t.Error("no file of the data plane uses net/http; does this test look at the right ones?")
	}
}

// selectors are the names that the file uses of an imported package.
func (f *file) selectors(pkg string) (names []string) {
	local := ""
	for i, p := range f.imports {
		if p == pkg {
			local = path.Base(pkg)
			if n := f.syntax.Imports[i].Name; n != nil {
				local = n.Name
			}
		}
	}
	if local == "" {
		return nil
	}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == local {
				names = append(names, s.Sel.Name)
			}
		}
		return true
	})
	return names
}

// TestNoSleepInTests: a test waits for the thing itself.
func TestNoSleepInTests(t *testing.T) {
	for _, f := range load(t) {
		if f.isTest() && slices.Contains(f.selectors("time"), "Sleep") {
			t.Errorf("%s sleeps; wait for what it waits for", f.name)
		}
	}
}

// bare is where goroutines are started without package task, each with the reason.
var bare = []struct{ dir, why string }{
	{"task", "it is what starts them"},
	{"bench", "programs of their own"},
	{"internal", "for tests"},
	{"tools", "programs of their own"},
}

// TestGoroutinesAreTasks: a panic in a goroutine that was started in another way would end the
// process. The demo's errgroup runs its servers by task.Call.
func TestGoroutinesAreTasks(t *testing.T) {
	starts := map[string][]string{"time": {"AfterFunc"}, "context": {"AfterFunc"}, "sync": {"WaitGroup"}, "golang.org/x/sync/errgroup": {"Group", "WithContext"}}
	ofTask := 0
	for _, f := range load(t) {
		if f.isTest() {
			continue
		}
		inTask := under(f.dir(), "task")
		exempt := slices.ContainsFunc(bare, func(b struct{ dir, why string }) bool { return under(f.dir(), b.dir) })
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if _, ok := n.(*ast.GoStmt); ok {
				if inTask {
					ofTask++
				} else if !exempt {
					t.Errorf("%s has a go statement; use package task", f.name)
				}
			}
			return true
		})
		for pkg, names := range starts {
			for _, name := range f.selectors(pkg) {
				if slices.Contains(names, name) && !exempt && f.name != "cmd/mpgate/demo.go" {
					t.Errorf("%s uses %s.%s; use package task", f.name, path.Base(pkg), name)
				}
			}
		}
		if slices.Contains(f.selectors(module+"/task"), "Late") && f.name != "proxy/conn.go" {
			t.Errorf("%s uses task.Late, which is for connections that wait for their next request", f.name)
		}
	}
	if ofTask == 0 {
		t.Error("package task has no go statement; does this test look at the right files?")
	}
}
