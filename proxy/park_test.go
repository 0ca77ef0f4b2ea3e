package proxy_test

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/listener"
	"mpgate/proxy"
	"mpgate/proxy/message"
)

// parked is how many connections wait in a goroutine of their own.
func parked() (n int) {
	b := make([]byte, 4<<20)
	for g := range strings.SplitSeq(string(b[:runtime.Stack(b, true)]), "\n\n") {
		if strings.Contains(g, "netio.(*Conn).WaitReadable(") && strings.Contains(g, "proxy.(*conn).park(") {
			n++
		}
	}
	return n
}

func waitParked(t *testing.T, n int) {
	t.Helper()
	if !proxytest.Within(10*time.Second, func() bool { return parked() == n }) {
		t.Fatalf("%d connections are parked, want %d", parked(), n)
	}
}

func TestParkedConnection(t *testing.T) {
	for _, m := range modes { // one after the other: parked counts those of the whole program
		quick := setup{mode: m}
		quick.options = proxy.Options{ParkAfter: 20 * time.Millisecond, LastRequestGrace: 200 * time.Millisecond}
		t.Run(m.name+" serves on", func(t *testing.T) {
			g := start(t, quick, m.origin(t, proxytest.Echo))
			c := g.idleClient()
			for range 3 {
				waitParked(t, 1)
				want(t, "status", c.Get("/again").Status, 200)
			}
			waitParked(t, 1)
			c.Send("GET /one HTTP/1.1\r\n" + host + "\r\nGET /two HTTP/1.1\r\n" + host + "\r\n")
			for _, path := range []string{"/one", "/two"} {
				contains(t, "answer", c.Answer().Body, path)
			}
			waitParked(t, 1)
			c.Send("GET /slow") // a request that comes in pieces
			waitParked(t, 0)
			c.Send("ly HTTP/1.1\r\n" + host + "\r\n")
			contains(t, "answer", c.Answer().Body, "/slowly")
		})
		t.Run(m.name+" ends when its time is over", func(t *testing.T) {
			s := quick
			s.options.IdleTime = 1500 * time.Millisecond
			g := start(t, s, m.origin(t, proxytest.Echo))
			began := time.Now()
			c := g.idleClient()
			waitParked(t, 1)
			c.WantClosed()
			if took := time.Since(began); took < s.options.IdleTime {
				t.Errorf("closed after %v, want 1.5s", took)
			}
			g.waitMetric(1, "mpgate_connections_total", "end", "idle")
		})
		t.Run(m.name+" ends with the client", func(t *testing.T) {
			g := start(t, quick, m.origin(t, proxytest.Echo))
			c := g.idleClient()
			waitParked(t, 1)
			c.CloseWrite()
			c.WantClosed()
			g.waitMetric(1, "mpgate_connections_total", "end", "ok")
			waitParked(t, 0)
		})
		t.Run(m.name+" ends with a drain", func(t *testing.T) {
			g := start(t, quick, m.origin(t, proxytest.Echo))
			g.idleClient()
			waitParked(t, 1)
			_, done := g.drain()
			<-done
			want(t, "connections", g.proxy.Connections(), 0)
		})
	}
}

// At the limit of connections, those that have been idle for long are closed for new ones.
func TestIdleConnectionsAreClosedAtTheLimit(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		gate := listener.NewGate(3)
		s := setup{mode: m, gate: gate}
		s.options.ParkAfter = 300 * time.Millisecond // newcomers have to wait for that, too
		release := make(chan struct{})
		g := start(t, s, m.origin(t, func(c *proxytest.Conn) {
			for r := c.Request(); r != nil; r = c.Request() {
				if r.Target == "/thinks" {
					<-release
				}
				c.Send(proxytest.EchoOf(r))
			}
		}))
		busy, idle := g.client(), []*proxytest.Client{g.idleClient(), g.idleClient()}
		busy.Send("GET /thinks HTTP/1.1\r\n" + host + "\r\n")
		g.waitMetric(1, "mpgate_backend_requests_in_flight")
		for range 2 {
			want(t, "status", g.client().Get("/come").Status, 200)
		}
		for _, c := range idle {
			c.WantClosed()
		}
		close(release)
		want(t, "status of a request that took its time", busy.Answer().Status, 200)
		// The listener waits for a place before it accepts, so that one more may have had to go.
		if !proxytest.Within(proxytest.Patience, func() bool {
			return g.metric("mpgate_connections_total", "end",
				"idle") >= 2
		}) {
			t.Errorf("%v connections count as ended for being idle, want 2 or more",
				g.metric("mpgate_connections_total", "end", "idle"))
		}
	})
}

// So does a connection of HTTP/2 without a stream.
func TestIdleHTTP2ConnectionsAreClosedAtTheLimit(t *testing.T) {
	gate := listener.NewGate(2)
	s := setup{mode: plain, gate: gate, listener: proxy.ListenerOptions{H2C: true}}
	s.options.ParkAfter = 50 * time.Millisecond
	g := start(t, s, plain.origin(t, proxytest.Echo))
	get := &message.Request{Method: []byte("GET"), Scheme: "http", Host: []byte("h.example"), Path: []byte("/")}
	for range 5 {
		c := multiplexed(t, g.addr)
		stream, resp := askHead(t, c, get)
		want(t, "status", resp.Status, 200)
		stream.Release()
	}
	want(t, "status", g.client().Get("/come").Status, 200)
}

// A parked connection uses a smaller stack than the goroutine that served it: the wait fits in the
// smallest one.
func TestParkedConnectionsKeepLittleStack(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has larger frames")
	}
	const n = 400
	s := setup{mode: plain}
	s.options.ParkAfter = 3 * time.Second
	g := start(t, s, s.mode.origin(t, proxytest.Echo))
	before := stackInUse()
	for range n {
		g.idleClient()
	}
	serving := stackInUse() - before
	waitParked(t, n)
	waiting := stackInUse() - before
	t.Logf("stack for each of %d connections: %d bytes, parked %d", n, serving/n, waiting/n)
	// Some may have been parked when the others were still being made.
	if waiting > serving*3/4 && waiting > n*4<<10 {
		t.Errorf("%d bytes of stack for %d parked connections, %d before: want half", waiting, n, serving)
	}
}

func stackInUse() int {
	runtime.GC() // which frees the stacks of goroutines that have ended
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.StackInuse)
}
