package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts drives the binary by testdata/*.txtar: every verb, its exit codes and messages.
// Beside testscript's own commands they have
//
//	exits CODE mpgate ARGS…    runs it and holds it to the exit code; stdout and stderr are what they were
//	start NAME PATTERN ARGS…   runs mpgate in the background until a line fits; its submatches become $1, $2…
//	await NAME PATTERN         waits for a further line of it
//	signal NAME SIGNAL         HUP, TERM or INT
//	ended NAME CODE            waits for its end
//	get URL STATUS             the answer's body becomes stdout of cat response
//	backend VAR                a server that answers "hello from the backend"; VAR is its address
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 8 {
		t.Fatalf("the scripts: %v, %v", files, err)
	}
	testscript.Run(t, testscript.Params{
		Files: files,
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", filepath.Dir(binary)+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Setenv("XDG_RUNTIME_DIR", e.WorkDir)
			e.Values["processes"] = map[string]*process{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": scriptExits, "start": scriptStart, "await": scriptAwait, "signal": scriptSignal,
			"ended": scriptEnded, "get": scriptGet, "backend": scriptBackend,
		},
	})
}

func usage(ts *testscript.TestScript, neg bool, args []string, least int) {
	if neg || len(args) < least {
		ts.Fatalf("wrong use")
	}
}

// scriptTB lets helpers of tests fail a script.
type scriptTB struct {
	testing.TB
	ts *testscript.TestScript
}

func (s scriptTB) Helper()                   {}
func (s scriptTB) Fatal(args ...any)         { s.ts.Fatalf("%s", fmt.Sprintln(args...)) }
func (s scriptTB) Fatalf(f string, a ...any) { s.ts.Fatalf(f, a...) }
func (s scriptTB) Cleanup(f func())          { s.ts.Defer(f) }

func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2)
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if exit, ok := err.(*exec.ExitError); ok {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

func processes(ts *testscript.TestScript) map[string]*process {
	return ts.Value("processes").(map[string]*process)
}

func running(ts *testscript.TestScript, name string) *process {
	p := processes(ts)[name]
	if p == nil {
		ts.Fatalf("nothing was started as %s", name)
	}
	return p
}

func scriptStart(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 3)
	p := start(scriptTB{ts: ts}, func(c *exec.Cmd) {
		c.Dir = ts.MkAbs(".")
		c.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+ts.Getenv("XDG_RUNTIME_DIR"))
	}, args[2:]...)
	processes(ts)[args[0]] = p
	ts.Setenv("PID", fmt.Sprint(p.cmd.Process.Pid))
	setMatches(ts, p.line(args[1]))
}

func setMatches(ts *testscript.TestScript, matches []string) {
	for i, m := range matches[1:] {
		ts.Setenv(fmt.Sprint(i+1), m)
	}
}

func scriptAwait(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2)
	setMatches(ts, running(ts, args[0]).line(args[1]))
}

func scriptSignal(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2)
	s, ok := map[string]syscall.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "INT": syscall.SIGINT}[args[1]]
	if !ok {
		ts.Fatalf("unknown signal %s", args[1])
	}
	running(ts, args[0]).signal(s)
}

func scriptEnded(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2)
	var code int
	if _, err := fmt.Sscan(args[1], &code); err != nil {
		ts.Fatalf("%v", err)
	}
	running(ts, args[0]).exits(code)
}

func scriptGet(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2)
	resp, err := http.Get(args[0])
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("response"), body, 0o600))
	if fmt.Sprint(resp.StatusCode) != args[1] {
		ts.Fatalf("status %s, want %s: %s", resp.Status, args[1], body)
	}
}

func scriptBackend(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "hello from the backend")
	}))
	ts.Defer(s.Close)
	ts.Setenv(args[0], strings.TrimPrefix(s.URL, "http://"))
}
