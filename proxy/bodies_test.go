package proxy_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"mpgate/internal/proxytest"
)

func TestFramingsInBothDirections(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		large := strings.Repeat("0123456789abcdef", 20<<10) // 320 KiB
		o := m.origin(t, func(c *proxytest.Conn) {
			for r := c.Request(); r != nil; r = c.Request() {
				switch r.Target {
				case "/chunked":
					c.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3;ext=\"1\"\r\n" +
						"foo\r\n0003\r\nbar\r\n")
					fmt.Fprintf(c.Conn, "%X\r\n%s\r\n", len(large), large)
					c.Send("0;last\r\nX-Sum: 42\r\nContent-Length: 3\r\n\r\n")
				case "/until-close":
					c.Send("HTTP/1.1 200 OK\r\n\r\n" + large)
					return
				case "/length":
					c.Send(proxytest.Response("200 OK", large))
				case "/204":
					c.Send("HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n")
				case "/304":
					c.Send("HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: \"x\"\r\n\r\n")
				case "/empty":
					c.Send(proxytest.Response("200 OK", ""))
				case "/empty-chunked":
					c.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
				default:
					c.Send(proxytest.EchoOf(r))
				}
			}
		})
		g := start(t, setup{mode: m}, o)
		c := g.client()
		for _, e := range []struct {
			path, body, length, coding string
			status                     int
		}{
			{"/chunked", "foobar" + large, "", "chunked", 200}, {"/length", large, fmt.Sprint(len(large)), "", 200},
			{"/204", "", "", "", 204},
			{"/304", "", "99", "", 304}, {"/empty", "", "0", "", 200}, {"/empty-chunked", "", "", "chunked", 200},
			{"/until-close", large, "", "chunked", 200},
		} {
			a := c.Get(e.path)
			want(t, e.path+": status", a.Status, e.status)
			want(t, e.path+": Content-Length", a.Header("Content-Length"), e.length)
			want(t, e.path+": Transfer-Encoding", a.Header("Transfer-Encoding"), e.coding)
			if a.Body != e.body || a.BodyErr != nil {
				t.Errorf("%s: got %d bytes of body, %v; want %d", e.path, len(a.Body), a.BodyErr, len(e.body))
			}
			l := g.log.Next()
			want(t, e.path+": bytes out", l.BytesOut, int64(len(e.body)))
			want(t, e.path+": end", l.End, "ok")
			if e.path == "/chunked" {
				want(t, "trailers", a.Trailer, "X-Sum: 42\r\n")
			}
			lacks(t, e.path, a.Head, "connection:")
			contains(t, e.path, a.Head, "\r\nDate: ")
			lacks(t, e.path+": chunks", a.Chunks, "ext", "last", "content-length")
		}
		for _, body := range []string{"", "x", "hello", large} {
			c.Send(fmt.Sprintf("PUT /l HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s", host, len(body), body))
			if a := c.AnswerTo("PUT"); a.Body != "PUT /l "+body {
				t.Errorf("a body of %d bytes came back as %d", len(body), len(a.Body)-7)
			}
			want(t, "bytes in", g.log.Next().BytesIn, int64(len(body)))
			c.Send(fmt.Sprintf("PUT /c HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n", host))
			if body != "" {
				// For "x" this is the end of it.
				c.Send(fmt.Sprintf("1;x\r\n%s\r\n%x\r\n%s\r\n", body[:1], len(body[1:]), body[1:]))
			}
			if len(body) != 1 {
				c.Send("0\r\n")
				c.Send("X-Sum: 42\r\n\r\n")
			}
			if a := c.AnswerTo("PUT"); a.Body != "PUT /c "+body {
				t.Errorf("a chunked body of %d bytes came back as %d", len(body), len(a.Body)-7)
			}
			want(t, "bytes in", g.log.Next().BytesIn, int64(len(body)))
		}
		want(t, "trailers at the server", strings.Count(o.AllRaw(), "\r\n0\r\nX-Sum: 42\r\n\r\n"), 3)
		g.bystander()
	})
}

func TestHead(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, func(c *proxytest.Conn) {
			for r := c.Request(); r != nil; r = c.Request() {
				switch r.Target {
				case "/length":
					c.Send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
				case "/chunked":
					c.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
				case "/neither":
					c.Send("HTTP/1.1 200 OK\r\n\r\n")
				default:
					c.Send(proxytest.EchoOf(r))
				}
			}
		})
		g := start(t, setup{mode: m}, o)
		c := g.client()
		for _, path := range []string{"/length", "/chunked", "/neither"} {
			c.Send("HEAD " + path + " HTTP/1.1\r\n" + host + "\r\n")
			a := c.AnswerTo("HEAD")
			want(t, path+": status", a.Status, 200)
			want(t, path+": has a length", a.Has("Content-Length"), path == "/length")
			want(t, path+": end", g.log.Next().End, "ok")
		}
		want(t, "body of the next", c.Get("/x").Body, "GET /x ")
		want(t, "connections to the server", o.Connections(), 1)
	})
}

func TestExpectContinue(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, func(c *proxytest.Conn) {
			for head := c.Head(); head != ""; head = c.Head() {
				if strings.HasPrefix(head, "GET") {
					c.Send(proxytest.Response("200 OK", "got"))
					continue
				}
				if n := c.R.Buffered(); n > 0 {
					t.Errorf("%d bytes of the body came before the server had asked for it", n)
				}
				if strings.HasPrefix(head, "POST /no") {
					c.Send(proxytest.Response("413 Content Too Large", "no", "Connection: close"))
					return
				}
				c.Send("HTTP/1.1 100 Continue\r\n\r\n")
				body := make([]byte, 5)
				_, _ = io.ReadFull(c.R, body)
				c.Send(proxytest.Response("200 OK", string(body)))
			}
		})
		g := start(t, setup{mode: m}, o)
		c := g.client()
		for range 3 {
			c.Send("POST /yes HTTP/1.1\r\n" + host + "Expect: 100-Continue\r\nContent-Length: 5\r\n\r\n")
			if a := c.ReadHead(); a.Head != "HTTP/1.1 100 Continue\r\n\r\n" {
				t.Fatalf("got %q, want a 100", a.Head)
			}
			c.Send("hello")
			a := c.AnswerTo("POST")
			want(t, "body", a.Body, "hello")
			lacks(t, "a response behind the whole body", a.Head, "connection:")
			want(t, "end", g.log.Next().End, "ok")
		}
		c.Send("POST /no HTTP/1.1\r\n" + host + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
		a := c.AnswerTo("POST")
		want(t, "status", a.Status, 413)
		want(t, "Connection", a.Header("Connection"), "close")
		c.WantClosed()
		l := g.log.Next()
		want(t, "end", l.End, "ok")
		want(t, "bytes in", l.BytesIn, 0)
		// An expectation without a body, or of HTTP/1.0, is none.
		c = g.client()
		c.Send("GET / HTTP/1.1\r\n" + host + "Expect: 100-continue\r\n\r\n")
		want(t, "body", c.Answer().Body, "got")
		c.Send("GET / HTTP/1.0\r\n" + host + "Expect: 100-continue\r\n\r\n")
		want(t, "body", c.Answer().Body, "got")
		want(t, "expectations at the server", strings.Count(o.AllRaw(), "Expect:"), 4)
	})
}

func TestOptionsAsterisk(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, proxytest.Echo)
		g := start(t, setup{mode: m}, o)
		c := g.client()
		c.Send("OPTIONS * HTTP/1.1\r\n" + host + "\r\n")
		want(t, "body", c.AnswerTo("OPTIONS").Body, "OPTIONS * ")
		want(t, "logged path", g.log.Next().Path, "*")
		c.Send("GET * HTTP/1.1\r\n" + host + "\r\n")
		want(t, "status of GET *", c.Answer().Status, 400)
	})
}

func TestMaxForwards(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, proxytest.Echo)
		g := start(t, setup{mode: m}, o)
		for _, c := range []struct {
			method, fields string
			status         int
			passed         string // Max-Forwards at the server
		}{
			{"OPTIONS", "Max-Forwards: 3\r\n", 200, "2"},
			{"TRACE", "max-forwards: 1\r\n", 200, "0"},
			{"GET", "Max-Forwards: 0\r\n", 200, "0"}, // it means nothing there
			{"OPTIONS", "Max-Forwards: 0\r\n", 200, ""},
			{"TRACE", "Max-Forwards: 0\r\n", 501, ""},
			{"OPTIONS", "Max-Forwards: -1\r\n", 400, ""},
			{"OPTIONS", "Max-Forwards: 1\r\nMax-Forwards: 2\r\n", 400, ""},
			{"OPTIONS", "Max-Forwards: 99999999999999999999\r\n", 400, ""},
		} {
			before := strings.Count(o.AllRaw(), "HTTP/1.1")
			client := g.client()
			client.Send(c.method + " /x HTTP/1.1\r\n" + host + c.fields + "\r\n")
			what := c.method + " with " + c.fields
			want(t, what, client.AnswerTo(c.method).Status, c.status)
			g.log.Next()
			raw := o.AllRaw()
			if got := strings.Count(raw, "HTTP/1.1") - before; got != len(c.passed) {
				t.Errorf("%s: %d requests reached the server", what, got)
			}
			if c.passed != "" {
				contains(t, what, strings.ToLower(raw[strings.LastIndex(raw, c.method+" /x"):]),
					"max-forwards: "+c.passed+"\r\n")
			}
		}
	})
}

func TestShortestRequestIsAnsweredAtOnce(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, proxytest.Echo)
		g := start(t, setup{mode: m}, o)
		c := g.client()
		c.Send("\r\nG / HTTP/1.0\r\n\r\n") // an empty line before a request is ignored
		raw, err := c.Rest()
		if err != nil || !strings.HasSuffix(raw, "\r\n\r\nG / ") {
			t.Errorf("got %q, %v", raw, err)
		}
		r := &proxytest.Request{Head: o.Raw()[0]}
		want(t, "Host at the server", r.Header("Host"), o.Address())
		want(t, "X-Forwarded-Host at the server", r.Has("X-Forwarded-Host"), false)
	})
}

func TestBytesArriveInAnyPieces(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, func(c *proxytest.Conn) {
			for r := c.Request(); r != nil; r = c.Request() {
				for _, b := range []byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\necho\r\n0\r\n" +
					"X-T: t\r\n\r\n") {
					c.Send(string(b))
				}
			}
		})
		g := start(t, setup{mode: m}, o)
		c := g.client()
		const request = "POST /slow HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n" +
			"X-T: t\r\n\r\n"
		for range 3 {
			for _, b := range []byte(request) {
				c.Send(string(b))
			}
			a := c.AnswerTo("POST")
			want(t, "body", a.Body, "echo")
			want(t, "trailer", a.Trailer, "X-T: t\r\n")
		}
		fewConnections(t, m, o)
		want(t, "requests at the server", strings.Count(o.AllRaw(), "0\r\nX-T: t\r\n\r\n"), 3)
	})
}
