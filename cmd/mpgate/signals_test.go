package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// plainConfig is a gateway in front of one server, with ports that the kernel chooses.
func plainConfig(backend string) string {
	return fmt.Sprintf(`
[admin]
address = "unix:admin.sock"
[[listener]]
name    = "web"
address = "127.0.0.1:0"
[[route]]
name    = "all"
backend = "app"
[[backend]]
name    = "app"
servers = [ { address = %q } ]
`, strings.TrimPrefix(backend, "http://"))
}

// slowServer is a server whose answers wait.
type slowServer struct {
	*httptest.Server
	asked chan struct{} // one for each request that came
	free  chan struct{} // one for each that may be answered
}

func newSlowServer(t *testing.T) *slowServer {
	s := &slowServer{asked: make(chan struct{}, 8), free: make(chan struct{}, 8)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked <- struct{}{}
		select {
		case <-s.free:
			fmt.Fprint(w, "done")
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(s.Close)
	return s
}

type answer struct {
	resp *http.Response
	body string
	err  error
}

func get(url string) <-chan answer {
	c := make(chan answer, 1)
	go func() {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: false}, Timeout: patience}
		resp, err := client.Get(url)
		if err != nil {
			c <- answer{err: err}
			return
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		c <- answer{resp, string(b), err}
	}()
	return c
}

// TestDrain: SIGTERM and SIGINT let the request under way come to its end.
func TestDrain(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			server := newSlowServer(t)
			p := start(t, nil, "run", "-c", write(t, "mpgate.toml", plainConfig(server.URL)))
			web := p.ready("web")[0]
			got := get("http://" + web + "/")
			<-server.asked
			p.signal(s)
			p.line(`"msg":"draining","connections":1`)
			server.free <- struct{}{}
			a := <-got
			if a.err != nil || a.body != "done" {
				t.Errorf("answer %+v", a)
			}
			p.exits(0) // though the client keeps its connection
			if !strings.Contains(p.text(), `"end":"ok"`) {
				t.Errorf("the request is not in the log:\n%s", p.text())
			}
		})
	}
}

// TestSecondSignal: the second one does not wait for the request.
func TestSecondSignal(t *testing.T) {
	server := newSlowServer(t)
	p := start(t, nil, "run", "-c", write(t, "mpgate.toml", plainConfig(server.URL)))
	web := p.ready("web")[0]
	got := get("http://" + web + "/")
	<-server.asked
	p.signal(syscall.SIGTERM)
	p.line(`"msg":"draining"`)
	p.signal(syscall.SIGTERM)
	p.exits(0)
	if a := <-got; a.err == nil && a.resp.StatusCode == 200 {
		t.Errorf("answer %+v, from a server that gave none", a)
	}
	if !strings.Contains(p.text(), `"end":"drain"`) {
		t.Errorf("the log does not say that the request was cut:\n%s", p.text())
	}
	if !strings.Contains(p.text(), `"msg":"connections aborted: still in use when a second signal arrived","connections":1`) {
		t.Errorf("the log does not say what cut it:\n%s", p.text())
	}
}

// TestFewDescriptors: a limit of connections that follows from a low limit of descriptors is not
// kept quiet.
func TestFewDescriptors(t *testing.T) {
	needsLinux(t)
	const said = `"msg":"file descriptor limit is low: limiting connections","descriptors":300,"connections":75,"to_servers":75,"remedy":"set LimitNOFILE=`
	for _, c := range []struct {
		name, limits string
		times        int
	}{{"at the start and at a reload", "", 2}, {"limits.connections is written", "[limits]\nconnections = 20\n", 0}} {
		t.Run(c.name, func(t *testing.T) {
			few := func(cmd *exec.Cmd) {
				cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", `ulimit -n 300 && exec "$@"`, "sh", cmd.Path}, cmd.Args[1:]...)
			}
			p := start(t, few, "run", "-c", write(t, "mpgate.toml", c.limits+plainConfig("127.0.0.1:1")))
			p.ready("web")
			p.signal(syscall.SIGHUP)
			p.line(`"msg":"reloaded"`)
			if got := strings.Count(p.text(), said); got != c.times {
				t.Errorf("it is said %d times, want %d:\n%s", got, c.times, p.text())
			}
			p.signal(syscall.SIGTERM)
			p.exits(0)
		})
	}
}

// TestSignalBeforeReady: the configuration comes out of a FIFO that says nothing, so that the
// signals surely come while it is read. SIGHUP must not end the process; SIGTERM and SIGINT must,
// at once.
func TestSignalBeforeReady(t *testing.T) {
	needsLinux(t)
	for _, c := range []struct {
		name    string
		signals []syscall.Signal
	}{{"TERM", []syscall.Signal{syscall.SIGTERM}}, {"HUP, then INT", []syscall.Signal{syscall.SIGHUP, syscall.SIGINT}}} {
		t.Run(c.name, func(t *testing.T) {
			p, f := startByFIFO(t)
			for _, s := range c.signals {
				p.signal(s)
			}
			p.exits(0)
			f.Close()
		})
	}
}

// startByFIFO starts the binary with a configuration that is still to be written to the FIFO.
func startByFIFO(t *testing.T) (*process, *os.File) {
	t.Helper()
	fifo := filepath.Join(t.TempDir(), "mpgate.toml")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, nil, "run", "-c", fifo)
	f, err := os.OpenFile(fifo, os.O_WRONLY, 0) // returns once the other side reads
	if err != nil {
		t.Fatal(err)
	}
	return p, f
}

// TestHangUpBeforeReady: the reload that SIGHUP asks for follows once there is something to reload.
func TestHangUpBeforeReady(t *testing.T) {
	needsLinux(t)
	p, f := startByFIFO(t)
	p.signal(syscall.SIGHUP)
	fifo := f.Name()
	if _, err := f.WriteString(plainConfig("127.0.0.1:1")); err != nil {
		t.Fatal(err)
	}
	f.Close()
	p.line(`"msg":"ready"`)
	if f, err := os.OpenFile(fifo, os.O_WRONLY, 0); err != nil { // the reload reads it again
		t.Fatal(err)
	} else {
		_, _ = f.WriteString(plainConfig("127.0.0.1:1"))
		f.Close()
	}
	p.line(`"msg":"reloaded"`)
	p.signal(syscall.SIGTERM)
	p.exits(0)
}

// TestHangUpInTheFirstMoment: SIGHUP comes while most packages of the program are yet to be
// initialized.
func TestHangUpInTheFirstMoment(t *testing.T) {
	needsLinux(t)
	p := start(t, func(c *exec.Cmd) { c.Env = append(os.Environ(), "GODEBUG=inittrace=1") },
		"run", "-c", write(t, "mpgate.toml", plainConfig("127.0.0.1:1")))
	p.line(`^init mpgate/cmd/mpgate/early `)
	p.signal(syscall.SIGHUP)
	p.line(`"msg":"reloaded"`)
	before, _, _ := strings.Cut(p.text(), "init mpgate/cmd/mpgate/early ")
	if strings.Contains(before, "init mpgate/") || strings.Contains(before, "init net/http ") {
		t.Errorf("these were initialized before the signals were taken over:\n%s", before)
	}
	p.signal(syscall.SIGTERM)
	p.exits(0)
}

// TestHangUpReopens: SIGHUP opens a log file again that was renamed, as logrotate does.
func TestHangUpReopens(t *testing.T) {
	server := newSlowServer(t)
	file := write(t, "mpgate.toml", "[log]\naccess = \"access.log\"\n"+plainConfig(server.URL))
	p := start(t, nil, "run", "-c", file)
	web := p.ready("web")[0]
	log := filepath.Join(filepath.Dir(file), "access.log")
	if err := os.Rename(log, log+".1"); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGHUP)
	p.line(`"msg":"reloaded"`)
	server.free <- struct{}{}
	if a := <-get("http://" + web + "/after"); a.err != nil {
		t.Fatal(a.err)
	}
	p.signal(syscall.SIGTERM)
	p.exits(0)
	old, err := os.ReadFile(log + ".1")
	if err != nil || len(old) != 0 {
		t.Errorf("the old file has %q, %v", old, err)
	}
	if now, err := os.ReadFile(log); err != nil || !strings.Contains(string(now), `"path":"/after"`) {
		t.Errorf("the new file has %q, %v", now, err)
	}
}

// TestReloadSaysThatTheLogStays: where the file cannot be reopened, mpgate reload says so, and the
// log stays where it was.
func TestReloadSaysThatTheLogStays(t *testing.T) {
	file := write(t, "mpgate.toml", "[log]\naccess = \"access.log\"\n"+plainConfig("http://127.0.0.1:9"))
	p := start(t, nil, "run", "-c", file)
	web := p.ready("web")[0]
	log := filepath.Join(filepath.Dir(file), "access.log")
	if err := os.Rename(log, log+".1"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(log, 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(binary, "reload", "-c", file).CombinedOutput()
	if !strings.HasPrefix(string(out), "reloaded\ncannot reopen log file: ") || !strings.Contains(string(out), log) || err != nil {
		t.Errorf("mpgate reload prints %q, %v", out, err)
	}
	p.line(`"msg":"cannot reopen log file"`)
	if a := <-get("http://" + web + "/after"); a.err != nil {
		t.Fatal(a.err)
	}
	p.signal(syscall.SIGTERM)
	p.exits(0)
	if old, err := os.ReadFile(log + ".1"); err != nil || !strings.Contains(string(old), `"path":"/after"`) {
		t.Errorf("the old file has %q, %v", old, err)
	}
}

// TestBrokenPipe: a log reader that goes away does not take the gateway with it.
func TestBrokenPipe(t *testing.T) {
	server := newSlowServer(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, "mpgate.toml", "[log]\naccess = \"stderr\"\n"+plainConfig(server.URL))
	cmd := exec.Command(binary, "run", "-c", file)
	cmd.Stderr = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer cmd.Process.Kill()
	p := &process{t: t, closed: 1, cmd: cmd}
	p.arrived = sync.NewCond(&p.mu)
	go p.read(r)
	web := p.ready("web")[0]
	r.Close()
	for range 3 {
		server.free <- struct{}{}
		if a := <-get("http://" + web + "/"); a.err != nil || a.body != "done" {
			t.Fatalf("answer %+v", a)
		}
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil { // makes it log to stderr
			t.Fatal(err)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(patience):
		t.Error("it does not end")
	}
}

// TestNotify: systemd is told what happens, in the words of sd_notify(3).
func TestNotify(t *testing.T) {
	needsLinux(t)
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	told := func(want string) string {
		t.Helper()
		buf := make([]byte, 4096)
		_ = socket.SetReadDeadline(time.Now().Add(patience))
		n, err := socket.Read(buf)
		if err != nil || !strings.HasPrefix(string(buf[:n]), want) {
			t.Fatalf("systemd was told %q (%v), want %q", buf[:n], err, want)
		}
		return string(buf[:n])
	}
	p := start(t, func(c *exec.Cmd) { c.Env = append(os.Environ(), "NOTIFY_SOCKET="+path) },
		"run", "-c", write(t, "mpgate.toml", plainConfig("127.0.0.1:1")))
	told("READY=1")
	p.signal(syscall.SIGHUP)
	if s := told("RELOADING=1\nMONOTONIC_USEC="); strings.HasSuffix(s, "=") {
		t.Errorf("no time in %q", s)
	}
	told("READY=1")
	p.signal(syscall.SIGTERM)
	told("STOPPING=1")
	p.exits(0)
}

// TestActivation: the sockets that systemd hands over are used, and those that do not fit are a
// start-up error.
func TestActivation(t *testing.T) {
	needsLinux(t)
	server := newSlowServer(t)
	l, f := plainSocket(t)
	config := strings.Replace(plainConfig(server.URL), `address = "127.0.0.1:0"`, `systemd = "web"`, 1)
	run := func(name, config string) *process {
		return start(t, passing(name, f), "run", "-c", write(t, "mpgate.toml", config))
	}
	p := run("web", config)
	if m := p.line(`"listener":"web","address":"([^"]*)","transport":"tcp","from":"systemd"`); m[1] != l.Addr().String() {
		t.Errorf("it listens at %s, want %s", m[1], l.Addr())
	}
	server.free <- struct{}{}
	if a := <-get("http://" + l.Addr().String() + "/"); a.err != nil || a.body != "done" {
		t.Errorf("answer %+v", a)
	}
	p.signal(syscall.SIGTERM)
	p.exits(0)

	p = run("other", config)
	p.line(`^mpgate: .*mpgate.toml:\d+: listener.web.*"web"`)
	p.exits(1)
	p = run("web", strings.Replace(config, `systemd = "web"`, "systemd = \"web\"\nmptcp = \"require\"", 1))
	p.line(`^mpgate: .*mpgate.toml:\d+: listener.web.*tcp.*SocketProtocol=mptcp`)
	p.exits(1)
}
