package proxy_test

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/message"
)

// earlyServer answers when a part of the body has come, and takes no more: over HTTP/2 with
// RST_STREAM (NO_ERROR).
func earlyServer(t *testing.T, p backend.Protocol, status, body string) *proxytest.Origin {
	if p == backend.HTTP1 {
		return plain.origin(t, func(c *proxytest.Conn) {
			if c.Head() != "" {
				_, _ = c.R.ReadByte()
				c.Send("HTTP/1.1 " + status + " X\r\nContent-Length: 0\r\n\r\n")
				_, _ = c.R.Discard(1 << 30)
			}
		})
	}
	var mu sync.Mutex
	last := uint32(0) // that was answered, of the one connection
	return framesOrigin(t, nil, func(fr *xhttp2.Framer, f xhttp2.Frame) {
		h := f.Header()
		if h.Type == xhttp2.FrameSettings && !h.Flags.Has(xhttp2.FlagSettingsAck) {
			_ = fr.WriteWindowUpdate(0, 1<<24)
		}
		if h.Type != xhttp2.FrameData && !h.Flags.Has(xhttp2.FlagHeadersEndStream) || h.Type == xhttp2.FrameSettings {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if h.StreamID <= last {
			return
		}
		last = h.StreamID
		var b bytes.Buffer
		_ = hpack.NewEncoder(&b).WriteField(hpack.HeaderField{Name: ":status", Value: status})
		_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: h.StreamID, BlockFragment: b.Bytes(),
			EndHeaders: true, EndStream: body == ""})
		if body != "" {
			_ = fr.WriteData(h.StreamID, true, []byte(body))
		}
		if h.Type == xhttp2.FrameData {
			_ = fr.WriteRSTStream(h.StreamID, xhttp2.ErrCodeNo)
		}
	})
}

// A server that refuses an upload before it is whole ends the client's connection: the response
// says so.
func TestEarlyRefusalsSayClose(t *testing.T) {
	t.Parallel()
	for _, m := range []mode{plain, overTLS} {
		for name, p := range map[string]backend.Protocol{"h1": backend.HTTP1, "h2": backend.HTTP2} {
			for framing, part := range map[string]string{
				"Content-Length: 40000\r\n":                      strings.Repeat("x", 20000),
				"Transfer-Encoding: chunked\r\n":                 "5\r\nhello\r\n",
				"Content-Length: 10\r\n":                         "hello",
				"Content-Length: 10\r\nX-Y: 1\r\n":               "h",
				"Expect: 100-continue\r\nContent-Length: 10\r\n": "h",
			} {
				t.Run(strings.Join([]string{m.name, name, strings.Fields(framing)[0], part[:1]}, " "),
					func(t *testing.T) {
						t.Parallel()
						o := earlyServer(t, p, "413", "")
						g := start(t, setup{mode: m, backend: backend.Options{Protocol: p}}, o)
						c := g.client()
						c.Send("POST / HTTP/1.1\r\n" + host + framing + "\r\n" + part)
						a := c.AnswerTo("POST")
						want(t, "status", a.Status, 413)
						want(t, "Connection", a.Header("Connection"), "close")
						want(t, "end", g.log.Next().End, "ok")
					})
			}
		}
	}
}

// A client whose rest comes at once keeps its connection though the server does not take it.
func TestEarlyAnswersKeepAConnectionWhoseBodyEnds(t *testing.T) {
	t.Parallel()
	for _, m := range []mode{plain, overTLS} {
		o := earlyServer(t, backend.HTTP2, "200", "early")
		g := start(t, setup{mode: m, backend: backend.Options{Protocol: backend.HTTP2}}, o)
		c := g.client()
		for range 3 {
			c.Send("POST / HTTP/1.1\r\n" + host + "Content-Length: 200000\r\n\r\n" + strings.Repeat("x", 200_000))
			a := c.AnswerTo("POST")
			want(t, "status", a.Status, 200)
			want(t, "Connection", a.Header("Connection"), "")
			want(t, "body", a.Body, "early")
			l := g.log.Next()
			want(t, "end", l.End, "ok")
			want(t, "bytes in", l.BytesIn, 200_000)
		}
		want(t, "status of the next", c.Get("/").Status, 200)
	}
}

// A server of HTTP/1 that answers instead of sending 100 may take the body for a request: nothing
// else goes by that connection, nor does what the client sends after such an answer.
func TestAnswersInsteadOf100EndTheServersConnection(t *testing.T) {
	t.Parallel()
	const evil = "GET /evil HTTP/1.1\r\nHost: h\r\n\r\n"
	for _, answer := range []string{"200 OK", "401 X", "417 X"} {
		for _, send := range []string{"nothing", "all behind the answer", "all before", "a part before"} {
			for _, two := range []bool{false, true} {
				name := answer + " " + send
				if two {
					name += " by HTTP/2"
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					ready := make(chan struct{}, 1)
					o := plain.origin(t, func(c *proxytest.Conn) {
						for {
							head := c.Head()
							switch {
							case head == "":
								return
							case strings.Contains(head, "100-continue"):
								if strings.HasSuffix(send, "before") {
									_, _ = c.R.Peek(1)
								}
								c.Send(proxytest.Response(answer, "final"))
								ready <- struct{}{}
							default:
								c.Send(proxytest.Response("200 OK", strings.Fields(head)[1]))
							}
						}
					})
					g := start(t, setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}, o)
					before, after := "", ""
					switch send {
					case "all behind the answer":
						after = evil
					case "all before":
						before = evil
					case "a part before":
						before, after = evil[:10], evil[10:]
					}
					if two {
						expectHTTP2(t, g, before, after, len(evil), answer)
					} else {
						c := g.client()
						c.Send("POST /up HTTP/1.1\r\n" + host + "Expect: 100-continue\r\nContent-Length: " +
							strconv.Itoa(len(evil)) + "\r\n\r\n" + before)
						want(t, "status", strconv.Itoa(c.AnswerTo("POST").Status), answer[:3])
						c.Send(after)
						c.Close()
					}
					<-ready
					want(t, "end", g.log.Next().End, "ok")
					g.waitMetric(0, "mpgate_backend_connections_open")
					want(t, "body of the next", g.client().Get("/next").Body, "/next")
					want(t, "connections", o.Connections(), 2)
					if send == "all behind the answer" && strings.Contains(o.AllRaw(), "/evil") {
						t.Errorf("the server got %q", o.AllRaw())
					}
				})
			}
		}
	}
}

func expectHTTP2(t *testing.T, g *gateway, before, after string, length int, answer string) {
	s, err := multiplexed(t, g.addr).Open()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	r := &message.Request{Method: []byte("POST"), Scheme: "http", Host: []byte("h"), Path: []byte("/up"),
		ContentLength: int64(length), Expect: true}
	var resp message.Response
	if err := errors.Join(s.WriteHead(r), s.WriteBody([]byte(before)), s.Flush(),
		s.ReadHead(&resp, time.Now().Add(proxytest.Patience))); err != nil {
		t.Fatal(err)
	}
	want(t, "status", strconv.Itoa(resp.Status), answer[:3])
	_ = s.WriteBody([]byte(after))
	_ = s.Flush()
}

// One that has sent 100 has taken the body, and its connection is used again.
func TestExpectationsThatAreMetKeepTheServersConnection(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, proxytest.Echo)
	g := start(t, setup{mode: plain}, o)
	c := g.client()
	for range 3 {
		c.Send("POST / HTTP/1.1\r\n" + host + "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
		want(t, "interim status", c.ReadHead().Status, 100)
		c.Send("hi")
		want(t, "body", c.AnswerTo("POST").Body, "POST / hi")
	}
	want(t, "connections", o.Connections(), 1)
}
