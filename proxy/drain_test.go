package proxy_test

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"mpgate/internal/proxytest"
)

// drain begins a shutdown that ends at the latest when cut is called; done is closed at its end. It
// returns once the shutdown is in force.
func (g *gateway) drain(idle *proxytest.Client) (cut func(), done chan struct{}) {
	g.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	g.t.Cleanup(cancel)
	done = make(chan struct{})
	go func() { defer close(done); g.proxy.Shutdown(ctx) }()
	idle.WantClosed() // at once
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
		cut, done := g.drain(idle)
		// A connection that was open before and has said nothing gets to send its request, and so
		// does one that comes now.
		for _, c := range []*proxytest.Client{fresh, g.client()} {
			a := c.Get("/late")
			want(t, "body", a.Body, "GET /late ")
			want(t, "Connection", a.Header("Connection"), "close")
			c.WantClosed()
			want(t, "end", g.log.Next().End, "ok")
		}
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

func TestDrainWaitsOnlyAMomentForSilentConnections(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, proxytest.Echo)
		g := start(t, setup{mode: m}, o)
		idle, silent := g.idleClient(), g.client()
		began := time.Now()
		_, done := g.drain(idle)
		late := g.client() // accepted while it drains, and as silent
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
		idle, c := g.idleClient(), g.client()
		c.Send("GET /think HTTP/1.1\r\n" + host + "\r\n")
		<-asked
		c.ReadHead()
		upload := g.client()
		upload.Send("POST /upload HTTP/1.1\r\n" + host + "Content-Length: 1000000\r\n\r\nhello")
		g.waitMetric(2, "mpgate_backend_requests_in_flight")
		cut, done := g.drain(idle)
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

// TestDrainUnderLoad has clients that go on asking until they are told that it is over: none may
// lose a request whose answer was not announced as the last, but for one that crossed the closing
// of its idle connection.
func TestDrainUnderLoad(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, proxytest.Echo)
		g := start(t, setup{mode: m, noLog: true}, o)
		const clients = 8
		ended := make(chan string, clients)
		var answered atomic.Int64
		for range clients {
			c := g.client()
			go func() {
				for i := 0; ; i++ {
					if _, err := fmt.Fprintf(c.Conn, "GET /%d HTTP/1.1\r\n%s\r\n", i, host); err != nil {
						ended <- ""
						return
					}
					head := ""
					for {
						line, err := c.R.ReadString('\n')
						head += line
						if err != nil {
							ended <- head // half an answer is none
							return
						}
						if line == "\r\n" {
							break
						}
					}
					if _, err := io.CopyN(io.Discard, c.R, int64(len(fmt.Sprintf("GET /%d ", i)))); err != nil {
						ended <- head
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
			if cut := <-ended; cut != "" {
				t.Errorf("a response was cut: %q", cut)
			}
		}
	})
}
