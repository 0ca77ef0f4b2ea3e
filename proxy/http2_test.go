package proxy_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/http2"
	"mpgate/proxy/message"
	"mpgate/proxy/netio"
	"mpgate/proxy/preread"
)

// multiplexed connects to a gateway in HTTP/2, by our own client side.
func multiplexed(t testing.TB, addr string) *http2.ClientConn {
	t.Helper()
	return multiplexedBehind(t, addr, "")
}

// multiplexedBehind is multiplexed with a PROXY header in front.
func multiplexedBehind(t testing.TB, addr, header string) *http2.ClientConn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(nc, header); err != nil {
		t.Fatal(err)
	}
	base, err := netio.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	c := http2.NewClientConn(base, &http2.ClientOptions{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Run()
		base.Close()
	}()
	t.Cleanup(func() { c.Abort(); <-done })
	return c
}

func webSocketTo(path string) *message.Request {
	r := &message.Request{Method: []byte("GET"), Scheme: "http", Host: []byte("h.example"), Path: []byte(path),
		Upgrade: []byte("websocket")}
	r.Header.AddString(message.SecWebSocketKey, "dGhlIHNhbXBsZSBub25jZQ==")
	r.Header.AddString(message.SecWebSocketVersion, "13")
	return r
}

// askHead makes a request whose head is answered.
func askHead(t testing.TB, c *http2.ClientConn, r *message.Request) (*http2.ClientStream, *message.Response) {
	t.Helper()
	s, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WriteHead(r); err != nil {
		t.Fatal(err)
	}
	if r.Upgrade == nil {
		if err := s.End(nil); err != nil {
			t.Fatal(err)
		}
	}
	var resp message.Response
	if err := s.ReadHead(&resp, time.Now().Add(proxytest.Patience)); err != nil {
		t.Fatal(err)
	}
	return s, &resp
}

// webSocketEcho is a server of HTTP/1 that changes to an echo. What it says beside the 101 is in
// accept.
func webSocketEcho(accept func(key string) string) func(*proxytest.Conn) {
	return func(c *proxytest.Conn) {
		r := c.Request()
		if r == nil {
			return
		}
		if r.Header("Upgrade") != "websocket" || len(r.Header("Sec-WebSocket-Key")) != 24 {
			c.Send(proxytest.Response("400 Bad Request", "no handshake: "+r.Head))
			return
		}
		c.Send(accept(r.Header("Sec-WebSocket-Key")))
		_, _ = io.Copy(c.Conn, c.R)
		c.CloseWrite()
	}
}

// In a stream of HTTP/2 a WebSocket to a server of HTTP/1: data that follows the handshake at once,
// ping-pong, many MiB, and half-close.
func TestWebSocketOverHTTP2(t *testing.T) {
	o := plain.origin(t, webSocketEcho(func(key string) string {
		return "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Accept: " + acceptFor(key) + "\r\nX-More: 1\r\n\r\n"
	}))
	g := start(t, setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}, o)
	c := multiplexed(t, g.addr)
	s, resp := askHead(t, c, webSocketTo("/ws"))
	if resp.Status != 101 || string(resp.Header.Get(message.SecWebSocketAccept)) != acceptFor("dGhlIHNhbXBsZSBub25jZQ==") {
		t.Fatalf("got %d %q", resp.Status, resp.Header.Get(message.SecWebSocketAccept))
	}
	for i := range 200 {
		want := fmt.Sprintf("ping %d", i)
		if err := errors.Join(s.WriteBody([]byte(want)), s.Flush()); err != nil {
			t.Fatal(err)
		}
		if got := readN(t, s, len(want)); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	const total = 64 << 20
	var wg sync.WaitGroup
	wg.Go(func() {
		piece := bytes.Repeat([]byte{'x'}, 1<<20)
		for range total >> 20 {
			if err := s.WriteBody(piece); err != nil {
				t.Error(err)
				return
			}
		}
		if err := s.End(nil); err != nil {
			t.Error(err)
		}
	})
	n := 0
	for {
		p, err := s.Body().Next(true)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n += len(p)
	}
	wg.Wait()
	if n != total {
		t.Errorf("%d bytes came back of %d", n, total)
	}
	s.Release()
	if l := g.log.Next(); l.End != "ok" || l.Status != 101 || l.BytesIn != l.BytesOut {
		t.Errorf("the log says %+v", l)
	}
}

func readN(t testing.TB, s *http2.ClientStream, n int) string {
	t.Helper()
	var b strings.Builder
	for b.Len() < n {
		p, err := s.Body().Next(true)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(p)
	}
	return b.String()
}

// To a server of HTTP/2 a WebSocket is an extended CONNECT, whatever the client speaks.
func TestWebSocketToHTTP2(t *testing.T) {
	g2 := start(t, setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}},
		plain.origin(t, webSocketEcho(func(key string) string {
			return switchingFor(key)
		})))
	g := startBefore(t, setup{mode: plain, backend: backend.Options{Protocol: backend.HTTP2}}, g2.addr)
	c := g.client()
	c.Send("GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	a := c.ReadHead()
	if a.Status != 101 || a.Header("Sec-WebSocket-Accept") != acceptFor("dGhlIHNhbXBsZSBub25jZQ==") {
		t.Fatalf("got %s", a.Head)
	}
	c.Send("hello")
	c.CloseWrite()
	if got, err := c.Rest(); got != "hello" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func acceptFor(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// h2Policy is a TLS policy that offers HTTP/2; nil for plain modes.
func h2Policy(t testing.TB, m mode) proxy.Policies {
	if !m.tls {
		return nil
	}
	p := onePolicy(t)
	p.config.NextProtos = []string{"h2", "http/1.1"}
	return p
}

// Case 5: a body that is not as long as its Content-Length ends the stream, and the server's
// connection with it.
func TestHTTP2BodyLengths(t *testing.T) {
	for name, send := range map[string]func(fr *xhttp2.Framer, block []byte){
		"nothing": func(fr *xhttp2.Framer, block []byte) {
			_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true,
				EndStream: true})
		},
		"less": func(fr *xhttp2.Framer, block []byte) {
			_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true})
			_ = fr.WriteData(1, true, []byte("short"))
		},
		"more": func(fr *xhttp2.Framer, block []byte) {
			_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true})
			_ = fr.WriteData(1, true, make([]byte, 51))
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := plain.origin(t, proxytest.Echo)
			g := start(t, setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}, o)
			nc, err := net.Dial("tcp", g.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			_, _ = io.WriteString(nc, preread.Preface)
			fr := xhttp2.NewFramer(nc, nc)
			_ = fr.WriteSettings()
			var block bytes.Buffer
			enc := hpack.NewEncoder(&block)
			for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":authority", "h"},
				{":path", "/"}, {"content-length", "50"}} {
				_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
			}
			send(fr, block.Bytes())
			_ = nc.SetReadDeadline(time.Now().Add(proxytest.Patience))
			for {
				f, err := fr.ReadFrame()
				if err != nil {
					t.Fatal(err)
				}
				if r, ok := f.(*xhttp2.RSTStreamFrame); ok {
					if r.ErrCode != xhttp2.ErrCodeProtocol {
						t.Errorf("reset with %v", r.ErrCode)
					}
					break
				}
			}
			g.bystander()
			for _, raw := range o.Raw() {
				if strings.Contains(raw, "POST / ") && strings.Contains(raw, "GET /innocent") {
					t.Errorf("the server's connection was used again: %q", raw)
				}
			}
		})
	}
}

// The conformance tests of h2spec, strict ones included, against the whole gateway.
func TestHTTP2Conformance(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some 20 s")
	}
	bin := filepath.Join(t.TempDir(), "h2spec")
	if out, err := exec.Command("go", "build", "-C", "../tools", "-o", bin,
		"github.com/summerwind/h2spec/cmd/h2spec").CombinedOutput(); err != nil {
		t.Fatalf("h2spec does not build: %v\n%s", err, out)
	}
	for _, m := range []mode{modes[0], modes[4]} {
		t.Run(m.name, func(t *testing.T) {
			o := m.origin(t, proxytest.Always(proxytest.Response("200 OK", strings.Repeat("0123456789", 100))))
			g := start(t, setup{mode: m, listener: proxy.ListenerOptions{H2C: !m.tls, NoH1: true,
				TLS: h2Policy(t, m)}}, o)
			_, port, err := net.SplitHostPort(g.addr)
			if err != nil {
				t.Fatal(err)
			}
			args := []string{"--strict", "-h", "127.0.0.1", "-p", port, "-o", "5"}
			if m.tls {
				args = append(args, "-t", "-k")
			}
			out, err := exec.Command(bin, args...).CombinedOutput()
			if err != nil || !strings.Contains(string(out), " 0 skipped, 0 failed") {
				t.Errorf("%v\n%s", err, out[max(0, len(out)-4000):])
			}
		})
	}
}

// A listener that uses HTTP/1 too ends what begins as neither protocol as a server of HTTP/2 does.
func TestBadPrefaceOnAListenerWithHTTP1(t *testing.T) {
	g := start(t, setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}, plain.origin(t, proxytest.Echo))
	const frames = "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00\x08\x07\x00\x00\x00\x00\x00" +
		"\x00\x00\x00\x00\x00\x00\x00\x01"
	for _, preface := range []string{"INVALID CONNECTION PREFACE\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"} {
		c := g.client()
		c.Send(preface)
		if got, err := c.Rest(); got != frames || err != nil {
			t.Errorf("%q: got %q, %v", preface, got, err)
		}
	}
	c := g.client()
	c.Send("GET / JUNK\r\n\r\n")
	if a := c.Answer(); a.Status != 400 {
		t.Errorf("a request of HTTP/1 that is wrong got %d, want 400", a.Status)
	}
	g.bystander()
}
