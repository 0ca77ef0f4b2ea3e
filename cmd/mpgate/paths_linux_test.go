package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/gateway"
	"mpgate/internal/lab"
	"mpgate/internal/need"
)

// within makes the binary run in a place.
func within(p *lab.Place) func(*exec.Cmd) {
	return func(c *exec.Cmd) {
		enter := p.Command(context.Background(), c.Path, c.Args[1:]...)
		c.Path, c.Args, c.Err = enter.Path, enter.Args, enter.Err
	}
}

// serveIn runs a server in a place until the test ends.
func serveIn(t *testing.T, p *lab.Place, address string, h http.HandlerFunc) netip.AddrPort {
	t.Helper()
	l, err := p.Listen(t.Context(), lab.MPTCP, address)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		_ = s.Close()
		<-ended
	})
	return netip.MustParseAddrPort(l.Addr().String())
}

// endless is a server in a place whose answers do not end before the test does.
func endless(t *testing.T, p *lab.Place, address string) netip.AddrPort {
	t.Helper()
	return serveIn(t, p, address, func(w http.ResponseWriter, r *http.Request) {
		block := make([]byte, 16<<10)
		for {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
}

// twoPaths is a gateway with two paths in front and two behind, in a lab, and a download through it
// over all four.
func twoPaths(t *testing.T) (l *lab.Lab, file string) {
	t.Helper()
	spec := lab.TwoPaths(lab.Path{Rate: 20 * lab.Mbit})
	spec.Places = []lab.PlaceSpec{{Name: "client", NoEndpoints: true}, {Name: "gateway", NoEndpoints: true}}
	l = lab.Start(t, spec)
	// The kernel tries the endpoints for servers on clients' connections, too, which fails here:
	// there must be room for that.
	if err := l.Place("client").SetLimits(6, 2); err != nil {
		t.Fatal(err)
	}
	server := endless(t, l.Place("backend"), "0.0.0.0:0")
	file = write(t, "mpgate.toml", fmt.Sprintf(`[admin]
address = "unix:admin.sock"
[log]
access = "off"
[shutdown]
drain = "3s"
[mptcp]
manage = "sync"
limits = { subflows = 6, add_addr_accepted = 2 }
paths = [ { name = "dsl", interface = "front1", role = "listener" }, { name = "lte", interface = "front2", role = "listener" },
          { name = "left", interface = "back1", role = "backend" }, { name = "right", interface = "back2", role = "backend", backup = true } ]
[[listener]]
name = "web"
address = "0.0.0.0:0"
[[route]]
name = "all"
backend = "app"
[[backend]]
name = "app"
servers = [ { address = "10.77.3.2:%d" } ]
`, server.Port()))
	p := start(t, within(l.Place("gateway")), "run", "-c", file)
	_, port, err := net.SplitHostPort(p.ready("web")[0])
	if err != nil {
		t.Fatal(err)
	}
	until(t, file, "the endpoints are made", func(r *gateway.PathsReport) bool {
		return len(r.Endpoints) == 4 && !slices.ContainsFunc(r.Endpoints, func(e gateway.PathEndpoint) bool { return !e.Found || !e.Ours })
	})
	c, err := l.Place("client").Dial(t.Context(), lab.MPTCP, netip.Addr{}, "10.77.1.2:"+port)
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		_, _ = io.Copy(io.Discard, c)
	}()
	t.Cleanup(func() {
		// Of an MPTCP client that closes in the middle of an answer the kernel says no more than
		// that it sends nothing any longer; the answer waits for it, at most for limits.idle_time.
		// So the drain is short.
		_ = c.Close()
		<-read
		p.signal(syscall.SIGTERM)
		p.exits(0)
	})
	return l, file
}

// until asks for the paths until they are as wanted.
func until(t *testing.T, file, what string, is func(*gateway.PathsReport) bool) *gateway.PathsReport {
	t.Helper()
	if r := reached(t, file, patience, is); r != nil {
		return r
	}
	table, _ := exec.Command(binary, "paths", "-c", file).Output()
	t.Fatalf("%s: it does not get so\n%s", what, table)
	return nil
}

// reached is until for at most some time; nil: it did not get so. It asks the admin address itself:
// a process for each look would take the time of the gateway that it waits for.
func reached(t *testing.T, file string, most time.Duration, is func(*gateway.PathsReport) bool) *gateway.PathsReport {
	t.Helper()
	c := unixClient(file)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(most); time.Now().Before(end); <-tick.C {
		r := new(gateway.PathsReport)
		if out := fetch(t, c, "GET", "http://mpgate/api/paths", nil); json.Unmarshal([]byte(out), r) != nil {
			t.Fatalf("no report: %s", out)
		}
		if is(r) {
			return r
		}
	}
	return nil
}

// TestPathsOfGateway: a download over two paths in front and two behind is seen with all its
// subflows, and so is the loss of a path.
func TestPathsOfGateway(t *testing.T) {
	l, file := twoPaths(t)
	established := func(c *gateway.PathConnection, path string) bool {
		return slices.ContainsFunc(c.Subflows, func(s gateway.PathSubflow) bool { return s.Path == path && s.State == "established" })
	}
	got := until(t, file, "two subflows on each side, all of which carry", func(r *gateway.PathsReport) bool {
		return len(r.Connections) == 2 && established(&r.Connections[0], "dsl") && established(&r.Connections[0], "lte") &&
			established(&r.Connections[1], "left") && established(&r.Connections[1], "right") &&
			r.Paths[0].BytesSent > 100_000 && r.Paths[1].BytesSent > 100_000 && r.Paths[2].BytesReceived > 100_000
	})
	if got.Manage != "sync" || got.Totals != gateway.TotalsSinceStart || got.Limits != (gateway.PathLimits{Subflows: 6, AddAddrAccepted: 2}) {
		t.Errorf("%+v", got)
	}
	for _, e := range got.Endpoints {
		if !e.Ours || !e.Found || e.Difference != "" || e.ID == 0 || e.Interface == "" {
			t.Errorf("%+v", e)
		}
	}
	if len(got.Endpoints) != 4 || len(got.Paths) != 4 {
		t.Errorf("%d endpoints and %d paths, want 4: %+v", len(got.Endpoints), len(got.Paths), got)
	}
	for _, s := range got.Connections[1].Subflows {
		if s.Backup != (s.Path == "right") || s.RTT <= 0 {
			t.Errorf("%+v", s)
		}
	}
	out, err := exec.Command(binary, "paths", "-c", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`(?m)^dsl +front1 +10\.77\.1\.2 +listener +up +1 +[\d.]+ [KM]B +`,
		`(?m)^right +back2 +10\.77\.4\.1 +backend +up +1 +[\d.]+ K?B .* backup$`,
		`(?m)^10\.77\.2\.2 +\d+ +signal +front2 +lte +yes`,
		`(?m)^listener +[0-9a-f]{8} +(dsl +front1|lte +front2) +10\.77\.[12]\.2:\d+ +10\.77\.[12]\.1:\d+ +[\d.]+ ms +[\d.]+ [KMG]?B/s +`,
		`(?m)^ +right +back2 +10\.77\.4\.1:\d+ +10\.77\.3\.2:\d+ .* established, backup$`,
	} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("nothing like %s in\n%s", want, out)
		}
	}
	if err := l.Link("front2").Down("gateway"); err != nil {
		t.Fatal(err)
	}
	got = until(t, file, "lte is down", func(r *gateway.PathsReport) bool { return r.Paths[1].State == "down" })
	if got.Paths[1].Why != "interface front2 is down" || got.Paths[0].State != "up" {
		t.Errorf("%+v", got.Paths)
	}
	watched(t, file)
}

// terminal is a pseudo-terminal, for programs that draw on one: the side of who sits at it, and
// that of the program.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		need.Missing(t, "no pseudo-terminal: %v", err)
	}
	t.Cleanup(func() { person.Close() })
	fd := int(person.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 12, Col: 70})
	}
	if err != nil {
		t.Fatal(err)
	}
	if program, err = os.OpenFile(filepath.Join("/dev/pts", fmt.Sprint(n)), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

// watched runs --watch on a terminal until Ctrl-C.
func watched(t *testing.T, file string) {
	t.Helper()
	person, program := terminal(t)
	cmd := exec.Command(binary, "paths", "--watch", "-c", file)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = program, program, program
	cmd.Env = append(os.Environ(), "TERM=xterm")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	program.Close()
	late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	var shown strings.Builder
	await := func(pattern string) {
		t.Helper()
		buf := make([]byte, 4096)
		for !regexp.MustCompile(pattern).MatchString(shown.String()) {
			n, err := person.Read(buf)
			shown.Write(buf[:n])
			if err != nil {
				t.Fatalf("nothing like %s came: %v\n%q", pattern, err, shown.String())
			}
		}
	}
	await(`^\x1b\[\?1049h\x1b\[\?25l\x1b\[H`)
	// the second picture has bars
	await(`dsl +█+·* +out [\d.]+ [KM]B/s +in [\d.]+ [KM]?B/s\x1b\[K\r+\n`)
	// and a third stands in its place
	await(`… \d+ more lines\x1b\[K\x1b\[J\x1b\[H`)
	if _, err := person.Write([]byte{3}); err != nil {
		t.Fatal(err)
	}
	await(`\x1b\[\?25h\x1b\[\?1049l`)
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended by %v", err)
	}
	for _, line := range regexp.MustCompile(`\n|\x1b\[H`).Split(shown.String(), -1) {
		if n := len([]rune(regexp.MustCompile(`\x1b\[[?\d]*[A-Za-z]|\^C|\r`).ReplaceAllString(line, ""))); n > 70 {
			t.Errorf("a line of %d columns on a terminal of 70: %q", n, line)
		}
	}
}

// TestWatchIsNoTerminal: without one, pictures follow each other, JSON a line each, and a gateway
// that ends does not end it.
func TestWatchIsNoTerminal(t *testing.T) {
	file := write(t, "mpgate.toml", "[admin]\naddress = \"unix:admin.sock\"\n[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n"+
		"[[route]]\nname = \"all\"\nbackend = \"app\"\n[[backend]]\nname = \"app\"\nservers = [ { address = \"127.0.0.1:1\" } ]\n")
	g := start(t, nil, "run", "-c", file)
	g.line(`"msg":"ready"`)
	text := start(t, nil, "paths", "-w", "-c", file)
	lines := start(t, nil, "paths", "--watch", "--json", "-c", file)
	for range 2 {
		text.line(`^\d\d:\d\d:\d\d  manage off`)
		if m := lines.line(`^\{.*\}$`); !json.Valid([]byte(m[0])) {
			t.Errorf("%s", m[0])
		}
	}
	g.signal(syscall.SIGTERM)
	g.exits(0)
	text.line(`^\d\d:\d\d:\d\d  no gateway answers at`)
	lines.line(`^mpgate: no gateway answers at`)
	for _, p := range []*process{text, lines} {
		p.signal(syscall.SIGINT)
		p.exits(0)
	}
	if strings.Contains(text.text(), "\x1b") {
		t.Errorf("%q", text.text())
	}
}
