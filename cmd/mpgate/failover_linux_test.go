package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mpgate/gateway"
	"mpgate/internal/lab"
)

// Sizes of the bodies of TestFailover: on both paths together one takes some tenths of a second.
const (
	downloadSize = 2 << 20
	uploadSize   = 1 << 20
	smallSize    = 100
	// mostNoise is the largest body of any test.
	mostNoise = 8 << 20
)

// hashes is a server in a place: GET gives a body of the size in the query, PUT takes one; both
// tell its hash, or where the body went wrong.
func hashes(t *testing.T, p *lab.Place) netip.AddrPort {
	t.Helper()
	body := noise(mostNoise)
	return serveIn(t, p, "0.0.0.0:0", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			got, err := io.ReadAll(r.Body)
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			fmt.Fprint(w, tell(got, body[:min(int(r.ContentLength), mostNoise)]))
			return
		}
		n, _ := strconv.Atoi(r.URL.Query().Get("bytes"))
		w.Header().Set("Content-Length", strconv.Itoa(n))
		w.Header().Set("X-Hash", sum(body[:n]))
		_, _ = w.Write(body[:n])
	})
}

// noise is the same in each run, and repeats itself nowhere; the longer begins with the shorter.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// tell is the hash of what came, or where it is not what was sent and what stands there.
func tell(got, sent []byte) string {
	if bytes.Equal(got, sent) {
		return sum(got)
	}
	at := 0
	for at < min(len(got), len(sent)) && got[at] == sent[at] {
		at++
	}
	piece := got[at:min(at+32, len(got))]
	return fmt.Sprintf("%d bytes, wrong from byte %d on, where what belongs at %d stands", len(got), at, bytes.Index(sent, piece))
}

// worker sends requests of one kind over one connection, which must not break.
type worker struct {
	name string
	done atomic.Int64
	over chan struct{} // closed at the end
	err  error         // why, after that
}

// run repeats a request until stop is closed. Whatever is not exactly as it should be ends it.
func (w *worker) run(c net.Conn, method string, size int, stop <-chan struct{}) error {
	body, r := noise(size), bufio.NewReader(c)
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		// longer than progress waits: it tells how a connection stands that hangs
		_ = c.SetDeadline(time.Now().Add(3 * patience))
		if err := request(c, r, method, body); err != nil {
			return err
		}
		w.done.Add(1)
	}
}

// request asks the server of hashes for the body, or sends it. The answer must be exactly as it
// should be.
func request(c net.Conn, r *bufio.Reader, method string, body []byte) error {
	head := fmt.Sprintf("%s /?bytes=%d HTTP/1.1\r\nHost: a\r\n", method, len(body))
	sent := make(chan error, 1)
	if method == http.MethodPut {
		head += fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body))
		go func() {
			_, err := c.Write(append([]byte(head), body...))
			sent <- err
		}()
	} else {
		_, err := c.Write([]byte(head + "\r\n"))
		sent <- err
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return fmt.Errorf("after %d bytes: %w", len(got), err)
	case resp.StatusCode != 200:
		return fmt.Errorf("status %s: %s", resp.Status, got)
	case method == http.MethodPut && string(got) != sum(body):
		return fmt.Errorf("the server got another body: %s", got)
	case method != http.MethodPut && (len(got) != len(body) || sum(got) != resp.Header.Get("X-Hash")):
		return fmt.Errorf("another body came: %s", tell(got, body))
	}
	return <-sent
}

// fleet are workers.
type fleet struct {
	t    *testing.T
	lab  *lab.Lab
	file string // the gateway's configuration
	all  []*worker
	stop chan struct{}
	wg   sync.WaitGroup
}

// newFleet has one worker of each kind for each address of the gateway.
func newFleet(t *testing.T, l *lab.Lab, file string, addresses ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, lab: l, file: file, stop: make(chan struct{})}
	t.Cleanup(func() { f.end() })
	for _, to := range addresses {
		f.add("download", to, http.MethodGet, downloadSize)
		f.add("upload", to, http.MethodPut, uploadSize)
		f.add("small", to, http.MethodGet, smallSize)
	}
	return f
}

func (f *fleet) add(kind, to, method string, size int) {
	f.t.Helper()
	c, err := f.lab.Place("client").Dial(f.t.Context(), lab.MPTCP, netip.Addr{}, to)
	if err != nil {
		f.t.Fatal(err)
	}
	w := &worker{name: fmt.Sprintf("%s from %s, by %s", kind, to, c.LocalAddr()), over: make(chan struct{})}
	f.all = append(f.all, w)
	f.wg.Go(func() {
		defer c.Close()
		defer close(w.over)
		w.err = w.run(c, method, size, f.stop)
	})
}

// progress waits until each worker has come to the end of two more requests: one that began after
// this was called is among them.
func (f *fleet) progress(when string) {
	f.t.Helper()
	before := make([]int64, len(f.all))
	for i, w := range f.all {
		before[i] = w.done.Load()
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(2 * patience); ; <-tick.C {
		i := 0
		for i < len(f.all) && f.all[i].done.Load() >= before[i]+2 {
			i++
		}
		if i == len(f.all) {
			return
		}
		select {
		case <-f.all[i].over:
			f.t.Fatalf("%s: %s\n%s", when, f.all[i].name, f.state()) // end says what it met
		default:
		}
		if time.Now().After(end) {
			f.t.Fatalf("%s: %s does not get on: %d requests, before %d\n%s", when, f.all[i].name, f.all[i].done.Load(), before[i], f.state())
		}
	}
}

// state is what the gateway says, and the kernel in each place, for a client that waits for
// nothing.
func (f *fleet) state() string {
	c := unixClient(f.file)
	var b strings.Builder
	for _, path := range []string{"/api/paths", "/debug/pprof/goroutine?debug=1"} {
		fmt.Fprintf(&b, "--- %s\n%s\n", path, fetch(f.t, c, "GET", "http://mpgate"+path, nil))
	}
	for _, place := range []string{"client", "gateway", "backend"} {
		for _, args := range [][]string{{"ss", "-Mnim"}, {"ss", "-tniem"}, {"nstat", "-as", "MPTcp*"}} {
			out, err := f.lab.Place(place).Command(f.t.Context(), args[0], args[1:]...).CombinedOutput()
			fmt.Fprintf(&b, "--- %s, %s: %v\n%s\n", strings.Join(args, " "), place, err, out)
		}
	}
	access, _ := os.ReadFile(filepath.Join(filepath.Dir(f.file), "access.log"))
	fmt.Fprintf(&b, "--- access log\n%s\n", access[max(0, len(access)-20000):])
	return b.String()
}

// end stops all, tells of those that failed, and gives how many requests came to their end.
func (f *fleet) end() (done int64) {
	select {
	case <-f.stop:
		return 0
	default:
	}
	close(f.stop)
	f.wg.Wait()
	for _, w := range f.all {
		done += w.done.Load()
		if w.err != nil {
			f.t.Errorf("%s, after %d requests: %v", w.name, w.done.Load(), w.err)
		}
	}
	return done
}

// unixClient asks the admin address of the gateway with that configuration.
func unixClient(file string) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(filepath.Dir(file), "admin.sock"))
	}}}
}

// series reads the metrics of a gateway by `name{label="value"}`.
func series(t *testing.T, file string) map[string]float64 {
	t.Helper()
	got := map[string]float64{}
	for line := range strings.Lines(fetch(t, unixClient(file), "GET", "http://mpgate/metrics", nil)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			got[name] = v
		}
	}
	return got
}

// failing is a gateway with two paths on each side that listens at an address.
func failing(t *testing.T, address string) (l *lab.Lab, p *process, file, port string) {
	t.Helper()
	// Without a delay, Linux 6.18 damages a stream now and then while a subflow joins: see
	// docs/paths.md.
	spec := lab.TwoPaths(lab.Path{Rate: 60 * lab.Mbit, Delay: time.Millisecond})
	spec.Places = []lab.PlaceSpec{{Name: "client", NoEndpoints: true}, {Name: "gateway", NoEndpoints: true}}
	l = lab.Start(t, spec)
	if err := l.Place("client").SetLimits(8, 2); err != nil {
		t.Fatal(err)
	}
	server := hashes(t, l.Place("backend"))
	file = write(t, "mpgate.toml", fmt.Sprintf(`state_dir = "state"
[admin]
address = "unix:admin.sock"
[log]
access = "access.log"
[mptcp]
manage   = "sync"
failover = "active"
limits = { subflows = 8, add_addr_accepted = 2 }
paths = [ { name = "dsl", interface = "front1", role = "listener" }, { name = "lte", interface = "front2", role = "listener" },
          { name = "left", interface = "back1", role = "backend" }, { name = "right", interface = "back2", role = "backend" } ]
[[listener]]
name = "web"
address = %[2]q
[[route]]
name = "all"
backend = "app"
[[backend]]
name = "app"
servers = [ { address = "10.77.3.2:%[1]d", weight = 1 }, { address = "10.77.4.2:%[1]d", weight = 1 } ]
`, server.Port(), address))
	p = start(t, within(l.Place("gateway")), "run", "-c", file)
	_, port, err := net.SplitHostPort(p.ready("web")[0])
	if err != nil {
		t.Fatal(err)
	}
	until(t, file, "the endpoints are made", func(r *gateway.PathsReport) bool {
		return len(r.Endpoints) == 4 && !slices.ContainsFunc(r.Endpoints, func(e gateway.PathEndpoint) bool { return !e.Found || !e.Ours })
	})
	return l, p, file, port
}

// TestFailover: each path in turn, in front and behind, goes down and comes back, falls silent and
// comes back, while clients download, upload and ask for little over connections that they keep. No
// request fails and no byte is another; metrics, log and `mpgate paths` tell of each cut and
// return.
func TestFailover(t *testing.T) {
	l, p, file, port := failing(t, "0.0.0.0:0")
	var done int64
	for i, path := range []struct{ name, link, address string }{
		{"dsl", "front1", "10.77.1.2:" + port}, {"lte", "front2", "10.77.2.2:" + port}, {"left", "back1", ""}, {"right", "back2", ""},
	} {
		link := l.Link(path.link)
		for _, fault := range []struct {
			state string
			set   func(on bool) error
		}{
			{"down", func(on bool) error {
				if on {
					return link.Down("gateway")
				}
				return link.Up("gateway")
			}},
			{"silent", func(on bool) error { return link.Silence(lab.Both, on) }},
		} {
			f, before := onBothPaths(t, l, file, "10.77.1.2:"+port, "10.77.2.2:"+port)
			done += before
			if err := fault.set(true); err != nil {
				t.Fatal(err)
			}
			until(t, file, path.name+" is "+fault.state, func(r *gateway.PathsReport) bool { return r.Paths[i].State == fault.state })
			f.progress("while " + path.name + " is " + fault.state)
			if err := fault.set(false); err != nil {
				t.Fatal(err)
			}
			if fault.state == "silent" && path.address != "" {
				// from whom it is heard that the path is back
				f.add("newcomer", path.address, http.MethodGet, smallSize)
			}
			until(t, file, path.name+" is back", func(r *gateway.PathsReport) bool { return r.Paths[i].State == "up" })
			f.progress("with " + path.name + " back")
			if path.address == "" {
				until(t, file, path.name+" carries again", func(r *gateway.PathsReport) bool { return r.Paths[i].Subflows > 0 })
			}
			done += f.end()
		}
	}
	told(t, p, file)
	p.signal(syscall.SIGTERM)
	p.exits(0)
	logged(t, done, filepath.Join(filepath.Dir(file), "access.log"))
}

// onBothPaths gives clients whose connections, and those to the servers, all have two subflows, and
// how many requests that took. All are new each time: as long as clients send, an announced address
// is not renewed for those that are there, and the kernel does not try a join again that was lost;
// then it takes other connections. Who has one path left does not survive its loss.
func onBothPaths(t *testing.T, l *lab.Lab, file string, to ...string) (f *fleet, done int64) {
	t.Helper()
	const tries = 5
	for try := 1; ; try++ {
		fresh(t, file)
		// A connection has its second subflow once bytes have passed both ways, so one that is just
		// made when the path falls silent has no other. Twice the clients first leave more
		// connections to servers than are needed.
		many := newFleet(t, l, file, append(to, to...)...)
		many.progress("at first")
		done += many.end()
		f = newFleet(t, l, file, to...)
		f.progress("with both paths")
		wait := patience
		if try < tries {
			wait /= 4
		}
		if reached(t, file, wait, func(r *gateway.PathsReport) bool {
			return len(r.Connections) > len(f.all) && !slices.ContainsFunc(r.Connections, single)
		}) != nil {
			return f, done
		}
		if try == tries {
			t.Fatalf("%d times not all connections got two subflows\n%s", tries, f.state())
		}
		done += f.end()
	}
}

// fresh has the gateway part with its connections to servers, and waits until there is none that
// has carried anything. One may be there that is new: of a server that could not be reached before,
// the connection that showed that it is back is kept for the next request.
func fresh(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	weights := []string{"weight = 1", "weight = 2"}
	if bytes.Contains(b, []byte(weights[1])) {
		slices.Reverse(weights)
	}
	if err := os.WriteFile(file, bytes.ReplaceAll(b, []byte(weights[0]), []byte(weights[1])), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(binary, "reload", "-c", file).CombinedOutput(); err != nil {
		t.Fatalf("reload: %v: %s", err, out)
	}
	until(t, file, "no connection is left", func(r *gateway.PathsReport) bool { return !slices.ContainsFunc(r.Connections, used) })
}

func used(c gateway.PathConnection) bool {
	return c.Side != "backend" || slices.ContainsFunc(c.Subflows, func(s gateway.PathSubflow) bool { return s.BytesSent+s.BytesReceived > 0 })
}

func single(c gateway.PathConnection) bool {
	n := 0
	for _, s := range c.Subflows {
		if s.State == "established" {
			n++
		}
	}
	return n < 2
}

// told holds metrics, log and picture to each other.
func told(t *testing.T, p *process, file string) {
	t.Helper()
	m := series(t, file)
	// The books are made up every few seconds: how the last subflows ended is not in them at once.
	for end := time.Now().Add(patience); m[`mpgate_path_subflows_failed_total{path="right"}`] < 1 && time.Now().Before(end); {
		m = series(t, file)
	}
	out, err := exec.Command(binary, "paths", "-c", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"dsl", "lte", "left", "right"} {
		of := func(name string, labels ...string) float64 {
			t.Helper()
			k := fmt.Sprintf("mpgate_path_%s{%s}", name, strings.Join(append(labels, fmt.Sprintf("path=%q", path)), ","))
			v, ok := m[k]
			if !ok {
				t.Errorf("no %s", k)
			}
			return v
		}
		cuts, returns := of("cuts_total"), of("returns_total")
		if cuts < 2 || returns != cuts || of("up") != 1 {
			t.Errorf("%s: cut %v times, back %v times, up %v", path, cuts, returns, of("up"))
		}
		if n := of("failover_gap_seconds_count"); n < 2 || n > cuts || of("failover_gap_seconds_sum") <= 0 {
			t.Errorf("%s: %v gaps of %v cuts, %v s together", path, n, cuts, of("failover_gap_seconds_sum"))
		}
		if of("subflows_opened_total") < 3 || of("subflows_closed_total") < 2 || of("subflows_failed_total") < 1 {
			t.Errorf("%s: %v opened, %v closed, %v failed", path, of("subflows_opened_total"), of("subflows_closed_total"), of("subflows_failed_total"))
		}
		if sent, received := of("bytes_total", `direction="sent"`), of("bytes_total", `direction="received"`); sent < uploadSize || received < uploadSize {
			t.Errorf("%s: %v sent, %v received", path, sent, received)
		}
		for what, n := range map[string]float64{"down": cuts, "back": returns} {
			lines := regexp.MustCompile(`"msg":"path is `+what+`","path":"`+path+`"`).FindAllString(p.text(), -1)
			if len(lines) != int(n) {
				t.Errorf("%s: %d lines say that it is %s, the metrics %v", path, len(lines), what, n)
			}
		}
		want := fmt.Sprintf(`(?m)^%s .* %v fail-overs?, %v returns?$`, path, cuts, returns)
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("nothing like %s in\n%s", want, out)
		}
	}
}

// logged holds the access log to what the workers did.
func logged(t *testing.T, done int64, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var lines int64
	for line := range bytes.Lines(b) {
		var e struct {
			Status    int    `json:"status"`
			End       string `json:"end"`
			Method    string `json:"method"`
			In        int64  `json:"bytes_in"`
			Out       int64  `json:"bytes_out"`
			Transport string `json:"client_transport"`
		}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		lines++
		if e.Status != 200 || e.End != "ok" || e.Transport != "mptcp" || e.Method == http.MethodPut && e.In != uploadSize || e.Method == http.MethodGet && e.Out != smallSize && e.Out != downloadSize {
			t.Errorf("%s", line)
		}
	}
	if lines != done {
		t.Errorf("%d lines of %d requests", lines, done)
	}
	t.Logf("%d requests", done)
}
