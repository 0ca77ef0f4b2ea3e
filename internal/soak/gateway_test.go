package soak

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mpgate/internal/need"
)

// gateway is the program, and the programs that came of it by upgrades.
type gateway struct {
	t      *testing.T
	ledger *ledger
	binary string
	dir    string

	plain, secure string // addresses
	servers       servers

	first  *exec.Cmd
	reads  sync.WaitGroup // of what the programs write; over when none of them is left
	mu     sync.Mutex
	memory []sample
}

// servers are the addresses of all backends.
type servers struct{ good, goodTLS, ca, bad, mortal, steady string }

// sample is what a process holds at some time.
type sample struct {
	pid, descriptors int
	bytes            int64
}

// build makes the program, with the race detector where that can be had.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "mpgate")
	args := []string{"build", "-o", binary}
	cgo := "CGO_ENABLED=1"
	if _, err := exec.LookPath("cc"); err == nil {
		args = append(args, "-race")
	} else if need.CI() {
		t.Fatal("no C compiler, which the race detector needs")
	} else {
		t.Log("no C compiler: without the race detector")
		cgo = "CGO_ENABLED=0"
	}
	cmd := exec.Command("go", append(args, "../../cmd/mpgate")...)
	cmd.Env = append(os.Environ(), cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// free is an address that nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start runs the program until it is ready.
func start(t *testing.T, l *ledger, s servers) *gateway {
	t.Helper()
	g := &gateway{
		t: t, ledger: l, binary: build(t), dir: t.TempDir(), plain: free(t), secure: free(t), servers: s,
	}
	g.configure(0)
	out, outW := pipe(t)
	log, logW := pipe(t)
	g.first = exec.Command(g.binary, "run", "-c", g.file())
	g.first.Env = append(os.Environ(), "GORACE=log_path="+filepath.Join(g.dir, "race"))
	g.first.Stdout, g.first.Stderr = outW, logW
	if err := g.first.Start(); err != nil {
		t.Fatal(err)
	}
	outW.Close()
	logW.Close()
	ready := make(chan struct{})
	g.reads.Go(func() { g.readAccess(out) })
	g.reads.Go(func() { g.readLog(log, ready) })
	ended := make(chan struct{})
	go func() { g.reads.Wait(); close(ended) }()
	select {
	case <-ready:
	case <-ended:
		t.Fatalf("the gateway does not start: %q", l.faults)
	case <-time.After(time.Minute):
		_ = g.first.Process.Kill()
		g.reads.Wait()
		t.Fatalf("the gateway does not become ready: %q", l.faults)
	}
	return g
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return r, w
}

func (g *gateway) file() string { return filepath.Join(g.dir, "mpgate.toml") }

// configure writes the n-th configuration. Each differs from the one before in one backend, one
// route or one limit, which the reload makes again; none changes what a request gets.
func (g *gateway) configure(n int) {
	connect := func(k int) string { return fmt.Sprintf("%dms", 5000+(n+k)/4%2) }
	var b strings.Builder
	fmt.Fprintf(&b, `state_dir = "state"
[log]
access = "stdout"
level = "info"
[admin]
address = "unix:%s/admin.sock"
[limits]
header_fields = %d
[shutdown]
drain = "20s"
[[listener]]
name = "plain"
address = %q
protocols = ["h1", "h2c"]
[[listener]]
name = "secure"
address = %q
[listener.tls]
local = true
[[route]]
name = "passed"
match = { sni = "passed.test" }
backend = "unopened"
`, g.dir, 100+n%2, g.plain, g.secure)
	for i, route := range []string{"h1", "h2c", "auto", "tls", "bad", "mortal", "unopened"} {
		if route != "unopened" {
			fmt.Fprintf(&b, "[[route]]\nname = %q\nmatch = { path = \"/%s/*\" }\nbackend = %q\n", route, route, route)
		}
		fmt.Fprintf(&b, "[[backend]]\nname = %q\nconnect_timeout = %q\nresponse_timeout = %q\n", route, connect(i),
			map[bool]string{true: "1s", false: "20s"}[route == "bad"])
		one := func(address string) string { return fmt.Sprintf("servers = [ { address = %q } ]\n", address) }
		switch route {
		case "unopened":
			b.WriteString(one(g.servers.goodTLS))
		case "h1":
			b.WriteString(one(g.servers.good))
		case "h2c":
			b.WriteString("protocol = \"h2c\"\n" + one(g.servers.good))
		case "auto", "tls":
			protocol := map[string]string{"auto": "auto", "tls": "h2"}[route]
			fmt.Fprintf(&b, "protocol = %q\ntls = { ca = %q, server_name = \"localhost\" }\n", protocol, g.servers.ca)
			b.WriteString(one(g.servers.goodTLS))
		case "bad":
			b.WriteString(one(g.servers.bad))
		case "mortal":
			fmt.Fprintf(&b, "servers = [ { address = %q }, { address = %q } ]\n", g.servers.mortal, g.servers.steady)
		}
	}
	next := g.file() + ".next"
	if err := errors.Join(os.WriteFile(next, []byte(b.String()), 0o600), os.Rename(next, g.file())); err != nil {
		g.ledger.fail("the configuration cannot be written: %v", err)
	}
}

// verb runs a command of the program, which must succeed.
func (g *gateway) verb(ctx context.Context, args ...string) []byte {
	out, err := exec.CommandContext(ctx, g.binary, append(args, "-c", g.file())...).CombinedOutput()
	if err != nil && ctx.Err() == nil {
		g.ledger.fail("mpgate %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return out
}

// pid is that of the program that serves now.
func (g *gateway) pid(ctx context.Context) int {
	var s struct {
		PID int `json:"pid"`
	}
	if err := json.Unmarshal(g.verb(ctx, "status", "--json"), &s); err != nil {
		return 0
	}
	return s.PID
}

// operate reloads and upgrades until ctx ends.
func (g *gateway) operate(ctx context.Context, reload, upgrade time.Duration) {
	reloads, upgrades := time.NewTicker(reload), time.NewTicker(upgrade)
	defer reloads.Stop()
	defer upgrades.Stop()
	for n := 1; ; {
		select {
		case <-ctx.Done():
			return
		case <-upgrades.C:
			g.measure(ctx)
			g.verb(context.WithoutCancel(ctx), "upgrade")
		case <-reloads.C:
			g.configure(n)
			n++
			g.verb(context.WithoutCancel(ctx), "reload")
		}
	}
}

// measure notes what the present process holds.
func (g *gateway) measure(ctx context.Context) {
	pid := g.pid(ctx)
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	fields := strings.Fields(string(statm))
	if err != nil || len(fields) < 2 {
		return
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	g.mu.Lock()
	g.memory = append(g.memory, sample{pid, len(fds), pages * int64(os.Getpagesize())})
	g.mu.Unlock()
}

// readAccess counts the lines of the access log.
func (g *gateway) readAccess(r io.ReadCloser) {
	defer r.Close()
	in := bufio.NewReaderSize(r, 1<<16)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var l struct {
			Path, End, Proto string
		}
		if err := json.Unmarshal(line, &l); err != nil {
			g.ledger.fail("a line of the access log is not JSON: %v: %q", err, line)
			continue
		}
		n, ok := numberIn(l.Path)
		if !ok && l.Proto != "TLS" { // what was passed through has no path

			g.ledger.fail("a line without a number: %s", line)
		}
		if l.End == "internal" {
			g.ledger.fail("an exchange ended for no known reason: %s", line)
		}
		if ok && g.ledger.logged(n) != bad && l.End != "ok" && l.End != "drain" {
			g.ledger.fail("an exchange that nothing was wrong with ended so: %s", line)
		}
	}
}

// readLog keeps the errors of the program's own log.
func (g *gateway) readLog(r io.ReadCloser, ready chan struct{}) {
	defer r.Close()
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		line := in.Text()
		if strings.Contains(line, `"msg":"ready"`) && ready != nil {
			close(ready)
			ready = nil
		}
		if strings.Contains(line, `"level":"ERROR"`) || strings.Contains(line, "panic") || !strings.HasPrefix(line, "{") {
			g.ledger.fail("the log says: %s", line)
		}
	}
}

// end stops the program that serves, and waits until none is left.
func (g *gateway) end() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	g.measure(ctx)
	pid := g.pid(ctx)
	if pid == 0 {
		pid = g.first.Process.Pid
	}
	_ = syscall.Kill(pid, syscall.SIGTERM)
	over := make(chan struct{})
	go func() {
		defer close(over)
		g.reads.Wait()
	}()
	select {
	case <-over:
	case <-ctx.Done():
		g.ledger.fail("the gateway has not ended within a minute")
		_ = syscall.Kill(pid, syscall.SIGKILL)
		<-over
	}
	_ = g.first.Wait()
}

// judge reports races and growth.
func (g *gateway) judge() {
	reports, _ := filepath.Glob(filepath.Join(g.dir, "race.*"))
	for _, name := range reports {
		b, _ := os.ReadFile(name)
		g.t.Errorf("the race detector says:\n%.6000s", b)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	third := len(g.memory) / 3
	if third == 0 {
		return
	}
	early, late := g.memory[:third], g.memory[len(g.memory)-third:]
	most := func(list []sample) (bytes int64, fds int) {
		for _, s := range list {
			bytes, fds = max(bytes, s.bytes), max(fds, s.descriptors)
		}
		return bytes, fds
	}
	b0, f0 := most(early)
	b1, f1 := most(late)
	g.t.Logf("memory %d MiB, later %d; descriptors %d, later %d; over %d processes", b0>>20, b1>>20, f0, f1, len(g.memory))
	if b1 > b0*3/2 || f1 > f0*3/2+50 {
		g.t.Errorf("memory or descriptors grow: %+v", g.memory)
	}
}
