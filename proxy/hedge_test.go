package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/proxy/backend"
)

// hedged is the options of a backend that sends second copies at once, without a budget. The first
// server that is listed gets the first copy.
func hedged() backend.Options {
	return backend.Options{
		Balance: "first", ResponseTimeout: proxytest.Patience,
		Hedge: &backend.Hedge{After: 10 * time.Millisecond, Budget: 10},
	}
}

// held is an origin that reports each request that comes, by its target, and then waits for its
// answer; "" resets the connection. ended reports connections that end while it waits.
type held struct {
	*proxytest.Origin
	came, ended chan string
	answer      chan string
}

func hold(t *testing.T, m mode) *held {
	h := &held{came: make(chan string, 100), ended: make(chan string, 100), answer: make(chan string)}
	quit := make(chan struct{})
	h.Origin = m.origin(t, func(c *proxytest.Conn) {
		for r := c.Request(); r != nil; r = c.Request() {
			h.came <- r.Method + " " + r.Target
			left := make(chan struct{})
			go func() {
				defer close(left)
				if _, err := c.R.ReadByte(); err != nil {
					h.ended <- r.Target
				}
			}()
			select {
			case a := <-h.answer:
				if a == "" {
					c.Reset()
				}
				if !c.Send(a) || a == "" {
					<-left
					return
				}
			case <-left:
			case <-quit:
			}
			_ = c.Conn.Close()
			<-left
		}
	})
	t.Cleanup(func() { close(quit) })
	return h
}

// await returns what comes from one of the channels of a held.
func await(t *testing.T, what string, c <-chan string) string {
	t.Helper()
	select {
	case s := <-c:
		return s
	case <-time.After(proxytest.Patience):
		t.Fatalf("no %s", what)
		return ""
	}
}

func (g *gateway) hedges(result string) float64 {
	return g.metric("mpgate_backend_hedged_requests_total", "result", result)
}

// A request without an answer is sent to another server. The first answer is used, and the other
// copy ends.
func TestHedge(t *testing.T) {
	ok := proxytest.Response("200 OK", "held")
	for name, tt := range map[string]struct {
		// What happens when both servers have the request.
		then   func(t *testing.T, first, second *held)
		status int
		server int    // that is logged
		result string // of the second copy
	}{
		"second answers": {func(t *testing.T, first, second *held) {
			second.answer <- ok
			await(t, "end of the first copy", first.ended)
		}, 200, 1, "won"},
		"first answers": {func(t *testing.T, first, second *held) {
			first.answer <- ok
			await(t, "end of the second copy", second.ended)
		}, 200, 0, "lost"},
		"first fails": {func(t *testing.T, first, second *held) {
			first.answer <- ""
			await(t, "end of the first copy", first.ended)
			second.answer <- ok
		}, 200, 1, "won"},
		"second fails": {func(t *testing.T, first, second *held) {
			second.answer <- ""
			await(t, "end of the second copy", second.ended)
			first.answer <- ok
		}, 200, 0, "lost"},
		"both fail": {func(t *testing.T, first, second *held) {
			first.answer <- ""
			await(t, "end of the first copy", first.ended)
			second.answer <- ""
		}, 502, 0, "lost"},
		"second has an error": {func(t *testing.T, first, second *held) {
			second.answer <- proxytest.Response("503 Service Unavailable", "no")
			first.answer <- ok
		}, 200, 0, "lost"},
		"first has an error": {func(t *testing.T, first, second *held) {
			first.answer <- proxytest.Response("503 Service Unavailable", "no")
		}, 503, 0, "lost"},
		"interim response": {func(t *testing.T, first, second *held) {
			second.answer <- "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok
		}, 200, 1, "won"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, second := hold(t, plain), hold(t, plain)
			g := start(t, setup{backend: hedged()}, first.Origin, second.Origin)
			c := g.client()
			c.Send("GET /r HTTP/1.1\r\n" + host + "\r\n")
			want(t, "first copy", await(t, "first copy", first.came), "GET /r")
			want(t, "second copy", await(t, "second copy", second.came), "GET /r")
			tt.then(t, first, second)
			a := c.Answer()
			want(t, "status", a.Status, tt.status)
			line := g.log.Next()
			want(t, "server", line.Server, []*held{first, second}[tt.server].Address())
			want(t, "tries", line.Tries, 2)
			want(t, "hedged", line.Hedged, tt.result)
			want(t, "copies that "+tt.result, g.hedges(tt.result), 1)
			want(t, "requests in flight", g.metric("mpgate_backend_requests_in_flight"), 0)
		})
	}
}

// A client that leaves ends both copies.
func TestHedgeClientLeaves(t *testing.T) {
	for _, name := range []string{"both wait", "first has failed"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, second := hold(t, plain), hold(t, plain)
			g := start(t, setup{backend: hedged()}, first.Origin, second.Origin)
			c := g.client()
			c.Send("GET /r HTTP/1.1\r\n" + host + "\r\n")
			await(t, "first copy", first.came)
			await(t, "second copy", second.came)
			if name != "both wait" {
				first.answer <- ""
			}
			c.Reset()
			await(t, "end of the first copy", first.ended)
			await(t, "end of the second copy", second.ended)
			line := g.log.Next()
			want(t, "end", line.End, "client_gone")
			want(t, "hedged", line.Hedged, "lost")
		})
	}
}

// Requests that may change something, have a body, or belong to a connection or a server are sent
// once. When a later request has been sent a second time, their time is over.
func TestNotHedged(t *testing.T) {
	for name, request := range map[string]string{
		"POST":       "POST /r HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n",
		"PUT":        "PUT /r HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n",
		"DELETE":     "DELETE /r HTTP/1.1\r\n" + host + "\r\n",
		"unknown":    "QUERY /r HTTP/1.1\r\n" + host + "\r\n",
		"body":       "GET /r HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\nhi",
		"WebSocket":  "GET /r HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
		"NTLM":       "GET /r HTTP/1.1\r\n" + host + "Authorization: NTLM TlRMTVNTUAAB\r\n\r\n",
		"no host":    "GET /r HTTP/1.0\r\n\r\n",
		"all answer": "POST /r HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\nhi",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, second := hold(t, plain), hold(t, plain)
			o := hedged()
			o.Retry = rules(func(r *backend.Retry) { r.AnyMethod = name == "all answer" })
			g := start(t, setup{backend: o}, first.Origin, second.Origin)
			c := g.client()
			c.Send(request)
			await(t, "request", first.came)
			other := g.client()
			other.Send("GET /later HTTP/1.1\r\n" + host + "\r\n")
			want(t, "later request", await(t, "later request", first.came), "GET /later")
			want(t, "second copy", await(t, "second copy", second.came), "GET /later")
			second.answer <- proxytest.Response("200 OK", "later")
			want(t, "status", other.Answer().Status, 200)
			await(t, "end of the first copy", first.ended)
			first.answer <- proxytest.Response("200 OK", "once")
			a := c.Answer()
			want(t, "answer", a.Body, "once")
			g.log.Next()
			want(t, "hedged", g.log.Next().Hedged, "")
		})
	}
}

// Beyond the budget there are no second copies; there is no minimum of them.
func TestHedgeBudget(t *testing.T) {
	first, second := hold(t, plain), hold(t, plain)
	o := hedged()
	o.Hedge.Budget = 0.05
	g := start(t, setup{backend: o}, first.Origin, second.Origin)
	c := g.client()
	for range 3 {
		before := g.hedges("over_budget")
		c.Send("GET /r HTTP/1.1\r\n" + host + "\r\n")
		await(t, "request", first.came)
		g.waitMetric(before+1, "mpgate_backend_hedged_requests_total", "result", "over_budget")
		first.answer <- proxytest.Response("200 OK", "once")
		want(t, "status", c.Answer().Status, 200)
		want(t, "hedged", g.log.Next().Hedged, "")
	}
	want(t, "second copies", len(second.came), 0)
}

// With HTTP/2, the copy that lost is reset, and its connection continues. Trailers are those of the
// copy that won.
func TestHedgeHTTP2(t *testing.T) {
	for _, protocol := range []backend.Protocol{backend.HTTP1, backend.HTTP2} {
		t.Run(fmt.Sprint(protocol), func(t *testing.T) {
			t.Parallel()
			s := newHeldHTTP(t)
			o := hedged()
			o.Protocol = protocol
			g := startBefore(t, setup{backend: o}, s.address, plainServer(t, trailers))
			c := g.client()
			for range 3 {
				c.Send("GET /r HTTP/1.1\r\n" + host + "TE: trailers\r\nConnection: TE\r\n\r\n")
				await(t, "end of the first copy", s.ended)
				a := c.Answer()
				want(t, "status", a.Status, 200)
				contains(t, "trailer", strings.ToLower(a.Trailer), "x-sum: 7")
				want(t, "hedged", g.log.Next().Hedged, "won")
			}
			if protocol == backend.HTTP2 {
				want(t, "connections", g.metric("mpgate_backend_connections_open"), 2)
			}
		})
	}
}

// A single server gets the second copy on a connection from another address.
func TestHedgeOverOtherPath(t *testing.T) {
	for _, protocol := range []backend.Protocol{backend.HTTP1, backend.HTTP2} {
		t.Run(fmt.Sprint(protocol), func(t *testing.T) {
			t.Parallel()
			from := make(chan string, 10)
			s := newHeldHTTP(t)
			s.hold = func(client string) bool {
				from <- client
				return strings.HasPrefix(client, "127.0.0.1:")
			}
			o := hedged()
			o.Protocol = protocol
			other := netip.MustParseAddr("127.0.0.77")
			o.OtherSource = func(from, server netip.Addr) netip.Addr {
				if from == other {
					return netip.Addr{}
				}
				return other
			}
			g := startBefore(t, setup{backend: o}, s.address)
			c := g.client()
			c.Send("GET /r HTTP/1.1\r\n" + host + "\r\n")
			for _, want := range []string{"127.0.0.1:", "127.0.0.77:"} {
				if got := await(t, "copy", from); !strings.HasPrefix(got, want) {
					t.Errorf("a copy came from %s, want %s", got, want)
				}
			}
			want(t, "status", c.Answer().Status, 200)
			await(t, "end of the first copy", s.ended)
			line := g.log.Next()
			want(t, "hedged", line.Hedged, "won")
			want(t, "server", line.Server, s.address)
			// The connection is kept: over HTTP/1 it gets the next request.
			if protocol == backend.HTTP1 {
				want(t, "status", c.Get("/r").Status, 200)
				if got := await(t, "request", from); !strings.HasPrefix(got, "127.0.0.77:") {
					t.Errorf("the next request came from %s", got)
				}
			}
		})
	}
}

// heldHTTP is a server of net/http that holds requests until their clients leave. For other
// servers, its methods are handlers.
type heldHTTP struct {
	address string
	hold    func(client string) bool // nil: all are held
	ended   chan string
}

func newHeldHTTP(t *testing.T) *heldHTTP {
	s := &heldHTTP{ended: make(chan string, 100)}
	s.address = plainServer(t, func(w http.ResponseWriter, r *http.Request) {
		if s.hold != nil && !s.hold(r.RemoteAddr) {
			_, _ = io.WriteString(w, "answer")
			return
		}
		<-r.Context().Done()
		s.ended <- r.RemoteAddr
	})
	return s
}

// trailers answers with a trailer.
func trailers(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Trailer", "X-Sum")
	_, _ = io.WriteString(w, "body")
	w.(http.Flusher).Flush()
	w.Header().Set("X-Sum", "7")
}
