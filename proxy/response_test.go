package proxy_test

import (
	"bufio"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"mpgate/internal/proxytest"
)

// badResponses are what a server must not get away with: each is a 502 that carries nothing of it
// (rules 1, 2, 9, 10).
var badResponses = []struct{ name, raw, end string }{
	{"no status line", "hello\r\n\r\n", "backend_invalid"},
	{"HTTP/0.9", "<html>hello</html>", "backend_reset"},
	{"another protocol", "ICY 200 OK\r\n\r\n", "backend_invalid"},
	{"HTTP/2", "HTTP/2 200 OK\r\n\r\n", "backend_invalid"},
	{"HTTP/1.2", "HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n", "backend_invalid"},
	{"lower case", "http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "backend_invalid"},
	{"two digits", "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", "backend_invalid"},
	{"four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", "backend_invalid"},
	{"a sign", "HTTP/1.1 +20 OK\r\nContent-Length: 0\r\n\r\n", "backend_invalid"},
	{"below 100", "HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n", "backend_invalid"},
	{"above 599", "HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n", "backend_invalid"},
	{"two spaces", "HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n", "backend_invalid"},
	{"a tab", "HTTP/1.1\t200 OK\r\nContent-Length: 0\r\n\r\n", "backend_invalid"},
	{"a space first", " HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "backend_invalid"},
	{"an empty line first", "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "backend_invalid"},
	{"NUL in the reason", "HTTP/1.1 200 O\x00K\r\nContent-Length: 0\r\n\r\n", "backend_invalid"},
	{"CR in the reason", "HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n", "backend_invalid"},
	{"bare LF", "HTTP/1.1 200 OK\nContent-Length: 0\n\n", "backend_invalid"},
	{"bare LF behind a field", "HTTP/1.1 200 OK\r\nContent-Length: 0\n\r\n", "backend_invalid"},
	{"bare CR in a value", "HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n", "backend_invalid"},
	{"NUL in a value", "HTTP/1.1 200 OK\r\nX: a\x00\r\nContent-Length: 0\r\n\r\n", "backend_invalid"},
	{"folding", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n", "backend_invalid"},
	{"space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n", "backend_invalid"},
	{"no colon", "HTTP/1.1 200 OK\r\nContent-Length\r\n\r\n", "backend_invalid"},
	{"empty name", "HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 0\r\n\r\n", "backend_invalid"},
	{"a name that is no token", "HTTP/1.1 200 OK\r\nX(y): x\r\nContent-Length: 0\r\n\r\n", "backend_invalid"},
	{"both lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"backend_invalid"},
	{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", "backend_invalid"},
	{"two equal lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "backend_invalid"},
	{"a list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello", "backend_invalid"},
	{"an empty length", "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhello", "backend_invalid"},
	{"a negative length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nhello", "backend_invalid"},
	{"a length with a sign", "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", "backend_invalid"},
	{"a length beyond 63 bits", "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\nhello",
		"backend_invalid"},
	{"gzip coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "backend_invalid"},
	{"coding twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"backend_invalid"},
	{"identity", "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhello", "backend_invalid"},
	{"coding in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "backend_invalid"},
	{"coding in a 204", "HTTP/1.1 204 No Content\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
		"backend_invalid"},
	{"an unasked 101", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"backend_invalid"},
	{"a 1xx with a body", "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhello" +
		proxytest.Response("200 OK", "x"), "backend_invalid"},
	{"33 of 1xx", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 33) + proxytest.Response("200 OK", "x"),
		"backend_invalid"},
	{"a head of 70 KiB", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 70<<10) + "\r\nContent-Length: 0\r\n\r\n",
		"backend_invalid"},
	{"300 fields", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 300) + "Content-Length: 0\r\n\r\n",
		"backend_invalid"},
	{"a reason of 70 KiB", "HTTP/1.1 200 " + strings.Repeat("y", 70<<10) + "\r\nContent-Length: 0\r\n\r\n",
		"backend_invalid"},
	{"half a head", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", "backend_reset"},
	{"nothing", "", "backend_reset"},
}

// smuggled answers /evil as the test says, once, and everything else as Echo does. A connection
// that was asked /evil stays open for the test to see whether it is used again.
func smuggled(response string) func(*proxytest.Conn) {
	return func(c *proxytest.Conn) {
		for r := c.Request(); r != nil; r = c.Request() {
			if r.Target != "/evil" {
				c.Send(proxytest.EchoOf(r))
				continue
			}
			c.Send(response)
			if !strings.Contains(response, "\n\r\n") && !strings.Contains(response, "\n\n") || response == "" {
				return // to wait for more would be right
			}
		}
	}
}

func TestRule2MalformedResponsesAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range badResponses {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := plain.origin(t, smuggled(c.raw))
			g := start(t, setup{}, o)
			client := g.client()
			// A POST is not repeated.
			client.Send("POST /evil HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\nhi")
			a := client.AnswerTo("POST")
			want(t, "status", a.Status, 502)
			lacks(t, "the answer", a.Head+a.Body, "hello", "set-cookie", "x: ")
			l := g.log.Next()
			want(t, "end", l.End, c.end)
			want(t, "logged status", l.Status, 502)
			want(t, "tries", l.Tries, 1)
			want(t, "body of the next request", client.Get("/next").Body, "GET /next ")
			g.bystander()
			want(t, "what came behind the request", o.Raw()[0][strings.Index(o.Raw()[0], "\r\n\r\n"):], "\r\n\r\nhi")
			if o.Connections() < 2 {
				t.Error("the connection was used again")
			}
		})
	}
}

// badBodies break after a good head: the client must not take what it has for the whole.
var badBodies = []struct{ name, raw, end string }{
	{"shorter than its length", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", "backend_reset"},
	{"chunks cut", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "backend_reset"},
	{"a chunk cut", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhello", "backend_reset"},
	{"the last chunk cut", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", "backend_reset"},
	{"trailers cut", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n",
		"backend_reset"},
	{"no chunk size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n", "backend_invalid"},
	{"bare LF behind a chunk size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\n\r\n",
		"backend_invalid"},
	{"no CRLF behind a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloworld\r\n0\r\n\r\n",
		"backend_invalid"},
	{"a bad trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX y\r\n\r\n",
		"backend_invalid"},
	{"a trailer of 70 KiB", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: " +
		strings.Repeat("y", 70<<10) + "\r\n\r\n", "backend_invalid"},
	{"short after a 1xx", "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 10\r\n" +
		"\r\nhello", "backend_reset"},
}

func TestRule3BrokenBodiesNeverLookComplete(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		for _, c := range badBodies {
			for _, version := range []string{"1.1", "1.0"} {
				t.Run(c.name+" to "+version, func(t *testing.T) {
					o := m.origin(t, func(k *proxytest.Conn) {
						if r := k.Request(); r == nil || r.Target != "/evil" {
							if r != nil && k.Send(proxytest.EchoOf(r)) {
								proxytest.Echo(k)
							}
							return
						}
						k.Send(c.raw)
					})
					g := start(t, setup{mode: m}, o)
					client := g.client()
					client.Send("GET /evil HTTP/" + version + "\r\n" + host + "\r\n")
					raw, err := client.Rest()
					if looksComplete(raw, err) {
						t.Errorf("the response looks complete: %q, %v", raw, err)
					}
					lacks(t, "the response", raw, "\r\n0\r\n", "xyz", "world")
					want(t, "end", g.log.Next().End, c.end)
					g.bystander()
				})
			}
		}
	})
}

func TestRule3CutUntilClose(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		for _, version := range []string{"1.1", "1.0"} {
			o := m.origin(t, func(k *proxytest.Conn) {
				k.Request()
				k.Send("HTTP/1.1 200 OK\r\n\r\nhello")
				k.Reset()
			})
			g := start(t, setup{mode: m}, o)
			client := g.client()
			client.Send("GET /evil HTTP/" + version + "\r\n" + host + "\r\n")
			raw, err := client.Rest()
			// The reset may overtake the response.
			if looksComplete(raw, err) && !strings.Contains(raw, " 502 ") {
				t.Errorf("a body that ended in a reset looks complete to HTTP/%s: %q, %v", version, raw, err)
			}
			want(t, "end", g.log.Next().End, "backend_reset")
		}
	})
}

// looksComplete reports whether a client would take raw, which was read to the end of the
// connection (an orderly one where err is nil), for a whole response.
func looksComplete(raw string, err error) bool {
	r, bad := http.ReadResponse(bufio.NewReader(strings.NewReader(raw)), nil)
	for bad == nil && r.StatusCode < 200 {
		_, raw, _ = strings.Cut(raw, "\r\n\r\n")
		r, bad = http.ReadResponse(bufio.NewReader(strings.NewReader(raw)), nil)
	}
	if bad != nil {
		return false
	}
	if _, bad = io.ReadAll(r.Body); bad != nil {
		return false
	}
	return err == nil || r.ContentLength >= 0 || len(r.TransferEncoding) > 0
}

func TestRule3CutRequestsNeverLookComplete(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		for name, raw := range map[string]string{
			"length":     "POST /cut HTTP/1.1\r\n" + host + "Content-Length: 10\r\n\r\nhello",
			"chunks":     "POST /cut HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
			"last chunk": "POST /cut HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
			"many chunks": "POST /cut HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n" +
				strings.Repeat("5\r\nhello\r\n", 9000),
			"a large length": "POST /cut HTTP/1.1\r\n" + host + "Content-Length: 1000000\r\n\r\n" +
				strings.Repeat("x", 900000),
		} {
			seen := make(chan *proxytest.Request, 1)
			o := m.origin(t, func(k *proxytest.Conn) {
				r := k.Request()
				if r != nil && r.Target != "/cut" {
					k.Send(proxytest.EchoOf(r))
					proxytest.Echo(k)
					return
				}
				seen <- r
			})
			g := start(t, setup{mode: m}, o)
			client := g.client()
			client.Send(raw)
			client.CloseWrite()
			want(t, name+": end", g.log.Next().End, "client_gone")
			if o.Connections() > 0 {
				if r := <-seen; r != nil {
					t.Errorf("%s: the server took a cut request for whole: %q", name, r.Head)
				}
			}
			g.bystander()
		}
	})
}

func TestRule5BytesAfterAResponseAreDiscarded(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		stolen := proxytest.Response("200 OK", "stolen")
		spoke := make(chan struct{})
		o := m.origin(t, func(c *proxytest.Conn) {
			for r := c.Request(); r != nil; r = c.Request() {
				switch r.Target {
				case "/at-once":
					c.Send(proxytest.Response("200 OK", "own") + stolen)
				case "/later":
					c.Send(proxytest.Response("200 OK", "own"))
					<-spoke
					c.Send(stolen)
					spoke <- struct{}{}
				case "/head":
					c.Send(proxytest.Response("200 OK", "not for a HEAD"))
				case "/204":
					c.Send("HTTP/1.1 204 No Content\r\n\r\n" + stolen)
				default:
					c.Send(proxytest.EchoOf(r))
				}
			}
		})
		g := start(t, setup{mode: m}, o)
		c := g.client()
		want(t, "body", c.Get("/at-once").Body, "own")
		g.bystander()
		want(t, "body of the next", c.Get("/x").Body, "GET /x ")
		want(t, "body", c.Get("/later").Body, "own")
		spoke <- struct{}{}
		<-spoke // now it lies in the kept connection
		g.bystander()
		want(t, "body of the next", c.Get("/y").Body, "GET /y ")
		want(t, "status", c.Get("/204").Status, 204)
		g.bystander()
		c.Send("HEAD /head HTTP/1.1\r\n" + host + "\r\n")
		want(t, "length in the answer to HEAD", c.AnswerTo("HEAD").Header("Content-Length"),
			strconv.Itoa(len("not for a HEAD")))
		g.bystander()
		want(t, "body of the next", c.Get("/z").Body, "GET /z ")
	})
}

// A 426 says what it would take (RFC 9110 section 15.5.22).
func TestUpgradeRequired(t *testing.T) {
	eachPlainMode(t, func(t *testing.T, m mode) {
		g := start(t, setup{mode: m}, m.origin(t, proxytest.Always(proxytest.Response("426 Upgrade Required", "no",
			"Connection: upgrade, X-Hop", "X-Hop: 1", "Upgrade: websocket"))))
		c := g.client()
		for _, want := range []struct{ ask, connection string }{
			{"GET / HTTP/1.1\r\n" + host, "Upgrade"},
			{"GET / HTTP/1.0\r\nConnection: keep-alive\r\n" + host, "Upgrade, keep-alive"},
			{"GET / HTTP/1.1\r\nConnection: close\r\n" + host, "Upgrade, close"},
		} {
			c.Send(want.ask + "\r\n")
			if a := c.Answer(); a.Status != 426 || a.Header("Upgrade") != "websocket" ||
				a.Header("Connection") != want.connection || a.Header("X-Hop") != "" || a.Body != "no" {
				t.Errorf("to %q: %q", want.ask, a.Head)
			}
		}
		c.WantClosed()
	})
}
