package proxy_test

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/proxy/backend"
)

// slow is an origin that answers each request when it is told to.
func slow(t *testing.T, m mode) (o *proxytest.Origin, asked, answer chan struct{}) {
	asked, answer = make(chan struct{}, 100), make(chan struct{})
	return m.origin(t, func(c *proxytest.Conn) {
		for r := c.Request(); r != nil; r = c.Request() {
			asked <- struct{}{}
			<-answer
			c.Send(proxytest.EchoOf(r))
		}
	}), asked, answer
}

func TestQueue(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o, asked, answer := slow(t, m)
		g := start(t, setup{mode: m, backend: backend.Options{
			MaxConnections: 1, Queue: backend.Queue{Requests: 1, Time: proxytest.Patience},
		}}, o)
		first, second, third := g.client(), g.client(), g.client()
		first.Send("GET /1 HTTP/1.1\r\n" + host + "\r\n")
		<-asked
		second.Send("POST /2 HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\nhi")
		g.waitMetric(1, "mpgate_backend_queue_requests")
		a := third.Get("/3")
		want(t, "status", a.Status, 503)
		want(t, "Retry-After", a.Header("Retry-After"), "1")
		contains(t, "the body", a.Body, "every server has as many requests as it may have")
		l := g.log.Next()
		want(t, "end", l.End, "backend_busy")
		want(t, "tries", l.Tries, 0)
		answer <- struct{}{}
		want(t, "body", first.AnswerTo("GET").Body, "GET /1 ")
		want(t, "has queue_ms", g.log.Next().QueueMS != nil, false)
		<-asked
		answer <- struct{}{}
		want(t, "body", second.AnswerTo("POST").Body, "POST /2 hi")
		l = g.log.Next()
		if l.QueueMS == nil || *l.QueueMS <= 0 || *l.QueueMS > l.Duration || l.Tries != 1 {
			t.Errorf("queue_ms %v of %v ms, %d tries", l.QueueMS, l.Duration, l.Tries)
		}
		want(t, "waited", g.metric("mpgate_backend_queued_requests_total", "result", "served"), 1)
	})
}

// A client that leaves is taken out of the queue, also one that has sent a small body.
func TestClientThatLeavesTheQueue(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o, asked, answer := slow(t, m)
		g := start(t, setup{mode: m, backend: backend.Options{
			MaxConnections: 1, Queue: backend.Queue{Requests: 10, Time: proxytest.Patience},
		}}, o)
		first := g.client()
		first.Send("GET /1 HTTP/1.1\r\n" + host + "\r\n")
		<-asked
		for i, request := range []string{
			"GET /2 HTTP/1.1\r\n" + host + "\r\n",
			"POST /2 HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\nhi",
		} {
			c := g.client()
			c.Send(request)
			g.waitMetric(1, "mpgate_backend_queue_requests")
			c.Reset()
			g.waitMetric(0, "mpgate_backend_queue_requests")
			l := g.log.Next()
			want(t, "end", l.End, "client_gone")
			want(t, "left", g.metric("mpgate_backend_queued_requests_total", "result", "left"), float64(i+1))
		}
		answer <- struct{}{}
		want(t, "body", first.AnswerTo("GET").Body, "GET /1 ")
	})
}

// Over HTTP/2 requests share the connections that a server may have, and wait for room on them.
func TestMaxConnectionsOverHTTP2(t *testing.T) {
	t.Parallel()
	const streams, conns = 3, 2
	var now, most, open atomic.Int64
	server := &http.Server{
		Protocols: new(http.Protocols), HTTP2: &http.HTTP2Config{MaxConcurrentStreams: streams},
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				open.Add(1)
			}
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer now.Add(-1)
			_, _ = io.WriteString(w, r.URL.Path)
		}),
	}
	server.Protocols.SetUnencryptedHTTP2(true)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() { _ = server.Close(); wg.Wait() })
	g := startBefore(t, setup{backend: backend.Options{
		Protocol: backend.HTTP2, MaxConnections: conns, Queue: backend.Queue{Requests: 1000, Time: proxytest.Patience},
	}}, l.Addr().String())
	var clients sync.WaitGroup
	for i := range 30 {
		c := g.client()
		clients.Go(func() {
			for j := range 10 {
				path := "/" + strconv.Itoa(i) + "/" + strconv.Itoa(j)
				a := c.Get(path)
				if a.Status != 200 || a.Body != path {
					t.Errorf("got %d %q for %s", a.Status, a.Body, path)
				}
			}
		})
	}
	clients.Wait()
	if n := open.Load(); n > conns {
		t.Errorf("%d connections, want %d", n, conns)
	}
	if n := most.Load(); n > streams*conns {
		t.Errorf("%d requests at a time, want %d", n, streams*conns)
	}
	want(t, "requests that wait", g.metric("mpgate_backend_queue_requests"), 0)
	// They wait for room, and do not try again and again.
	if n := g.metric("mpgate_backend_queued_requests_total"); n > 1000 {
		t.Errorf("300 requests were in the queue %v times", n)
	}
}

// The time in the queue is bounded, and does not count for the time of the response.
func TestQueueTime(t *testing.T) {
	t.Parallel()
	o, asked, answer := slow(t, plain)
	g := start(t, setup{backend: backend.Options{MaxConnections: 1, Queue: backend.Queue{Requests: 10, Time: 50 * time.Millisecond}}}, o)
	first := g.client()
	first.Send("GET /1 HTTP/1.1\r\n" + host + "\r\n")
	<-asked
	want(t, "status", g.client().Get("/2").Status, 503)
	l := g.log.Next()
	want(t, "end", l.End, "backend_busy")
	if l.QueueMS == nil || *l.QueueMS < 50 {
		t.Errorf("queue_ms %v, want at least 50", l.QueueMS)
	}
	want(t, "waited too long", g.metric("mpgate_backend_queued_requests_total", "result", "timeout"), 1)
	answer <- struct{}{}
	want(t, "body", first.AnswerTo("GET").Body, "GET /1 ")
}

// A connection that many requests share ends after as many as it may carry.
func TestKeepRequestsOverHTTP2(t *testing.T) {
	t.Parallel()
	r, o := newReturner(t, func(string, int, int) string { return "" })
	g := start(t, setup{backend: backend.Options{Protocol: backend.HTTP2, Keep: backend.Keep{Requests: 2}}}, o)
	c := g.client()
	for range 6 {
		want(t, "status", c.Get("/").Status, 200)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	want(t, "connections", r.conns, 3)
}
