package proxy_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/proxy/backend"
)

func TestHeaderLimits(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, proxytest.Echo)
		s := setup{mode: m}
		s.options.HeaderBytes, s.options.HeaderFields = 4<<10, 20
		g := start(t, s, o)
		for name, e := range map[string]struct {
			raw    string
			status int
		}{
			"a long line":      {"GET /" + strings.Repeat("x", 5<<10) + " HTTP/1.1\r\n" + host + "\r\n", 414},
			"an endless line":  {"GET /" + strings.Repeat("x", 100<<10), 414},
			"a long field":     {"GET / HTTP/1.1\r\n" + host + "X: " + strings.Repeat("x", 5<<10) + "\r\n\r\n", 431},
			"an endless field": {"GET / HTTP/1.1\r\n" + host + "X: " + strings.Repeat("x", 100<<10), 431},
			"many fields":      {"GET / HTTP/1.1\r\n" + host + strings.Repeat("X: y\r\n", 20) + "\r\n", 431},
			"long trailers": {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\nX: " +
				strings.Repeat("x", 5<<10) + "\r\n\r\n", 431},
			"many trailers": {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n" +
				strings.Repeat("X: y\r\n", 21) + "\r\n", 431},
			"a large chunk": {"POST / HTTP/1.1\r\n" + host +
				"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", 413},
		} {
			c := g.client()
			go func() { _, _ = io.WriteString(c.Conn, e.raw) }() // it may not take all
			a := c.Answer()
			want(t, name+": status", a.Status, e.status)
			want(t, name+": Connection", a.Header("Connection"), "close")
			l := g.log.Next()
			want(t, name+": end", l.End, "limit")
			if e.status == 431 {
				want(t, name+": method and path", l.Method+" "+l.Path, e.raw[:strings.Index(e.raw, " HTTP/")])
			}
			c.Close()
		}
		c := g.client()
		c.Send("GET /" + strings.Repeat("x", 3<<10) + " HTTP/1.1\r\n" + host + strings.Repeat("X: y\r\n", 19) + "\r\n")
		want(t, "status within the limits", c.Answer().Status, 200)
		g.bystander()
	})
}

// quickTime is long enough for a busy machine, and can be waited for.
const quickTime = time.Second

// quick is a gateway with such limits.
func quick(m mode) setup {
	s := setup{mode: m}
	s.options.HeaderTime, s.options.IdleTime, s.options.MinRate = quickTime, quickTime, 1000
	return s
}

func TestCase18SilentConnections(t *testing.T) {
	eachPlainMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, proxytest.Echo)
		g := start(t, quick(m), o)
		began := time.Now()
		c := proxytest.Dial(t, g.addr, m.mptcp) // says nothing
		c.WantClosed()
		if took := time.Since(began); took < quickTime || took > 10*quickTime {
			t.Errorf("a silent connection was closed after %v", took)
		}
		g.waitMetric(1, "mpgate_connections_total", "end", "silent")
		for _, half := range []string{"G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\n" + host + "X: y"} {
			c := g.client()
			c.Send(half)
			a := c.Answer()
			want(t, "status", a.Status, 408)
			c.CloseWrite()
			c.WantClosed()
			l := g.log.Next()
			want(t, "end", l.End, "client_timeout")
			want(t, "route", l.Route, "")
			if l.Duration < 900 {
				t.Errorf("the head was given up after %v ms", l.Duration)
			}
		}
		g.bystander()
	})
}

func TestCase18SilentUnixConnection(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, proxytest.Echo)
	s := quick(plain)
	s.address = "unix"
	g := start(t, s, o)
	g.client().WantClosed()
	c := g.client()
	c.Send("GET ")
	want(t, "status", c.Answer().Status, 408)
	g.bystander()
}

func TestTricklingHeadMeetsItsTime(t *testing.T) {
	eachPlainMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, proxytest.Echo)
		s := quick(m)
		g := start(t, s, o)
		c := g.client()
		began := time.Now()
		done := make(chan struct{})
		go func() {
			defer close(done)
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for _, b := range []byte("GET / HTTP/1.1\r\n" + host + strings.Repeat("X: y\r\n", 100)) {
				<-tick.C
				if _, err := c.Conn.Write([]byte{b}); err != nil {
					return
				}
			}
		}()
		want(t, "status", c.Answer().Status, 408)
		if took := time.Since(began); took < quickTime*9/10 {
			t.Errorf("the head was given up after %v", took)
		}
		c.Close()
		<-done
		want(t, "end", g.log.Next().End, "client_timeout")
	})
}

func TestIdleTimeBetweenRequests(t *testing.T) {
	eachPlainMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, proxytest.Echo)
		g := start(t, quick(m), o)
		c := g.client()
		began := time.Now()
		c.Get("/")
		c.WantClosed()
		if took := time.Since(began); took < quickTime {
			t.Errorf("closed after %v", took)
		}
		g.waitMetric(1, "mpgate_connections_total", "end", "idle")
		g.log.Next()
		if rest := g.lines(); len(rest) > 0 {
			t.Errorf("an idle connection is in the log: %+v", rest)
		}
	})
}

func TestSlowUploads(t *testing.T) {
	eachPlainMode(t, func(t *testing.T, m mode) {
		for name, bytes := range map[string]string{"silent": "", "trickling": strings.Repeat("x", 500)} {
			for _, framing := range []string{"Content-Length: 10000\r\n", "Transfer-Encoding: chunked\r\n"} {
				t.Run(name+" "+framing[:1], func(t *testing.T) {
					t.Parallel()
					ended := make(chan bool, 1)
					o := m.origin(t, func(c *proxytest.Conn) {
						if r := c.Request(); r != nil && r.Method == "GET" {
							c.Send(proxytest.EchoOf(r))
							proxytest.Echo(c)
						} else {
							ended <- r == nil
						}
					})
					g := start(t, quick(m), o)
					c := g.client()
					c.Send("POST /slow HTTP/1.1\r\n" + host + framing + "\r\n")
					if framing[0] == 'T' {
						c.Send("1000\r\n")
					}
					done := make(chan struct{})
					go func() {
						defer close(done)
						// 50 bytes a second; 1,000 are wanted.
						tick := time.NewTicker(20 * time.Millisecond)
						defer tick.Stop()
						for _, b := range []byte(bytes) {
							<-tick.C
							if _, err := c.Conn.Write([]byte{b}); err != nil {
								return
							}
						}
					}()
					a := c.AnswerTo("POST")
					want(t, "status", a.Status, 408)
					contains(t, "the body", a.Body, "the request body did not arrive in time")
					want(t, "the server saw a broken body", <-ended, true)
					want(t, "end", g.log.Next().End, "client_timeout")
					c.Close()
					<-done
					g.bystander()
				})
			}
		}
	})
}

// lowMinRate connects with the smallest receive buffer that there is.
func (g *gateway) lowMinRate() *proxytest.Client {
	g.t.Helper()
	c := g.client()
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(1)
	}
	return c
}

// A client that waits for a 100 is not slow: the server is, and has its own time.
func TestWaitingFor100(t *testing.T) {
	const idle, response = 300 * time.Millisecond, 3 * time.Second
	eachPlainMode(t, func(t *testing.T, m mode) {
		for name, c := range map[string]struct {
			says   bool // the server says 100
			sends  bool // the client sends its body then
			status int
			end    string
			after  time.Duration
		}{
			"the server takes its time":      {true, true, 200, "ok", 2 * idle},
			"the server never says anything": {false, false, 504, "backend_timeout", response},
			"the client has no body":         {true, false, 408, "client_timeout", 3 * idle},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				o := m.origin(t, func(k *proxytest.Conn) {
					for head := k.Head(); head != ""; head = k.Head() {
						<-time.After(2 * idle)
						if c.says {
							k.Send("HTTP/1.1 100 Continue\r\n\r\n")
						}
						if _, err := io.ReadFull(k.R, make([]byte, 5)); err != nil {
							return
						}
						k.Send(proxytest.Response("200 OK", "got"))
					}
				})
				s := setup{mode: m, backend: backend.Options{ResponseTimeout: response}}
				s.options.IdleTime = idle
				g := start(t, s, o)
				k := g.client()
				began := time.Now()
				k.Send("POST / HTTP/1.1\r\n" + host + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
				if c.says {
					want(t, "the interim answer", k.ReadHead().Status, 100)
				}
				if c.sends {
					k.Send("hello")
				}
				want(t, "status", k.AnswerTo("POST").Status, c.status)
				if took := time.Since(began); took < c.after {
					t.Errorf("it took %v, want at least %v", took, c.after)
				}
				want(t, "end", g.log.Next().End, c.end)
			})
		}
	})
}

func TestSlowReaders(t *testing.T) {
	eachPlainMode(t, func(t *testing.T, m mode) {
		// Reads nothing, or 100 bytes at that pace.
		for _, pace := range []time.Duration{0, 50 * time.Millisecond} {
			t.Run(pace.String(), func(t *testing.T) {
				t.Parallel()
				gone := make(chan struct{}, 1)
				o := m.origin(t, func(c *proxytest.Conn) {
					if r := c.Request(); r == nil || r.Target != "/large" {
						c.Send(proxytest.EchoOf(r))
						proxytest.Echo(c)
						return
					}
					fmt.Fprintf(c.Conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 64<<20)
					for range 64 {
						if _, err := c.Conn.Write(pattern); err != nil {
							break
						}
					}
					gone <- struct{}{}
				})
				s := quick(m)
				s.options.MinRate = 100 << 10
				g := start(t, s, o)
				c := g.lowMinRate()
				c.Send("GET /large HTTP/1.1\r\n" + host + "\r\n")
				stop, done := make(chan struct{}), make(chan struct{})
				go func() {
					defer close(done)
					if pace == 0 {
						return
					}
					tick := time.NewTicker(pace)
					defer tick.Stop()
					for b := make([]byte, 100); ; {
						select {
						case <-tick.C:
						case <-stop:
							return
						}
						if _, err := c.Conn.Read(b); err != nil {
							return
						}
					}
				}()
				<-gone
				l := g.log.Next()
				want(t, "end", l.End, "client_timeout")
				want(t, "status", l.Status, 200)
				g.waitMetric(1, "mpgate_connections_total", "end", "timeout")
				close(stop)
				<-done
				g.bystander()
			})
		}
	})
}

func TestSlowSourceIsNotASlowReader(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, func(c *proxytest.Conn) {
		c.Request()
		c.Send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for range 10 { // a second in all, at 10 bytes a second
			<-tick.C
			c.Send("x")
		}
	})
	g := start(t, quick(plain), o)
	a := g.client().Get("/")
	if a.Body != "xxxxxxxxxx" || a.BodyErr != nil {
		t.Errorf("got %q, %v", a.Body, a.BodyErr)
	}
	want(t, "end", g.log.Next().End, "ok")
}
