package proxy_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/http2"
	"mpgate/proxy/message"
	"mpgate/proxy/preread"
)

// upgradeFrames requests a WebSocket in a stream, with its own frames, and returns the fields of
// the answer's head as they are on the wire.
func upgradeFrames(t *testing.T, addr string) (fields []string) {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(proxytest.Patience))
	fr := xhttp2.NewFramer(nc, nc)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range [][2]string{
		{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "http"}, {":authority", testHost},
		{":path", "/ws"},
		{"sec-websocket-version", "13"}, {"sec-websocket-protocol", "chat"},
	} {
		_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	_, err = io.WriteString(nc, preread.Preface)
	err = errors.Join(err, fr.WriteSettings(),
		fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true}))
	if err != nil {
		t.Fatal(err)
	}
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if h, ok := f.(*xhttp2.MetaHeadersFrame); ok {
			for _, field := range h.Fields {
				fields = append(fields, field.Name+": "+field.Value)
			}
			return fields
		}
	}
}

// What only HTTP/1 has is not in an answer in HTTP/2 to an extended CONNECT (RFC 8441 section 5),
// granted or not, whichever protocol the server speaks; what is the application's is.
func TestWebSocketAnswersInHTTP2HaveNoFieldsOfHTTP1(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answer func(key string) string
		want   []string
	}{
		"granted": {func(key string) string {
			return "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade, X-Hop\r\nKeep-Alive: timeout=5\r\n" +
				"X-Hop: 1\r\nUpgrade: websocket\r\n" +
				"Sec-WebSocket-Accept: " + acceptFor(key) + "\r\nSec-WebSocket-Protocol: chat\r\nX-More: 1\r\n\r\n"
		}, []string{":status: 200", "sec-websocket-protocol: chat", "x-more: 1"}},
		"refused": {func(string) string {
			return proxytest.Response("426 Upgrade Required", "no", "Connection: Upgrade, X-Hop",
				"Keep-Alive: timeout=5", "X-Hop: 1", "Upgrade: websocket",
				"Sec-WebSocket-Version: 14", "X-More: 1")
		}, []string{":status: 426", "sec-websocket-version: 14", "x-more: 1", "content-length: 2"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := plain.origin(t, webSocketEcho(tt.answer))
			h1 := start(t, setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}, o)
			h2 := startBefore(t, setup{mode: plain, listener: proxy.ListenerOptions{H2C: true},
				backend: backend.Options{Protocol: backend.HTTP2}}, h1.addr)
			for server, g := range map[string]*gateway{"h1": h1, "h2": h2} {
				fields := upgradeFrames(t, g.addr)
				for _, f := range tt.want {
					if !slices.Contains(fields, f) {
						t.Errorf("to a server of %s: the answer lacks %q: %q", server, f, fields)
					}
				}
				for _, f := range fields {
					switch name, _, _ := strings.Cut(strings.TrimPrefix(f, ":"), ":"); name {
					case "connection", "upgrade", "keep-alive", "proxy-connection", "transfer-encoding",
						"sec-websocket-accept", "sec-websocket-key", "x-hop":
						t.Errorf("to a server of %s: the answer holds %q", server, f)
					case "content-length":
						if tt.want[0] == ":status: 200" {
							t.Errorf("to a server of %s: the head of a tunnel holds %q", server, f)
						}
					}
				}
			}
		})
	}
}

// turns are what bodies move by: each one lets a piece go, and their end is the body's. The first
// two are for downloads, the others for uploads.
type turns [4]chan struct{}

const pieceSize = 256 << 10

// busyOrigin echoes WebSockets, answers uploads with their length, and serves downloads.
func busyOrigin(t *testing.T, turns *turns) *proxytest.Origin {
	chunk := fmt.Sprintf("%x\r\n%s\r\n", pieceSize, strings.Repeat("d", pieceSize))
	return plain.origin(t, func(c *proxytest.Conn) {
		head := c.Head()
		var i int
		switch {
		case strings.HasPrefix(head, "GET /ws "):
			key := (&proxytest.Request{Head: head}).Header("Sec-WebSocket-Key")
			c.Send(switchingFor(key))
			_, _ = io.Copy(c.Conn, c.R)
			c.CloseWrite()
		case strings.HasPrefix(head, "POST /up "):
			n, err := countChunks(c)
			if err != nil {
				t.Errorf("an upload: %v", err)
			}
			c.Send(proxytest.Response("200 OK", fmt.Sprint(n), "Connection: close"))
		default:
			if _, err := fmt.Sscanf(head, "GET /down/%d ", &i); err != nil {
				t.Errorf("got %q", head)
				return
			}
			c.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
			for range turns[i] {
				if !c.Send(chunk) {
					t.Error("a download was cut")
					return
				}
			}
			c.Send("0\r\n\r\n")
		}
	})
}

// countChunks reads a chunked body without trailers.
func countChunks(c *proxytest.Conn) (total int64, err error) {
	for {
		line, err := c.R.ReadString('\n')
		if err != nil {
			return total, err
		}
		var n int64
		if _, err := fmt.Sscanf(line, "%x", &n); err != nil {
			return total, err
		}
		if _, err := io.CopyN(io.Discard, c.R, n+2); err != nil || n == 0 {
			return total, err
		}
		total += n
	}
}

// In one connection of HTTP/2: ping-pong in a WebSocket continues, and in order, while other
// streams move bodies both ways; and they do meanwhile.
func TestWebSocketAndBodiesOnOneHTTP2Connection(t *testing.T) {
	t.Parallel()
	for name, protocol := range map[string]backend.Protocol{"to h1": backend.HTTP1, "to h2": backend.HTTP2} {
		t.Run(name, func(t *testing.T) {
			var turns turns
			for i := range turns {
				turns[i] = make(chan struct{}, 1<<16)
			}
			o := busyOrigin(t, &turns)
			g := start(t, setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}, o)
			if protocol == backend.HTTP2 { // then the gateways share one connection, too
				g = startBefore(t, setup{mode: plain, listener: proxy.ListenerOptions{H2C: true},
					backend: backend.Options{Protocol: protocol}}, g.addr)
			}
			end := sync.OnceFunc(func() {
				for i := range turns {
					close(turns[i])
				}
			})
			t.Cleanup(end)
			c := multiplexed(t, g.addr)
			ws, resp := askHead(t, c, webSocketTo("/ws"))
			if resp.Status != 101 {
				t.Fatalf("got %d", resp.Status)
			}
			var moved [4]atomic.Int64
			var bodies sync.WaitGroup
			for i := range 2 {
				bodies.Go(func() { download(t, c, i, &moved[i]) })
				bodies.Go(func() { upload(t, c, turns[2+i], &moved[2+i]) })
			}
			rounds := pingPong(t, ws, &turns, &moved)
			end()
			bodies.Wait()
			for i := range moved {
				want(t, fmt.Sprintf("body %d", i), moved[i].Load(), int64(rounds)*pieceSize)
			}
			if err := ws.End(nil); err != nil {
				t.Error(err)
			}
			if p, err := ws.Body().Next(true); err != io.EOF {
				t.Errorf("behind the last pong came %q, %v", p, err)
			}
			ws.Release()
			if protocol == backend.HTTP2 {
				want(t, "connections between the gateways", g.metric("mpgate_backend_connects_total", "result",
					"ok"), 1)
			}
			for range 5 {
				want(t, "end", g.log.Next().End, "ok")
			}
		})
	}
}

// pingPong continues for 100 rounds, and until each body has moved some pieces meanwhile; each
// round lets them have a further one.
func pingPong(t *testing.T, ws *http2.ClientStream, turns *turns, moved *[4]atomic.Int64) (rounds int) {
	t.Helper()
	late := time.Now().Add(2 * proxytest.Patience)
	for busy := false; rounds < 100 || !busy; {
		for i := range turns {
			turns[i] <- struct{}{}
		}
		rounds++
		ping := fmt.Sprintf("ping %d", rounds)
		if err := errors.Join(ws.WriteBody([]byte(ping)), ws.Flush()); err != nil {
			t.Fatalf("round %d: %v", rounds, err)
		}
		if pong := readN(t, ws, len(ping)); pong != ping {
			t.Fatalf("round %d: got %q", rounds, pong)
		}
		busy = true
		for i := range moved {
			busy = busy && moved[i].Load() > 4*pieceSize
		}
		if rounds == cap(turns[0]) || time.Now().After(late) {
			t.Fatalf("after %d rounds a body has not moved", rounds)
		}
	}
	return rounds
}

// begin sends a head in a stream.
func begin(c *http2.ClientConn, method, path string, length int64) (*http2.ClientStream, error) {
	s, err := c.Open()
	if err != nil {
		return nil, err
	}
	r := &message.Request{Method: []byte(method), Scheme: "http", Host: []byte("h"), Path: []byte(path),
		ContentLength: length}
	return s, errors.Join(s.WriteHead(r), s.Flush())
}

func download(t *testing.T, c *http2.ClientConn, i int, moved *atomic.Int64) {
	s, err := begin(c, "GET", fmt.Sprintf("/down/%d", i), 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer s.Release()
	var resp message.Response
	if err := errors.Join(s.End(nil), s.ReadHead(&resp, time.Now().Add(proxytest.Patience))); err != nil {
		t.Error(err)
		return
	}
	for {
		p, err := s.Body().Next(true)
		moved.Add(int64(len(p)))
		if err != nil {
			if err != io.EOF {
				t.Errorf("a download: %v", err)
			}
			return
		}
	}
}

func upload(t *testing.T, c *http2.ClientConn, turns <-chan struct{}, moved *atomic.Int64) {
	s, err := begin(c, "POST", "/up", message.Unknown)
	if err != nil {
		t.Error(err)
		return
	}
	defer s.Release()
	piece := bytes.Repeat([]byte{'u'}, pieceSize)
	for range turns {
		if err := s.WriteBody(piece); err != nil {
			t.Errorf("an upload: %v", err)
			return
		}
		moved.Add(int64(len(piece)))
	}
	var resp message.Response
	if err := errors.Join(s.End(nil), s.ReadHead(&resp, time.Now().Add(proxytest.Patience))); err != nil {
		t.Errorf("an upload: %v", err)
		return
	}
	if came, err := readRest(s); came != fmt.Sprint(moved.Load()) || err != nil {
		t.Errorf("of an upload of %d bytes %s came, %v", moved.Load(), came, err)
	}
}

// readRest reads a body to its end: to release the stream before would be a cancellation.
func readRest(s *http2.ClientStream) (string, error) {
	var b strings.Builder
	for {
		p, err := s.Body().Next(true)
		b.Write(p)
		if err == io.EOF {
			return b.String(), nil
		}
		if err != nil {
			return b.String(), err
		}
	}
}
