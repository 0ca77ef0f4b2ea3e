package proxy_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/message"
	"mpgate/proxy/preread"
)

// returner is an HTTP/2 server that returns some requests unprocessed, and answers the others with
// what came.
type returner struct {
	t testing.TB
	// decide says the outcome of the nth request, from 1, on the nth connection, at a stage of it:
	// "head", "data" or "end". "": it continues; "GOAWAY" and "REFUSED_STREAM" give it back;
	// "close" is GOAWAY and the end of the connection.
	decide func(stage string, request, conn int) string

	mu        sync.Mutex
	asked     int
	conns     int
	processed map[string]int // by method and path
}

// got is a request as it comes.
type got struct {
	n       int
	what    string
	body    bytes.Buffer
	trailer string
	over    bool
}

func newReturner(t testing.TB, decide func(stage string, request, conn int) string) (*returner, *proxytest.Origin) {
	r := &returner{t: t, decide: decide, processed: map[string]int{}}
	return r, proxytest.NewOrigin(t, mptcp.Off, r.serve)
}

func (r *returner) serve(c *proxytest.Conn) {
	if _, err := io.CopyN(io.Discard, c.R, int64(len(preread.Preface))); err != nil {
		return
	}
	r.mu.Lock()
	r.conns++
	conn := r.conns
	r.mu.Unlock()
	fr := xhttp2.NewFramer(c.Conn, c.R)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1 << 20})
	_ = fr.WriteWindowUpdate(0, 1<<20)
	streams := map[uint32]*got{}
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return
		}
		id, stage := f.Header().StreamID, ""
		s := streams[id]
		switch f := f.(type) {
		case *xhttp2.MetaHeadersFrame:
			if stage = "head"; s == nil {
				s = &got{what: f.PseudoValue("method") + " " + f.PseudoValue("path")}
				r.mu.Lock()
				r.asked++
				s.n = r.asked
				r.mu.Unlock()
				streams[id] = s
			} else {
				stage, s.trailer = "", fmt.Sprint(f.RegularFields()[0].Value)
			}
			s.over = f.StreamEnded()
		case *xhttp2.DataFrame:
			stage = "data"
			s.body.Write(f.Data())
			s.over = f.StreamEnded()
		default:
			continue
		}
		if s.n < 0 { // it was given back
			continue
		}
		how := r.decide(stage, s.n, conn)
		if how == "" && s.over {
			how = r.decide("end", s.n, conn)
		}
		switch how {
		case "REFUSED_STREAM":
			_ = fr.WriteRSTStream(id, xhttp2.ErrCodeRefusedStream)
			s.n = -1
		case "GOAWAY", "close":
			_ = fr.WriteGoAway(id-1, xhttp2.ErrCodeNo, nil)
			s.n = -1
			if how == "close" {
				return
			}
		default:
			if s.over {
				r.answer(fr, id, s)
			}
		}
	}
}

func (r *returner) answer(fr *xhttp2.Framer, id uint32, s *got) {
	r.mu.Lock()
	r.processed[s.what]++
	r.mu.Unlock()
	var b bytes.Buffer
	_ = hpack.NewEncoder(&b).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: b.Bytes(), EndHeaders: true})
	_ = fr.WriteData(id, true, []byte(s.what+" "+digest(s.body.String())+" "+s.trailer))
}

// times is how often a request was processed.
func (r *returner) times(what string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.processed[what]
}

func (r *returner) requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

// digest tells bodies of the same length apart.
func digest(body string) string {
	sum := 0
	for i := range len(body) {
		sum = (31*sum + int(body[i])) % 1_000_003
	}
	return fmt.Sprintf("%d:%d", len(body), sum)
}

func text(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%d,", i)
	}
	return b.String()[:n]
}

// What servers give back unprocessed is sent again with its body, several times, whatever its
// method is, and is processed once.
func TestReturnedRequestsAreSentAgainWithTheirBody(t *testing.T) {
	t.Parallel()
	bodies := map[string]struct {
		fields string
		pieces []string // as they are sent
		want   string
	}{
		"short":  {"Content-Length: 5\r\n", []string{"hello"}, digest("hello") + " "},
		"Expect": {"Content-Length: 5\r\nExpect: 100-continue\r\n", []string{"hello"}, digest("hello") + " "},
		"64 KiB": {"Content-Length: 65536\r\n", []string{text(65536)}, digest(text(65536)) + " "},
		"chunked": {"Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n",
			[]string{"5\r\nhello\r\n", "6\r\n world\r\n", "0\r\nX-Sum: 7\r\n\r\n"}, digest("hello world") + " 7"},
	}
	for _, m := range []mode{plain, overTLS} {
		for _, how := range []string{"GOAWAY", "REFUSED_STREAM", "close"} {
			for _, stage := range []string{"head", "data", "end"} {
				for name, body := range bodies {
					t.Run(strings.Join([]string{m.name, how, stage, name}, " "), func(t *testing.T) {
						t.Parallel()
						const returns = 4
						r, o := newReturner(t, func(at string, n, _ int) string {
							if at == stage && n <= returns {
								return how
							}
							return ""
						})
						g := start(t, setup{mode: m, backend: backend.Options{Protocol: backend.HTTP2}}, o)
						c := g.client()
						c.Send("POST /x HTTP/1.1\r\n" + host + body.fields + "\r\n")
						for i, p := range body.pieces {
							// It comes when what was sent before has been given back.
							if i > 0 && stage != "end" {
								if !proxytest.Within(proxytest.Patience,
									func() bool { return r.requests() > min(i, returns) }) {
									t.Fatalf("%d requests came before piece %d", r.requests(), i)
								}
							}
							c.Send(p)
						}
						a := c.AnswerTo("POST")
						want(t, "status", a.Status, 200)
						want(t, "what the server got", a.Body, "POST /x "+body.want)
						want(t, "times that it was processed", r.times("POST /x"), 1)
						l := g.log.Next()
						want(t, "end", l.End, "ok")
						n := 0
						fmt.Sscanf(body.want, "%d:", &n)
						want(t, "bytes in", l.BytesIn, int64(n))
						want(t, "connection", a.Header("Connection"), "")
						c.Send("GET /next HTTP/1.1\r\n" + host + "\r\n")
						want(t, "body of the next", c.Answer().Body, "GET /next 0:0 ")
					})
				}
			}
		}
	}
}

// The same from a client of HTTP/2, whose body comes late in parts.
func TestReturnedStreamsAreSentAgainWithTheirBody(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"GOAWAY", "REFUSED_STREAM"} {
		t.Run(how, func(t *testing.T) {
			r, o := newReturner(t, func(at string, n, _ int) string {
				if at == "data" && n <= 3 {
					return how
				}
				return ""
			})
			g := start(t, setup{mode: plain, listener: proxy.ListenerOptions{H2C: true},
				backend: backend.Options{Protocol: backend.HTTP2}}, o)
			s, err := begin(multiplexed(t, g.addr), "PATCH", "/x", message.Unknown)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Release()
			piece := text(10_000)
			for i := range 4 {
				if err := errors.Join(s.WriteBody([]byte(piece)), s.Flush()); err != nil {
					t.Fatal(err)
				}
				if i < 3 && !proxytest.Within(proxytest.Patience, func() bool { return r.requests() > i }) {
					t.Fatalf("%d requests after %d pieces", r.requests(), i+1)
				}
			}
			var resp message.Response
			if err := errors.Join(s.End(nil), s.ReadHead(&resp, time.Now().Add(proxytest.Patience))); err != nil ||
				resp.Status != 200 {
				t.Fatalf("got %d, %v", resp.Status, err)
			}
			want := "PATCH /x " + digest(strings.Repeat(piece, 4)) + " "
			if got := readN(t, s, len(want)); got != want || r.times("PATCH /x") != 1 {
				t.Errorf("got %q, want %q; processed %d times", got, want, r.times("PATCH /x"))
			}
			if l := g.log.Next(); l.End != "ok" || l.BytesIn != 40_000 {
				t.Errorf("the log says %q, %d bytes in", l.End, l.BytesIn)
			}
		})
	}
}

// A server that ends its connections after a few requests loses none of a burst.
func TestBurstsSurviveConnectionsThatEndSoon(t *testing.T) {
	t.Parallel()
	for name, decide := range map[string]func() func(string, int, int) string{
		"GOAWAY after three": func() func(string, int, int) string {
			var mu sync.Mutex
			served := map[int]int{}
			return func(stage string, _, conn int) string {
				mu.Lock()
				defer mu.Unlock()
				if stage != "end" {
					return ""
				}
				if served[conn]++; served[conn] > 3 {
					return "GOAWAY"
				}
				return ""
			}
		},
		"each second is refused": func() func(string, int, int) string {
			return func(stage string, n, _ int) string {
				if stage == "head" && n%2 == 0 {
					return "REFUSED_STREAM"
				}
				return ""
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, o := newReturner(t, decide())
			g := start(t, setup{mode: plain, backend: backend.Options{Protocol: backend.HTTP2}}, o)
			var all []*proxytest.Client
			for i := range 60 {
				c := g.client()
				c.Send(fmt.Sprintf("POST /%d HTTP/1.1\r\n%sContent-Length: 5\r\n\r\nhello", i, host))
				all = append(all, c)
			}
			for i, c := range all {
				want(t, "status", c.AnswerTo("POST").Status, 200)
				want(t, "times that it was processed", r.times(fmt.Sprintf("POST /%d", i)), 1)
			}
		})
	}
}

// A server that returns every request is abandoned after some tries. Another one is used instead,
// if there is one.
func TestServersThatReturnEverything(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"GOAWAY", "REFUSED_STREAM", "close"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			always := func(stage string, _, _ int) string {
				if stage == "end" {
					return how
				}
				return ""
			}
			r, o := newReturner(t, always)
			g := start(t, setup{mode: plain, backend: backend.Options{Protocol: backend.HTTP2}}, o)
			c := g.client()
			c.Send("POST / HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\nhello")
			a := c.AnswerTo("POST")
			want(t, "status", a.Status, 503)
			want(t, "has Retry-After", a.Has("Retry-After"), true)
			want(t, "end", g.log.Next().End, "backend_reset")
			want(t, "requests", r.requests(), 13)

			_, full := newReturner(t, always)
			good, other := newReturner(t, func(string, int, int) string { return "" })
			g = start(t, setup{mode: plain, backend: backend.Options{Protocol: backend.HTTP2}}, full, other)
			for i := range 4 {
				c := g.client()
				c.Send(fmt.Sprintf("POST /%d HTTP/1.1\r\n%sContent-Length: 5\r\n\r\nhello", i, host))
				want(t, "status", c.AnswerTo("POST").Status, 200)
				want(t, "times that it was processed", good.times(fmt.Sprintf("POST /%d", i)), 1)
				want(t, "server", g.log.Next().Server, other.Address())
			}
		})
	}
}

// The response timeout bounds the tries too.
func TestReturnsEndWithTheResponseTimeout(t *testing.T) {
	t.Parallel()
	r, o := newReturner(t, func(string, int, int) string { return "REFUSED_STREAM" })
	g := start(t, setup{mode: plain, backend: backend.Options{Protocol: backend.HTTP2,
		ResponseTimeout: 100 * time.Millisecond}}, o)
	// On a busy machine the time can be over before the server answers the first one.
	status := g.client().Get("/").Status
	if status != 503 && status != 504 {
		t.Errorf("got %d", status)
	}
	// The pauses before the tenth take 155 ms at least.
	if n := r.requests(); n == 0 && status != 504 || n > 10 {
		t.Errorf("%d requests, status %d", n, status)
	}
}

// Of a body that is longer than what is kept nothing is sent twice.
func TestReturnedLongBodiesAreNotSentAgain(t *testing.T) {
	t.Parallel()
	r, o := newReturner(t, func(stage string, n, _ int) string {
		if stage == "end" && n == 1 {
			return "REFUSED_STREAM"
		}
		return ""
	})
	g := start(t, setup{mode: plain, backend: backend.Options{Protocol: backend.HTTP2}}, o)
	c := g.client()
	c.Send("POST / HTTP/1.1\r\n" + host + "Content-Length: 65537\r\n\r\n" + text(65537))
	want(t, "status", c.AnswerTo("POST").Status, 503)
	want(t, "end", g.log.Next().End, "backend_reset")
	want(t, "requests", r.requests(), 1)
	c.Send("GET /next HTTP/1.1\r\n" + host + "\r\n")
	want(t, "status of the next", c.Answer().Status, 200)
}

// A WebSocket that was given back is asked for again with its key.
func TestReturnedWebSocketKeepsItsKey(t *testing.T) {
	t.Parallel()
	var asked int
	o := framesOrigin(t, []xhttp2.Setting{{ID: xhttp2.SettingEnableConnectProtocol, Val: 1}},
		func(fr *xhttp2.Framer, f xhttp2.Frame) {
			if h := f.Header(); h.Type == xhttp2.FrameHeaders {
				if asked++; asked < 3 {
					_ = fr.WriteRSTStream(h.StreamID, xhttp2.ErrCodeRefusedStream)
					return
				}
				var b bytes.Buffer
				_ = hpack.NewEncoder(&b).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
				_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: h.StreamID, BlockFragment: b.Bytes(),
					EndHeaders: true})
			}
		})
	g := start(t, setup{mode: plain, backend: backend.Options{Protocol: backend.HTTP2}}, o)
	c := g.client()
	c.Send("GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	if a := c.ReadHead(); a.Status != 101 || a.Header("Sec-WebSocket-Accept") != acceptFor("dGhlIHNhbXBsZSBub25jZQ==") {
		t.Errorf("got %s", a.Head)
	}
}
