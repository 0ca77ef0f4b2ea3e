package mirror

import (
	"context"
	"io"
	"log"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/proxy/backend"
	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// got is a request as the other backend got it.
type got struct {
	proto, method, uri, host, body, loop, own string
	length                                    int64
}

// shadow is a server of net/http that speaks HTTP/1 and, without TLS, HTTP/2.
func shadow(t *testing.T) (addr string, requests chan got) {
	t.Helper()
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	requests = make(chan got, 100)
	srv := &http.Server{
		Protocols: &p, ErrorLog: log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			requests <- got{r.Proto, r.Method, r.RequestURI, r.Host, string(body), r.Header.Get("CDN-Loop"), r.Header.Get("X-Own"), r.ContentLength}
			http.Error(w, "the answer goes nowhere", http.StatusInternalServerError)
		}),
	}
	ln := proxytest.Listen(t, mptcp.Off)
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return ln.Addr().String(), requests
}

// start makes a filter that copies all requests to a server, and sends its copies if run is set.
func start(t *testing.T, addr string, protocol backend.Protocol, run bool) (*Mirror, *telemetry.Instruments) {
	t.Helper()
	in := telemetry.NewInstruments("test")
	b, err := backend.New(backend.Options{Name: "other", Protocol: protocol, Servers: []backend.ServerOptions{{Address: addr, MPTCP: mptcp.Off}}})
	if err != nil {
		t.Fatal(err)
	}
	m := New(Options{Backend: b, Name: "other", Ratio: 1, Meter: in.Mirror("all", "other")})
	keep(t, func(ctx context.Context) error { _ = b.Run(ctx); return nil })
	if run {
		keep(t, m.Run)
	}
	return m, in
}

// keep runs f as long as the test.
func keep(t *testing.T, f func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func wantResults(t *testing.T, in *telemetry.Instruments, result string, n float64) {
	t.Helper()
	proxytest.WaitMetric(t, in.Registry(), n, "mpgate_mirror_requests_total", "route", "all", "backend", "other", "result", result)
}

func request(method string, length int64) *filter.Request {
	r := &filter.Request{Request: new(message.Request), Record: new(telemetry.Record), Context: context.Background()}
	r.Method, r.Scheme, r.Host, r.Path = []byte(method), "http", []byte("a.example"), []byte("/p")
	r.Query, r.HasQuery = []byte("q=1"), true
	r.ContentLength = length
	r.Header.AddName([]byte("X-Own"), []byte("1"))
	return r
}

// pieces is the body of a request, as it is read.
type pieces struct {
	list []string
	err  error // at the end
}

func (p *pieces) Next(bool) ([]byte, error) {
	if len(p.list) == 0 {
		return nil, p.err
	}
	piece := []byte(p.list[0])
	p.list = p.list[1:]
	return piece, nil
}

// serve brings a request with a body through the filter, as an exchange does, and returns what is
// left of the body for the server. What was read is overwritten, as the buffers of the codecs are.
func serve(t *testing.T, m *Mirror, r *filter.Request, body *pieces) string {
	t.Helper()
	if m.FilterRequest(r) {
		t.Fatal("the filter has ended the exchange")
	}
	defer func() {
		m.FilterEnd(r)
		for _, b := range [][]byte{r.Method, r.Host, r.Path, r.Query} {
			clear(b)
		}
		r.Header.Reset()
	}()
	if body == nil {
		return ""
	}
	src := m.FilterRequestBody(r, body)
	var all strings.Builder
	for {
		p, err := src.Next(true)
		all.Write(p)
		clear(p)
		if err != nil {
			if err != body.err {
				t.Errorf("the body ends with %v, want %v", err, body.err)
			}
			return all.String()
		}
	}
}

// The copy is what the server gets, in both versions of HTTP, also if the request is used again
// before it is sent.
func TestCopy(t *testing.T) {
	large := strings.Repeat("x", maxBody)
	for name, protocol := range map[string]backend.Protocol{"HTTP/1.1": backend.HTTP1, "HTTP/2.0": backend.HTTP2} {
		t.Run(name, func(t *testing.T) {
			addr, requests := shadow(t)
			m, in := start(t, addr, protocol, true)
			for _, c := range []struct {
				method string
				length int64
				body   []string
			}{
				{"GET", 0, nil},
				{"POST", 6, []string{"a body"}},
				{"PUT", message.Unknown, []string{"in ", "pie", "", "ces"}},
				{"POST", maxBody, []string{large[:100], large[100:]}},
				{"DELETE", message.Unknown, nil},
			} {
				want := strings.Join(c.body, "")
				body := &pieces{c.body, io.EOF}
				if c.length == 0 {
					body = nil
				}
				if rest := serve(t, m, request(c.method, c.length), body); rest != want {
					t.Errorf("the server gets %d bytes, want %d", len(rest), len(want))
				}
				var g got
				select {
				case g = <-requests:
				case <-time.After(proxytest.Patience):
					t.Fatalf("%s %.20q: no copy came", c.method, want)
				}
				if g.proto != name || g.method != c.method || g.uri != "/p?q=1" || g.host != "a.example" || g.own != "1" ||
					g.body != want || g.length != int64(len(want)) || !strings.HasPrefix(g.loop, "mirror-") {
					g.body = g.body[:min(20, len(g.body))]
					t.Errorf("%s %.20q: got %+v", c.method, want, g)
				}
			}
			wantResults(t, in, "sent", 5)
			if !proxytest.Within(proxytest.Patience, func() bool { return m.held.Load() == 0 }) {
				t.Errorf("%d bytes are still held", m.held.Load())
			}
		})
	}
}

// What is not copied leaves the request as it is, and nothing behind.
func TestNotCopied(t *testing.T) {
	m, in := start(t, "127.0.0.1:1", backend.HTTP1, false)
	upgrade := request("GET", message.Unknown)
	upgrade.Upgrade = []byte("websocket")
	tunnel := request("CONNECT", message.Unknown)
	tunnel.Upgrade = []byte("websocket")
	returned := request("GET", 0)
	returned.Header.Add(message.CDNLoop, append([]byte("other, "), m.mark...))
	half := strings.Repeat("x", maxBody/2+1)
	for _, c := range []struct {
		name   string
		r      *filter.Request
		body   *pieces
		result string
	}{
		{"an upgrade", upgrade, &pieces{[]string{"frames"}, io.EOF}, ""},
		{"an upgrade in HTTP/2", tunnel, &pieces{[]string{"frames"}, io.EOF}, ""},
		{"a copy that comes back", returned, nil, ""},
		{"a body that is declared too large", request("POST", maxBody+1), &pieces{[]string{half, half}, io.EOF}, "too_large"},
		{"a body that is too large", request("POST", message.Unknown), &pieces{[]string{half, half, "x"}, io.EOF}, "too_large"},
		{"a body that breaks off", request("POST", 10), &pieces{[]string{"12345"}, io.ErrUnexpectedEOF}, "incomplete"},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := ""
			if c.body != nil {
				want = strings.Join(c.body.list, "")
			}
			before := proxytest.Metric(t, in.Registry(), "mpgate_mirror_requests_total")
			results := proxytest.Metric(t, in.Registry(), "mpgate_mirror_requests_total", "result", c.result)
			if got := serve(t, m, c.r, c.body); got != want {
				t.Errorf("the server gets %d bytes, want %d", len(got), len(want))
			}
			if len(m.queue) != 0 || m.held.Load() != 0 {
				t.Errorf("%d copies wait, %d bytes are held", len(m.queue), m.held.Load())
			}
			n := proxytest.Metric(t, in.Registry(), "mpgate_mirror_requests_total") - before
			switch c.result {
			case "":
				if n != 0 {
					t.Errorf("%v results were counted", n)
				}
			default:
				if got := proxytest.Metric(t, in.Registry(), "mpgate_mirror_requests_total", "result", c.result); n != 1 || got != results+1 {
					t.Errorf("%v results were counted, %v of them %s", n, got-results, c.result)
				}
			}
		})
	}
}

// A body that nobody reads, because a filter or a server has answered before, is no copy.
func TestBodyThatIsNotRead(t *testing.T) {
	m, in := start(t, "127.0.0.1:1", backend.HTTP1, false)
	r := request("POST", 10)
	m.FilterRequest(r)
	m.FilterEnd(r)
	wantResults(t, in, "incomplete", 1)
	r = request("POST", 10)
	m.FilterRequest(r)
	if _, err := m.FilterRequestBody(r, &pieces{[]string{"0123456789"}, io.EOF}).Next(true); err != nil {
		t.Fatal(err)
	}
	m.FilterEnd(r)
	wantResults(t, in, "incomplete", 2)
	if m.held.Load() != 0 {
		t.Errorf("%d bytes are held", m.held.Load())
	}
}

// Copies that wait are bounded in number and in bytes; the rest is dropped.
func TestQueueIsBounded(t *testing.T) {
	m, in := start(t, "127.0.0.1:1", backend.HTTP1, false)
	for range waiting + 3 {
		serve(t, m, request("GET", 0), nil)
	}
	wantResults(t, in, "dropped", 3)

	m, in = start(t, "127.0.0.1:1", backend.HTTP1, false)
	body := strings.Repeat("x", maxBody)
	m.held.Store(maxHeld - 2*maxBody)
	for range 3 {
		serve(t, m, request("POST", maxBody), &pieces{[]string{body}, io.EOF})
	}
	wantResults(t, in, "dropped", 1)
	if len(m.queue) != 2 || m.held.Load() != maxHeld {
		t.Errorf("%d copies wait, %d bytes are held", len(m.queue), m.held.Load())
	}
}

// A server that cannot be reached is counted.
func TestFailed(t *testing.T) {
	dead := proxytest.NewRefusing(t)
	m, in := start(t, dead.Address, backend.HTTP1, true)
	serve(t, m, request("GET", 0), nil)
	wantResults(t, in, "failed", 1)
}

func TestRatio(t *testing.T) {
	m := New(Options{Name: "other", Ratio: 0.25})
	n := 0
	for range 4_000 {
		serve(t, m, request("GET", 0), nil)
		n += len(m.queue)
		for len(m.queue) > 0 {
			(<-m.queue).free()
		}
	}
	if n < 800 || n > 1_200 { // seven standard deviations
		t.Errorf("%d of 4000 were copied, want 1000", n)
	}
}

func TestExplain(t *testing.T) {
	m := New(Options{Name: "other", Ratio: 0.1})
	r := request("POST", 10)
	var notes []string
	r.Explain = func(note string) { notes = append(notes, note) }
	serve(t, m, r, &pieces{nil, io.EOF})
	if len(notes) != 1 || notes[0] != `mirror sends a copy of 10% of the requests to backend "other"` || len(m.queue) != 0 {
		t.Errorf("%q", notes)
	}
}
