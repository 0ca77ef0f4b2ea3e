package proxy_test

import (
	"io"
	"strings"
	"testing"

	"mpgate/internal/proxytest"
)

func TestCase9ExpectAndAFinalAnswerAtOnce(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, func(c *proxytest.Conn) {
			for {
				head := c.Head()
				switch {
				case head == "":
					return
				case strings.HasPrefix(head, "POST"):
					if !strings.Contains(head, "\r\nExpect: 100-continue\r\n") {
						t.Errorf("the expectation did not arrive: %q", head)
					}
					c.Send(proxytest.Response("200 OK", "early"))
					if _, err := io.ReadFull(c.R, make([]byte, 5)); err != nil {
						return
					}
				default:
					line, _, _ := strings.Cut(head, " HTTP/")
					c.Send(proxytest.Response("200 OK", line+" "))
				}
			}
		})
		g := start(t, setup{mode: m}, o)
		// A client that waits for the 100, and one that does not.
		for _, body := range []string{"", "hello"} {
			for range 10 {
				c := g.client()
				c.Send("POST /upload HTTP/1.1\r\n" + host + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n" + body)
				a := c.AnswerTo("POST")
				want(t, "body", a.Body, "early")
				// It is unknown whether a body still comes: the connection must not carry another
				// request, unless the body has come whole.
				if body == "" {
					want(t, "Connection", a.Header("Connection"), "close")
				}
				if a.Has("Connection") {
					c.WantClosed()
				}
				c.Close()
			}
			c := g.client()
			for range 2 {
				want(t, "body of the GET", c.Get("/after").Body, "GET /after ")
			}
			g.bystander()
		}
		for _, raw := range o.Raw() {
			if i := strings.Index(raw, "Expect: 100-continue"); i >= 0 &&
				strings.Count(raw[i:], " HTTP/1.1\r\n") > 0 && !strings.Contains(raw[i:], "\r\n\r\nhello") {
				t.Errorf("a connection that owes a body was used again: %q", raw[i:])
			}
		}
	})
}

func TestCase10NominatedFieldsOfTheGateway(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, proxytest.Echo)
		g := start(t, setup{mode: m}, o)
		for _, connection := range []string{
			"Connection: close, X-Real-IP, X-Forwarded-For\r\n",
			"Connection: CLOSE,x-real-ip , X-FORWARDED-FOR\r\n",
			"connection: x-forwarded-for\r\nConnection: x-real-ip, x-forwarded-proto, x-forwarded-host, x-request-id, Host\r\n",
		} {
			c := g.client()
			c.Send("GET / HTTP/1.1\r\n" + host + connection + "X-Real-IP: 1.2.3.4\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n")
			want(t, "status", c.Answer().Status, 200)
			c.Close()
		}
		for _, raw := range o.Raw() {
			for _, head := range strings.SplitAfter(raw, "\r\n\r\n") {
				if head == "" {
					continue
				}
				r := &proxytest.Request{Head: head}
				want(t, "X-Forwarded-For", r.Header("X-Forwarded-For"), "127.0.0.1")
				want(t, "X-Real-IP", r.Header("X-Real-IP"), "127.0.0.1")
				want(t, "X-Forwarded-Proto", r.Header("X-Forwarded-Proto"), m.scheme())
				want(t, "X-Forwarded-Host", r.Header("X-Forwarded-Host"), "a.example")
				want(t, "Host", r.Header("Host"), "a.example")
				want(t, "length of X-Request-ID", len(r.Header("X-Request-ID")), 32)
				lacks(t, "the server's request", head, "connection:")
			}
		}
		g.bystander()
	})
}

func TestCase11AndRule6HopByHopOffResponses(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		const hop = "Connection: X-Nominated, close\r\nCONNECTION: x-second,,\tKeep-Alive\r\nX-Nominated: a\r\n" +
			"X-Second: b\r\nKeep-Alive: timeout=5\r\n" +
			"Proxy-Authenticate: Basic\r\nProxy-Connection: x\r\nTE: gzip\r\nX-End: stays\r\n"
		o := m.origin(t, func(c *proxytest.Conn) {
			for r := c.Request(); r != nil; r = c.Request() {
				switch r.Target {
				case "/final":
					c.Send("HTTP/1.1 103 Early Hints\r\n" + hop + "Upgrade: x\r\n\r\n")
					c.Send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nUpgrade: x\r\n" + hop + "\r\nhi")
					return
				case "/chat":
					c.Send("HTTP/1.1 103 Early Hints\r\n" + hop + "\r\n")
					c.Send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
						hop + "\r\n")
					return
				}
				c.Send(proxytest.EchoOf(r))
			}
		})
		g := start(t, setup{mode: m}, o)
		hopByHop := []string{"x-nominated", "x-second", "keep-alive", "proxy-", "\nte:"}
		c := g.client()
		a := c.Get("/final")
		want(t, "number of interim responses", len(a.Interims), 1)
		for _, head := range append(a.Interims, a.Head) {
			lacks(t, "the response", head, hopByHop...)
			lacks(t, "the response", head, "upgrade")
			contains(t, "the response", head, "X-End: stays\r\n")
		}
		want(t, "body", a.Body, "hi")
		want(t, "body", c.Get("/x").Body, "GET /x ") // close was the server's business only
		c.Send(upgrade)
		a = c.Answer()
		want(t, "status", a.Status, 101)
		for _, head := range append(a.Interims, a.Head) {
			lacks(t, "the response", head, hopByHop...)
			contains(t, "the response", head, "X-End: stays\r\n")
		}
		want(t, "Connection", a.Header("Connection"), "Upgrade")
		want(t, "Upgrade", a.Header("Upgrade"), "websocket")
		g.bystander()
	})
}

func TestRule6HopByHopOffRequests(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, proxytest.Echo)
		g := start(t, setup{mode: m}, o)
		c := g.client()
		c.Send("POST / HTTP/1.1\r\n" + host + "Connection: X-A, keep-alive\r\nconnection: close , x-b\r\nX-A: 1\r\n" +
			"x-B: 2\r\nX-b: 3\r\nKeep-Alive: 5\r\n" +
			"Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic x\r\nTE: trailers, deflate\r\n" +
			"Trailer: X-T\r\nTransfer-Encoding: chunked\r\nX-C: stays\r\n\r\n" +
			"2\r\nhi\r\n0\r\nX-T: t\r\nX-A: 4\r\nContent-Length: 9\r\nAuthorization: x\r\n\r\n")
		a := c.AnswerTo("POST")
		want(t, "body", a.Body, "POST / hi")
		want(t, "Connection", a.Header("Connection"), "close")
		raw := o.Raw()[0]
		lacks(t, "the server's request", raw, "x-a:", "x-b:", "keep-alive", "proxy-", "deflate", "content-length",
			"authorization")
		contains(t, "the server's request", raw, "X-C: stays\r\n", "Trailer: X-T\r\n",
			"Connection: TE\r\nTE: trailers\r\n", "2\r\nhi\r\n0\r\nX-T: t\r\n\r\n")
		g.bystander()
	})
}

func TestRule4InterimResponses(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, func(c *proxytest.Conn) {
			for r := c.Request(); r != nil; r = c.Request() {
				if r.Target == "/hints" {
					for i := range 30 {
						c.Send("HTTP/1.1 " + []string{"103 Early Hints", "102 Processing", "199 Odd"}[i%3] +
							"\r\nLink: </s.css>\r\n\r\n")
					}
				}
				c.Send(proxytest.EchoOf(r))
			}
		})
		g := start(t, setup{mode: m}, o)
		c := g.client()
		a := c.Get("/hints")
		want(t, "number of interim responses", len(a.Interims), 30)
		for _, i := range a.Interims {
			contains(t, "an interim response", i, "HTTP/1.1 1", "Link: </s.css>\r\n")
			lacks(t, "an interim response", i, "date:", "content-length", "connection")
		}
		want(t, "body", a.Body, "GET /hints ")
		c.Send("GET /hints HTTP/1.0\r\n" + host + "\r\n")
		raw, err := c.Rest()
		if err != nil || !strings.HasPrefix(raw, "HTTP/1.1 200 OK\r\n") || strings.Contains(raw, "Link") {
			t.Errorf("an HTTP/1.0 client got %q, %v", raw, err)
		}
		g.bystander()
	})
}

func TestRule4SwitchOnlyToWhatWasAskedFor(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		for _, answer := range []string{
			"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n",
			"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n",
			"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
			"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket, other\r\n\r\n",
		} {
			o := m.origin(t, func(c *proxytest.Conn) {
				for r := c.Request(); r != nil; r = c.Request() {
					if r.Target == "/chat" {
						c.Send(answer + "bytes of the tunnel")
						c.Request()
						return
					}
					c.Send(proxytest.EchoOf(r))
				}
			})
			g := start(t, setup{mode: m}, o)
			c := g.client()
			c.Send(upgrade)
			a := c.Answer()
			want(t, "status", a.Status, 502)
			want(t, "end", g.log.Next().End, "backend_invalid")
			want(t, "body", c.Get("/x").Body, "GET /x ")
			g.bystander()
		}
	})
}

func TestRule7HTTP10(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, func(c *proxytest.Conn) {
			for r := c.Request(); r != nil; r = c.Request() {
				contains(t, "the server's request line", r.Head, r.Target+" HTTP/1.1\r\n")
				switch r.Target {
				case "/chunked":
					c.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n5\r\nhello\r\n6\r\n" +
						" world\r\n0\r\nX-T: t\r\n\r\n")
				case "/old":
					c.Send("HTTP/1.0 200 Fine\r\n\r\nhello world")
					return
				case "/old-kept":
					c.Send("HTTP/1.0 200 Fine\r\nConnection: keep-alive\r\nContent-Length: 11\r\n\r\nhello world")
				default:
					c.Send(proxytest.EchoOf(r))
				}
			}
		})
		g := start(t, setup{mode: m}, o)
		for _, path := range []string{"/chunked", "/old"} {
			c := g.client()
			c.Send("GET " + path + " HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
			raw, err := c.Rest()
			if err != nil || !strings.HasPrefix(raw, "HTTP/1.1 200 ") ||
				!strings.HasSuffix(raw, "\r\n\r\nhello world") {
				t.Errorf("%s: an HTTP/1.0 client got %q, %v", path, raw, err)
			}
			lacks(t, "a response to HTTP/1.0", raw, "transfer-encoding", "keep-alive", "x-t: t")
		}
		c := g.client()
		for range 2 {
			a := c.Get("/old")
			contains(t, "the response of an HTTP/1.0 server", a.Head, "HTTP/1.1 200 Fine\r\n",
				"Transfer-Encoding: chunked\r\n")
			want(t, "body", a.Body, "hello world")
			lacks(t, "the response of an HTTP/1.0 server", a.Head, "connection:")
		}
		before := o.Connections()
		want(t, "body", c.Get("/old-kept").Body, "hello world")
		want(t, "body", c.Get("/old-kept").Body, "hello world")
		want(t, "connections for two requests of a kept HTTP/1.0 connection", o.Connections()-before, 1)
		c.Send("GET /a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
		a := c.Answer()
		want(t, "Connection", a.Header("Connection"), "keep-alive")
		want(t, "body", a.Body, "GET /a ")
		c.Send("GET /b HTTP/1.0\r\n\r\n")
		a = c.Answer()
		want(t, "Connection", a.Header("Connection"), "close")
		c.WantClosed()
		g.bystander()
	})
}

func TestRule8TabBeforeAValue(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, proxytest.Echo)
	g := start(t, setup{}, o)
	c := g.client()
	c.Send("GET / HTTP/1.1\r\nHost:\ta.example \t\r\nX-A:\t b\t c\t\r\nContent-Length:\t0\r\n\r\n")
	want(t, "status", c.Answer().Status, 200)
	contains(t, "the server's request", o.Raw()[0], "Host: a.example\r\n", "X-A: b\t c\r\n")
	// Also on pipelined requests.
	c.Send("GET / HTTP/1.1\r\n" + host + "\r\nGET / HTTP/1.1\r\nHost: a.example, b\r\n\r\n")
	want(t, "status", c.Answer().Status, 200)
	want(t, "status", c.Answer().Status, 400)
	g.bystander()
}
