package proxy_test

import (
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/listener"
)

func TestConnectionLimitPausesAccepting(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, proxytest.Echo)
		gate := listener.NewGate(2)
		g := start(t, setup{mode: m, gate: gate}, o)
		a, b := g.client(), g.client()
		a.Get("/a")
		b.Get("/b")
		if m.tls {
			return // its handshake waits too
		}
		third := g.client() // the kernel has it
		third.Send("GET /c HTTP/1.1\r\n" + host + "\r\n")
		_ = third.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := third.R.ReadByte(); err == nil {
			t.Error("a third connection was served at a limit of two")
		}
		want(t, "connections inside", gate.Inside(), 2)
		a.Close()
		third = continueWith(t, third)
		want(t, "body", third.Answer().Body, "GET /c ")
		b.Close()
		third.Close()
		if !proxytest.Within(proxytest.Patience, func() bool { return gate.Inside() == 0 }) {
			t.Errorf("%d places are still taken", gate.Inside())
		}
	})
}

// continueWith is the same connection after a read deadline that was meant.
func continueWith(t *testing.T, c *proxytest.Client) *proxytest.Client {
	return proxytest.NewClient(t, c.Conn)
}

func TestConnectionsPerClient(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, proxytest.Echo)
		s := setup{mode: m}
		s.options.PerClient = 2
		g := start(t, s, o)
		a, b := g.client(), g.client()
		a.Get("/a")
		b.Get("/b")
		c := proxytest.Dial(t, g.addr, m.mptcp)
		c.WantClosed()
		g.waitMetric(1, "mpgate_connections_total", "end", "limit")
		a.Close()
		g.waitMetric(1, "mpgate_connections_total", "end", "ok")
		want(t, "body of another", g.client().Get("/c").Body, "GET /c ")
		want(t, "body of the second", b.Get("/b").Body, "GET /b ")
	})
}

func TestConnectionsPerUnixClientAreNotLimited(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, proxytest.Echo)
	s := setup{address: "unix"}
	s.options.PerClient = 1
	g := start(t, s, o)
	for range 3 {
		want(t, "status", g.client().Get("/").Status, 200)
	}
}

// TestThousandSlowClients runs alone; it needs some 4,000 descriptors.
func TestThousandSlowClients(t *testing.T) {
	large := strings.Repeat("x", 1<<20)
	o := plain.origin(t, func(c *proxytest.Conn) {
		for head := c.Head(); head != ""; head = c.Head() {
			switch {
			case strings.HasPrefix(head, "POST"):
				_, _ = io.Copy(io.Discard, c.R)
				return
			case strings.HasPrefix(head, "GET /large"):
				c.Send("HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n")
				c.Send(large)
			default:
				line, _, _ := strings.Cut(head, " HTTP/")
				c.Send(proxytest.Response("200 OK", line+" "))
			}
		}
	})
	// So that a reader that takes nothing is seen at once.
	s := setup{mode: modes[1], noLog: true, sendBuf: 16 << 10}
	s.options.HeaderTime, s.options.IdleTime, s.options.MinRate = 4*time.Second, 4*time.Second, 10000
	g := start(t, s, o)
	var clients []*proxytest.Client
	for i := range 999 {
		switch i % 3 {
		case 0:
			c := g.client()
			c.Send("GET / HTTP/1.1\r\nHost: a.exam")
			clients = append(clients, c)
		case 1:
			c := g.client()
			c.Send("POST / HTTP/1.1\r\n" + host + "Content-Length: 100000\r\n\r\nabc")
			clients = append(clients, c)
		case 2:
			c := g.lowMinRate()
			c.Send("GET /large HTTP/1.1\r\n" + host + "\r\n")
			clients = append(clients, c)
		}
	}
	began := time.Now()
	g.bystander()
	t.Logf("the bystander waited %v", time.Since(began))
	if n := g.metric("mpgate_connections_total", "end", "timeout"); n > 500 {
		t.Errorf("%v slow clients were gone before the bystander was served", n)
	}
	// Time frees their places.
	g.waitMetric(999, "mpgate_connections_total", "end", "timeout")
	g.bystander()
	g.waitMetric(0, "mpgate_http_requests_in_flight")
	var wait sync.WaitGroup
	for _, c := range clients {
		wait.Go(func() { _ = c.Close() })
	}
	wait.Wait()
	g.waitMetric(0, "mpgate_connections_open")
}
