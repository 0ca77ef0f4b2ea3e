package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"mpgate/internal/lab"
	"mpgate/internal/proxytest"
	"mpgate/proxy/http2"
	"mpgate/proxy/message"
	"mpgate/proxy/netio"
)

// TestOneStreamFillsTwoPaths has one stream of HTTP/2, over MPTCP and two paths whose round trip is
// 50 ms, carry as much as a connection of HTTP/1 does there: towards the client and towards the
// server, down and up. With MPGATE_WINDOWS=RATE,SIZE it measures at that rate of each path in
// Mbit/s, with bodies of SIZE MiB, and says all figures. Windows that do not grow give a tenth;
// what tests beside it take from the one or the other protocol is less than the rest.
func TestOneStreamFillsTwoPaths(t *testing.T) {
	lab.NeedRoot(t)
	proxytest.NeedMPTCP(t)
	if raceEnabled {
		t.Skip("speed under the race detector is another")
	}
	rate, size, rounds := 40, 16, 0
	if s := os.Getenv("MPGATE_WINDOWS"); s != "" {
		if _, err := fmt.Sscanf(s, "%d,%d", &rate, &size); err != nil {
			t.Fatalf("MPGATE_WINDOWS (got %q): want a rate in Mbit/s and a size in MiB, as in 100,100", s)
		}
		rounds = 5
	}
	long := lab.Path{Rate: int64(rate) * lab.Mbit, Delay: 25 * time.Millisecond}
	for _, side := range []string{"front", "back"} {
		t.Run(side, func(t *testing.T) {
			spec := lab.Gateway(2, lab.Path{})
			for i := range spec.Links {
				if (side == "front") == (i < 2) {
					spec.Links[i].Path = long
				}
			}
			w := newWindows(t, spec, side == "back")
			for _, verb := range []string{http.MethodGet, http.MethodPost} {
				w.compare(t, verb, int64(size)<<20, rounds)
			}
		})
	}
}

// windows is a lab with a gateway that uses HTTP/1 and HTTP/2 on one of its sides.
type windows struct {
	lab *lab.Lab
	// Moves a body in HTTP/1, and with HTTP/2 on the side that is measured.
	carry [2]func(verb string, size int64) error
}

func newWindows(t *testing.T, spec lab.Spec, back bool) *windows {
	w := &windows{lab: lab.Start(t, spec)}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	ln, err := w.lab.Place("backend").Listen(ctx, lab.MPTCP, ":0")
	if err != nil {
		t.Fatal(err)
	}
	bulkServer(t, ln)
	server := fmt.Sprintf("%s:%d", w.lab.Link("back1").AddrB.Addr(), ln.Addr().(*net.TCPAddr).Port)
	command := func(name string, args ...string) *exec.Cmd { return w.lab.Place("gateway").Command(ctx, name, args...) }
	gate := w.lab.Link("front1").AddrB.Addr()
	startChild(t, command, "0.0.0.0:8080", server)
	w.carry[0] = w.overHTTP1(t, netip.AddrPortFrom(gate, 8080).String())
	if back {
		startChild(t, command, "0.0.0.0:8081", server, "h2c")
		w.carry[1] = w.overHTTP1(t, netip.AddrPortFrom(gate, 8081).String())
	} else {
		w.carry[1] = w.overHTTP2(netip.AddrPortFrom(gate, 8080).String())
	}
	return w
}

// dial connects the client to the gateway.
func (w *windows) dial(ctx context.Context, to string) (net.Conn, error) {
	return w.lab.Place("client").Dial(ctx, lab.MPTCP, w.lab.Link("front1").AddrA.Addr(), to)
}

// overHTTP1 moves bodies by connections of HTTP/1, a new one each.
func (w *windows) overHTTP1(t *testing.T, to string) func(verb string, size int64) error {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, DisableCompression: true, WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10,
		DialContext: func(ctx context.Context, _, to string) (net.Conn, error) { return w.dial(ctx, to) },
	}}
	t.Cleanup(client.CloseIdleConnections)
	return func(verb string, size int64) error {
		ctx, cancel := context.WithTimeout(context.Background(), 4*proxytest.Patience)
		defer cancel()
		var body io.Reader
		if verb == http.MethodPost {
			body = io.LimitReader(endless{}, size)
		}
		r, err := http.NewRequestWithContext(ctx, verb, "http://"+to+bulkTarget(size), body)
		if err != nil {
			return err
		}
		if body != nil {
			r.ContentLength = size
		}
		resp, err := client.Do(r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		return bulkCame(resp.StatusCode, verb, size, resp.Body)
	}
}

// overHTTP2 moves bodies by streams of HTTP/2, each on a new connection. The client is ours:
// net/http's sends too slowly.
func (w *windows) overHTTP2(to string) func(verb string, size int64) error {
	return func(verb string, size int64) error {
		ctx, cancel := context.WithTimeout(context.Background(), 4*proxytest.Patience)
		defer cancel()
		nc, err := w.dial(ctx, to)
		if err != nil {
			return err
		}
		base, err := netio.New(nc)
		if err != nil {
			return err
		}
		c := http2.NewClientConn(base, &http2.ClientOptions{})
		done := make(chan struct{})
		go func() { defer close(done); _ = c.Run(); base.Close() }()
		defer func() { c.Abort(); <-done }()
		s, err := c.Open()
		if err != nil {
			return err
		}
		defer s.Release()
		r := message.Request{Method: []byte(verb), Scheme: "http", Host: []byte("h.example"), Path: []byte("/"),
			HasQuery: true}
		r.Query = []byte(bulkTarget(size)[2:])
		if verb == http.MethodPost {
			r.ContentLength = size
		}
		if err := s.WriteHead(&r); err != nil {
			return err
		}
		for n := r.ContentLength; n > 0; n -= 64 << 10 {
			if err := s.WriteBody(pattern[:min(n, 64<<10)]); err != nil {
				return err
			}
		}
		if err := s.End(nil); err != nil {
			return err
		}
		var resp message.Response
		if err := s.ReadHead(&resp, time.Now().Add(4*proxytest.Patience)); err != nil {
			return err
		}
		return bulkCame(resp.Status, verb, size, &bodyReader{from: s.Body()})
	}
}

// bodyReader is a message.BodyReader as an io.Reader.
type bodyReader struct {
	from message.BodyReader
	have []byte
}

func (b *bodyReader) Read(p []byte) (n int, err error) {
	if len(b.have) == 0 {
		if b.have, err = b.from.Next(true); err != nil {
			return 0, err
		}
	}
	n = copy(p, b.have)
	b.have = b.have[n:]
	return n, nil
}

func bulkTarget(size int64) string { return "/?" + strconv.FormatInt(size, 10) }

// bulkCame reports whether the response is the complete one of a bulkServer.
func bulkCame(status int, verb string, size int64, body io.Reader) error {
	if status != 200 {
		said, _ := io.ReadAll(body)
		return fmt.Errorf("status %d: %s", status, said)
	}
	if verb == http.MethodPost {
		said, err := io.ReadAll(body)
		if want := fmt.Sprint(size, " <nil>"); err != nil || string(said) != want {
			return fmt.Errorf("the server got %q, %v; want %q", said, err, want)
		}
		return nil
	}
	if n, err := io.Copy(io.Discard, body); err != nil || n != size {
		return fmt.Errorf("%d bytes of %d came, %v", n, size, err)
	}
	return nil
}

// bulkServer uses HTTP/1 and HTTP/2: a GET gets as many bytes as its query says, a POST the number
// of bytes that came.
func bulkServer(t *testing.T, ln net.Listener) {
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	srv := &http.Server{
		Protocols: &p,
		HTTP2:     &http.HTTP2Config{MaxReceiveBufferPerConnection: 64 << 20, MaxReceiveBufferPerStream: 32 << 20},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				n, err := io.Copy(io.Discard, r.Body)
				fmt.Fprint(w, n, " ", err)
				return
			}
			n, _ := strconv.ParseInt(r.URL.RawQuery, 10, 64)
			w.Header().Set("Content-Length", r.URL.RawQuery)
			for ; n > 0; n -= int64(len(pattern)) {
				if _, err := w.Write(pattern[:min(n, int64(len(pattern)))]); err != nil {
					return
				}
			}
		}),
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
}

// compare sends a body over both protocols in turn. Other load on the machine slows the one or the
// other: the best of each counts, and further rounds are made while that is not enough. With a
// number of rounds it makes these.
func (w *windows) compare(t *testing.T, verb string, size int64, rounds int) {
	t.Helper()
	const most = 6
	enough := 0.75
	if rounds > 0 {
		enough = 0.95
	}
	var best [2]float64
	for round := 1; ; round++ {
		for i := range w.carry {
			began := time.Now()
			if err := w.carry[i](verb, size); err != nil {
				t.Fatalf("%s in HTTP/%d: %v", verb, i+1, err)
			}
			mbit := float64(size) * 8 / time.Since(began).Seconds() / 1e6
			if rounds > 0 {
				t.Logf("%s in HTTP/%d: %.1f Mbit/s", verb, i+1, mbit)
			}
			best[i] = max(best[i], mbit)
		}
		switch share := best[1] / best[0]; {
		case round < rounds:
		case share >= enough:
			t.Logf("%s: %.1f Mbit/s in HTTP/2, %.1f in HTTP/1: %.3f, in %d rounds", verb, best[1], best[0], share,
				round)
			return
		case round >= max(rounds, most):
			t.Errorf("%s: one stream carries %.1f Mbit/s, HTTP/1 %.1f: %.3f of it, want %.2f", verb, best[1],
				best[0], share, enough)
			return
		}
	}
}

// endless repeats the pattern.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, pattern), nil }
