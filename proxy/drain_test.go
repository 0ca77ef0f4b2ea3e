package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"mpgate/internal/proxytest"
)

// drain begins a shutdown that ends at the latest when cut is called; done is closed at its end. It
// returns once the shutdown has begun.
func (g *gateway) drain() (cut func(), done chan struct{}) {
	g.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	g.t.Cleanup(cancel)
	done = make(chan struct{})
	go func() { defer close(done); g.proxy.Shutdown(ctx) }()
	if !proxytest.Within(proxytest.Patience, g.proxy.Draining) {
		g.t.Fatal("the shutdown has not begun")
	}
	return cancel, done
}

func (g *gateway) idleClient() *proxytest.Client {
	g.t.Helper()
	c := g.client()
	c.Get("/idle")
	g.log.Next()
	return c
}

func TestDrain(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		release := make(chan struct{})
		o := m.origin(t, func(c *proxytest.Conn) {
			for r := c.Request(); r != nil; r = c.Request() {
				switch r.Target {
				case "/thinks":
					<-release
				case "/begins":
					c.Send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
					<-release
					c.Send("world")
					continue
				case "/chat":
					c.Send(switching)
					echoBytes(c)
					return
				}
				c.Send(proxytest.EchoOf(r))
			}
		})
		g := start(t, setup{mode: m}, o)
		idle, thinks, begins, fresh := g.idleClient(), g.client(), g.client(), g.client()
		thinks.Send("GET /thinks HTTP/1.1\r\n" + host + "\r\n")
		begins.Send("GET /begins HTTP/1.1\r\n" + host + "\r\n")
		if a := begins.ReadHead(); a.Has("Connection") {
			t.Errorf("before the drain: %q", a.Head)
		}
		tunnel := g.openTunnel()
		g.waitMetric(3, "mpgate_backend_requests_in_flight")
		began := time.Now()
		cut, done := g.drain()
		// A connection that was open before and has said nothing gets to send its request, and so
		// does one that comes now.
		for _, c := range []*proxytest.Client{fresh, g.client()} {
			a := c.Get("/late")
			want(t, "body", a.Body, "GET /late ")
			want(t, "Connection", a.Header("Connection"), "close")
			c.WantClosed()
			want(t, "end", g.log.Next().End, "ok")
		}
		idle.WantClosed()
		release <- struct{}{}
		release <- struct{}{}
		a := thinks.Answer()
		want(t, "body", a.Body, "GET /thinks ")
		want(t, "Connection", a.Header("Connection"), "close")
		thinks.WantClosed()
		body := make([]byte, 10)
		if _, err := io.ReadFull(begins.R, body); err != nil || string(body) != "helloworld" {
			t.Errorf("the response that had begun is %q, %v", body, err)
		}
		begins.WantClosed() // its head could not say so, but it is over
		want(t, "end", g.log.Next().End, "ok")
		want(t, "end", g.log.Next().End, "ok")
		g.echoes(tunnel, "tunnels live until the deadline")
		select {
		case <-done:
			t.Error("the shutdown did not wait for the tunnel")
		default:
		}
		cut()
		<-done
		_, _ = tunnel.Rest()
		want(t, "end of the tunnel", g.log.Next().End, "drain")
		want(t, "connections", g.proxy.Connections(), 0)
		want(t, "drained connections", g.metric("mpgate_connections_total", "end", "drain") >= 2, true)
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestDrainEndsSilentConnectionsAfterTheGrace(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, proxytest.Echo)
		g := start(t, setup{mode: m}, o)
		idle, silent := g.idleClient(), g.client()
		began := time.Now()
		_, done := g.drain()
		late := g.client() // accepted while it drains, and as silent
		idle.WantClosed()
		silent.WantClosed()
		late.WantClosed()
		<-done
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestDrainCutsAtTheDeadline(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o, asked, gone := thinking(t, m, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
		g := start(t, setup{mode: m}, o)
		c := g.client()
		c.Send("GET /think HTTP/1.1\r\n" + host + "\r\n")
		<-asked
		c.ReadHead()
		upload := g.client()
		upload.Send("POST /upload HTTP/1.1\r\n" + host + "Content-Length: 1000000\r\n\r\nhello")
		g.waitMetric(2, "mpgate_backend_requests_in_flight")
		cut, done := g.drain()
		cut()
		<-done
		<-gone
		if rest, err := c.Rest(); rest == "5\r\nhello\r\n0\r\n\r\n" || err == nil && rest != "5\r\nhello\r\n" {
			t.Errorf("the cut response looks complete: %q, %v", rest, err)
		}
		_, _ = upload.Rest()
		for range 2 {
			want(t, "end", g.log.Next().End, "drain")
		}
		want(t, "connections", g.proxy.Connections(), 0)
	})
}

// A client may be sending its next request when the drain begins, also on a connection that has
// been idle for long: that one is answered, too, as the last one.
func TestDrainAnswersALastRequest(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := setup{mode: m}
		s.options.LastRequestGrace = proxytest.Patience
		s.options.ParkAfter = time.Millisecond
		g := start(t, s, m.origin(t, proxytest.Echo))
		clients := []*proxytest.Client{g.idleClient(), g.idleClient()}
		_, done := g.drain()
		for _, c := range clients {
			c.Send("POST /late HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\nhello")
			a := c.AnswerTo("POST")
			want(t, "body", a.Body, "POST /late hello")
			want(t, "Connection", a.Header("Connection"), "close")
			c.WantClosed()
			want(t, "end", g.log.Next().End, "ok")
		}
		<-done
	})
}

// Idle connections end in order after the grace, which ends before the time for the drain does.
func TestDrainEndsIdleConnectionsAfterTheGrace(t *testing.T) {
	t.Parallel()
	for _, m := range []mode{modes[0], modes[4]} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			s := setup{mode: m}
			s.options.LastRequestGrace = time.Hour
			g := start(t, s, m.origin(t, proxytest.Echo))
			var clients []*proxytest.Client
			for range 20 {
				clients = append(clients, g.idleClient())
			}
			ctx, cancel := context.WithTimeout(context.Background(), 6*time.Second)
			defer cancel()
			began := time.Now()
			g.proxy.Shutdown(ctx)
			if took := time.Since(began); took < 2*time.Second {
				t.Errorf("the connections ended after %v", took)
			}
			for _, c := range clients {
				c.WantClosed()
			}
			if cut := g.metric("mpgate_connections_total", "end", "drain"); cut != 20 {
				t.Errorf("%v connections ended by the drain, want 20", cut)
			}
		})
	}
}

// TestDrainUnderLoad has clients that send one request after the other until an answer is announced
// as the last one: none may lose a request.
func TestDrainUnderLoad(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := setup{mode: m, noLog: true}
		s.options.LastRequestGrace = proxytest.Patience
		g := start(t, s, m.origin(t, proxytest.Echo))
		const clients = 8
		ended := make(chan error, clients)
		var answered atomic.Int64
		for range clients {
			c := g.client()
			go func() {
				for i := 0; ; i++ {
					last, err := getFrom(c, fmt.Sprintf("/%d", i))
					if last || err != nil {
						ended <- err
						return
					}
					answered.Add(1)
				}
			}()
		}
		proxytest.Within(proxytest.Patience, func() bool { return answered.Load() > 100 })
		ctx, cancel := context.WithTimeout(context.Background(), proxytest.Patience)
		defer cancel()
		g.proxy.Shutdown(ctx)
		if ctx.Err() != nil {
			t.Error("the shutdown did not come to an end by itself")
		}
		for range clients {
			if err := <-ended; err != nil {
				t.Errorf("a request was lost: %v", err)
			}
		}
	})
}

// getFrom sends one request, and reports whether its answer was announced as the last one.
func getFrom(c *proxytest.Client, path string) (last bool, err error) {
	if _, err := fmt.Fprintf(c.Conn, "GET %s HTTP/1.1\r\n%s\r\n", path, host); err != nil {
		return false, err
	}
	r, err := http.ReadResponse(c.R, nil)
	if err != nil {
		return false, err
	}
	body, err := io.ReadAll(r.Body)
	if err == nil && string(body) != "GET "+path+" " {
		err = fmt.Errorf("got %q", body)
	}
	return r.Close, err
}
