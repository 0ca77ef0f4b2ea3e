package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mpgate/internal/need"
)

// binary is the program as it is shipped, built once.
var binary string

// buildCommand is how README.md builds it.
const buildCommand = "CGO_ENABLED=0 go build -trimpath -o mpgate ./cmd/mpgate"

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "mpgate-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "mpgate")
	build := exec.Command("sh", "-ec", strings.Replace(buildCommand, "-o mpgate", "-o "+binary, 1))
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// patience bounds every wait of these tests. It is long, for machines that have much to do; nothing
// waits for it but a test that fails.
const patience = 30 * time.Second

// process is a mpgate that runs.
type process struct {
	t     testing.TB
	cmd   *exec.Cmd
	ended chan struct{} // closed once it ended

	mu      sync.Mutex
	arrived *sync.Cond
	out     []string // lines of both streams that no call has awaited yet
	all     bytes.Buffer
	closed  int // streams at their end
}

// passing has the binary get sockets as from systemd, by the names in LISTEN_FDNAMES.
func passing(names string, files ...*os.File) func(*exec.Cmd) {
	script := fmt.Sprintf(`export LISTEN_PID=$$ LISTEN_FDS=%d LISTEN_FDNAMES=%s; exec "$0" "$@"`, len(files), names)
	return func(c *exec.Cmd) {
		c.Args = append([]string{"sh", "-c", script, c.Path}, c.Args[1:]...)
		c.Path, c.Err = exec.LookPath("sh")
		c.ExtraFiles = files
	}
}

// plainSocket is a listener that uses TCP, and its file, to be passed.
func plainSocket(t *testing.T) (net.Listener, *os.File) {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return l, f
}

// start runs the binary; it is killed at the end of the test, if it still runs.
func start(t testing.TB, prepare func(*exec.Cmd), args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(binary, args...), ended: make(chan struct{})}
	p.arrived = sync.NewCond(&p.mu)
	if prepare != nil {
		prepare(p.cmd)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var streams sync.WaitGroup
	for _, r := range []io.Reader{stdout, stderr} {
		streams.Go(func() { p.read(r) })
	}
	go func() {
		streams.Wait()
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
	})
	return p
}

func (p *process) read(r io.Reader) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		p.mu.Lock()
		p.out = append(p.out, lines.Text())
		p.all.WriteString(lines.Text() + "\n")
		p.arrived.Broadcast()
		p.mu.Unlock()
	}
	p.mu.Lock()
	p.closed++
	p.arrived.Broadcast()
	p.mu.Unlock()
}

// line waits for a line that fits, behind those that were awaited before, and gives its submatches.
func (p *process) line(pattern string) []string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	late := time.AfterFunc(patience, func() {
		p.mu.Lock()
		p.closed = 2
		p.arrived.Broadcast()
		p.mu.Unlock()
	})
	defer late.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for len(p.out) > 0 {
			l := p.out[0]
			p.out = p.out[1:]
			if m := re.FindStringSubmatch(l); m != nil {
				return m
			}
		}
		if p.closed == 2 {
			p.t.Fatalf("%v: no line like %s came; it wrote\n%s", p.cmd.Args, pattern, p.all.String())
		}
		p.arrived.Wait()
	}
}

// ready waits until it is, and gives the addresses of listeners.
func (p *process) ready(listeners ...string) (addresses []string) {
	p.t.Helper()
	p.line(`"msg":"ready"`)
	text := p.text()
	for _, l := range listeners {
		m := regexp.MustCompile(`"listener":"` + l + `","address":"([^"]*)"`).FindStringSubmatch(text)
		if m == nil {
			p.t.Fatalf("no listener %s in\n%s", l, text)
		}
		addresses = append(addresses, m[1])
	}
	return addresses
}

// text is all that it wrote so far.
func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all.String()
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// exits waits for its end, and holds it to an exit code.
func (p *process) exits(code int) {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatalf("%v does not end; it wrote\n%s", p.cmd.Args, p.text())
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Fatalf("%v: exit code %d (%v), want %d; it wrote\n%s", p.cmd.Args, got, p.cmd.ProcessState, code, p.text())
	}
}

// write makes a file in a directory of the test's own, and gives its path.
func write(t testing.TB, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// tool is a program that a test needs.
func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		need.Missing(t, "%s is not installed; .ci/run names its Debian package", name)
	}
	return path
}

func needsLinux(t testing.TB) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux")
	}
}

// TestNoConfiguration: who runs a command before there is a configuration learns how to name one.
func TestNoConfiguration(t *testing.T) {
	if exists(defaultConfig) {
		t.Skipf("this host has %s", defaultConfig)
	}
	for _, command := range []string{"status", "routes"} {
		var out, errs strings.Builder
		code := execute([]string{command}, &program{stdout: &out, stderr: &errs})
		if want := "-c FILE names another configuration"; code != exitConfig || !strings.Contains(errs.String(), want) {
			t.Errorf("mpgate %s: exit code %d, %q; want %d and %q", command, code, errs.String(), exitConfig, want)
		}
	}
}
