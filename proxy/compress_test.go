package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/coding"
	"mpgate/proxy/files"
	"mpgate/proxy/filter"
	"mpgate/telemetry"
)

// compressing is a route to the backend, or with files, that compresses.
func compressing(o filter.CompressOptions, action proxy.Action) func(b *backend.Backend) []proxy.Route {
	chain := filter.Compile(filter.NewCompress(o), filter.MaxForwards{})
	return func(b *backend.Backend) []proxy.Route {
		if action == nil {
			action = &proxy.Forward{Backend: b}
		}
		return []proxy.Route{{Name: "all", Action: action, Filters: chain}}
	}
}

// unpacked reads a body that has a coding.
func unpacked(t testing.TB, encoding string, body io.Reader) io.Reader {
	t.Helper()
	var r io.Reader
	var err error
	switch encoding {
	case "gzip":
		r, err = gzip.NewReader(body)
	case "zstd":
		var z *zstd.Decoder
		z, err = zstd.NewReader(body, zstd.WithDecoderConcurrency(1))
		r = z
	default:
		return body
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const page = "Content-Type: text/html\r\nETag: \"tag\"\r\n"

// On both protocols bodies of all kinds come back as they were, with one head.
func TestCompress(t *testing.T) {
	text := strings.Repeat("to be compressed, ", 30_000)
	o := plain.origin(t, func(c *proxytest.Conn) {
		for r := c.Request(); r != nil; r = c.Request() {
			body := text
			if r.Method == "HEAD" {
				body = ""
			}
			switch r.Target {
			case "/length":
				c.Send(fmt.Sprintf("HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s", page, len(text), body))
			case "/chunked":
				c.Send("HTTP/1.1 200 OK\r\n" + page + "Transfer-Encoding: chunked\r\n\r\n")
				if body != "" {
					c.Send(fmt.Sprintf("%x\r\n%s\r\n0\r\nX-Sum: 7\r\n\r\n", len(text), text))
				}
			case "/close":
				c.Send("HTTP/1.0 200 OK\r\n" + page + "\r\n" + body)
				return
			case "/events":
				c.Send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n6\r\ndata:x\r\n0\r\n\r\n")
			}
		}
	})
	encoders := new(coding.Encoders)
	s := setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}
	s.routes = compressing(filter.CompressOptions{Encoders: encoders}, nil)
	g := start(t, s, o)
	for name, c := range protocolClients(t) {
		for _, path := range []string{"/length", "/chunked", "/close"} {
			for accept, encoding := range map[string]string{"gzip": "gzip", "gzip, zstd": "zstd", "gzip;q=0": "", "br": ""} {
				what := name + " " + path + " " + accept
				resp, body := ask(t, c, "GET", "http://"+g.addr+path, "Accept-Encoding: "+accept)
				want(t, what+": Content-Encoding", resp.Header.Get("Content-Encoding"), encoding)
				want(t, what+": Vary", resp.Header.Get("Vary"), "Accept-Encoding")
				got, err := io.ReadAll(unpacked(t, encoding, strings.NewReader(body)))
				if err != nil || string(got) != text {
					t.Errorf("%s: %d bytes, %v", what, len(got), err)
				}
				if encoding != "" && (resp.ContentLength != -1 || resp.Header.Get("ETag") != `W/"tag"` || len(body) > len(text)/20) {
					t.Errorf("%s: %d bytes, %v", what, len(body), resp.Header)
				}
				if path == "/chunked" {
					want(t, what+": trailer", resp.Trailer.Get("X-Sum"), "7")
				}
				if path == "/close" {
					continue // a HEAD has no end of the connection to wait for
				}
				head, _ := ask(t, c, "HEAD", "http://"+g.addr+path, "Accept-Encoding: "+accept)
				for _, field := range []string{"Content-Encoding", "Vary", "Etag", "Content-Type"} {
					want(t, what+": "+field+" of a HEAD", head.Header.Get(field), resp.Header.Get(field))
				}
				if encoding != "" && head.Header.Get("Content-Length") != "" {
					t.Errorf("%s: a HEAD has Content-Length %s", what, head.Header.Get("Content-Length"))
				}
			}
		}
		resp, body := ask(t, c, "GET", "http://"+g.addr+"/events", "Accept-Encoding: gzip")
		if resp.Header.Get("Content-Encoding") != "" || body != "data:x" {
			t.Errorf("%s: events are %q with %v", name, body, resp.Header)
		}
	}
	for _, l := range g.lines() {
		want(t, "end", l.End, "ok")
	}
	want(t, "memory in use", encoders.Used(), 0)
}

// bytes_out is what the client got, and the meter has both.
func TestCompressCounts(t *testing.T) {
	meter := new(telemetry.CompressMeter)
	o := plain.origin(t, proxytest.Always(proxytest.Response("200 OK", strings.Repeat("x", 50_000), "Content-Type: text/plain")))
	s := setup{mode: plain}
	s.routes = compressing(filter.CompressOptions{Meter: meter}, nil)
	g := start(t, s, o)
	c := g.client()
	c.Send("GET / HTTP/1.1\r\n" + host + "Accept-Encoding: gzip\r\n\r\n")
	a := c.Answer()
	want(t, "bytes_out", int(g.log.Next().BytesOut), len(a.Body))
}

// What arrives at once is sent at once: a client that waits for a line gets it, in both codings and
// protocols, while the server keeps the rest.
func TestCompressTrickle(t *testing.T) {
	lines := []string{"one", "two", "three"}
	next := make(chan struct{})
	o := plain.origin(t, func(c *proxytest.Conn) {
		for c.Request() != nil {
			c.Send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
			for _, l := range lines {
				<-next
				c.Send(fmt.Sprintf("%x\r\n%s\n\r\n", len(l)+1, l))
			}
			<-next
			c.Send("0\r\n\r\n")
		}
	})
	s := setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}
	s.routes = compressing(filter.CompressOptions{}, nil)
	g := start(t, s, o)
	for name, c := range protocolClients(t) {
		for _, encoding := range []string{"gzip", "zstd"} {
			r, err := http.NewRequest("GET", "http://"+g.addr+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Accept-Encoding", encoding)
			resp, err := c.Do(r) // the head comes before the first line
			if err != nil {
				t.Fatal(err)
			}
			want(t, "Content-Encoding", resp.Header.Get("Content-Encoding"), encoding)
			var body *bufio.Reader
			for _, l := range lines {
				next <- struct{}{}
				if body == nil {
					body = bufio.NewReader(unpacked(t, encoding, resp.Body))
				}
				got, err := body.ReadString('\n')
				if err != nil || got != l+"\n" {
					t.Fatalf("%s, %s: %q, %v", name, encoding, got, err)
				}
			}
			next <- struct{}{}
			if rest, err := io.ReadAll(body); err != nil || len(rest) > 0 {
				t.Errorf("%s, %s: at the end %q, %v", name, encoding, rest, err)
			}
			resp.Body.Close()
		}
	}
}

// A server that breaks off within a body does not look complete: not by the framing, nor by the
// coding.
func TestCompressBrokenServer(t *testing.T) {
	o := plain.origin(t, func(c *proxytest.Conn) {
		if c.Request() != nil {
			c.Send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 50_000))
		}
	})
	encoders := new(coding.Encoders)
	s := setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}
	s.routes = compressing(filter.CompressOptions{Encoders: encoders}, nil)
	g := start(t, s, o)
	for name, c := range protocolClients(t) {
		for _, encoding := range []string{"gzip", "zstd"} {
			r, _ := http.NewRequest("GET", "http://"+g.addr+"/", nil)
			r.Header.Set("Accept-Encoding", encoding)
			resp, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			want(t, "Content-Encoding", resp.Header.Get("Content-Encoding"), encoding)
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err == nil {
				t.Errorf("%s, %s: a body that was cut ends in order", name, encoding)
			}
			if _, err := io.ReadAll(unpacked(t, encoding, strings.NewReader(string(b)))); err == nil {
				t.Errorf("%s, %s: a body that was cut decodes to its end", name, encoding)
			}
			want(t, name+" end", g.log.Next().End, "backend_reset")
		}
	}
	want(t, "memory in use", encoders.Used(), 0)
}

// A client that reads nothing, or leaves, holds an encoder no longer than its exchange.
func TestCompressClientLeaves(t *testing.T) {
	o := plain.origin(t, func(c *proxytest.Conn) {
		if c.Request() == nil {
			return
		}
		c.Send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
		noise := uint32(1)
		b := make([]byte, 32<<10)
		for {
			for i := range b {
				noise = noise*1664525 + 1013904223
				b[i] = byte(noise >> 24)
			}
			if !c.Send(fmt.Sprintf("%x\r\n%s\r\n", len(b), b)) {
				return
			}
		}
	})
	for _, multiplexed := range []bool{false, true} {
		encoders := new(coding.Encoders)
		s := setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}
		s.routes = compressing(filter.CompressOptions{Encoders: encoders}, nil)
		g := start(t, s, o)
		if multiplexed {
			c := protocolClients(t)["h2"]
			r, _ := http.NewRequest("GET", "http://"+g.addr+"/", nil)
			r.Header.Set("Accept-Encoding", "zstd")
			resp, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.CopyN(io.Discard, resp.Body, 1<<20); err != nil {
				t.Fatal(err)
			}
			if encoders.Used() == 0 {
				t.Error("no encoder is in use")
			}
			resp.Body.Close()
		} else {
			c := g.client()
			c.Send("GET / HTTP/1.1\r\n" + host + "Accept-Encoding: gzip\r\n\r\n")
			c.ReadHead()
			if _, err := io.CopyN(io.Discard, c.R, 1<<20); err != nil {
				t.Fatal(err)
			}
			if encoders.Used() == 0 {
				t.Error("no encoder is in use")
			}
			c.Reset()
		}
		want(t, "end", g.log.Next().End, "client_gone")
		want(t, "memory in use", encoders.Used(), 0)
	}
}

// Through TLS to a reader that is slow all bytes come.
func TestCompressSlowReader(t *testing.T) {
	var text strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&text, "%x ", i*i)
	}
	m := modes[4]
	o := m.origin(t, proxytest.Always(proxytest.Response("200 OK", text.String(), "Content-Type: text/plain")))
	s := setup{mode: m}
	s.routes = compressing(filter.CompressOptions{}, nil)
	g := start(t, s, o)
	c := g.client()
	if tcp, ok := c.Conn.(interface{ NetConn() net.Conn }); ok {
		_ = tcp.NetConn().(*net.TCPConn).SetReadBuffer(64 << 10)
	}
	c.Send("GET / HTTP/1.1\r\n" + host + "Accept-Encoding: gzip\r\n\r\n")
	a := c.Answer()
	got, err := io.ReadAll(unpacked(t, "gzip", strings.NewReader(a.Body)))
	if err != nil || string(got) != text.String() {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// Files and the gateway's own answers go the same way; precompressed ones are left alone.
func TestCompressFiles(t *testing.T) {
	text := strings.Repeat("some text, ", 20_000)
	root, err := files.New(files.Options{Precompressed: true, Root: tree(t, map[string]string{
		"f.txt": text, "p.txt": text, "p.txt.gz": "precompressed, " + text, "i.png": text,
	})})
	if err != nil {
		t.Fatal(err)
	}
	s := setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}
	t.Cleanup(root.Close)
	s.routes = compressing(filter.CompressOptions{Min: 1}, &proxy.Files{Root: root})
	g := startBefore(t, s, nowhere)
	for name, c := range protocolClients(t) {
		base := "http://" + g.addr
		resp, body := ask(t, c, "GET", base+"/f.txt", "Accept-Encoding: gzip")
		got, err := io.ReadAll(unpacked(t, "gzip", strings.NewReader(body)))
		if err != nil || string(got) != text {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		tag := resp.Header.Get("ETag")
		if !strings.HasPrefix(tag, `W/"`) || resp.Header.Get("Accept-Ranges") != "" || len(resp.Header.Values("Vary")) != 1 {
			t.Errorf("%s: %v", name, resp.Header)
		}
		again, _ := ask(t, c, "GET", base+"/f.txt", "Accept-Encoding: gzip", "If-None-Match: "+tag)
		want(t, name+": status with the tag", again.StatusCode, 304)
		want(t, name+": tag of the 304", again.Header.Get("ETag"), tag)
		part, body := ask(t, c, "GET", base+"/f.txt", "Accept-Encoding: gzip", "Range: bytes=0-3")
		want(t, name+": part", body, text[:4])
		want(t, name+": coding of a part", part.Header.Get("Content-Encoding"), "")
		_, body = ask(t, c, "GET", base+"/p.txt", "Accept-Encoding: gzip")
		want(t, name+": precompressed", body, "precompressed, "+text)
		resp, _ = ask(t, c, "GET", base+"/p.txt", "Accept-Encoding: zstd")
		want(t, name+": coding without a variant", resp.Header.Get("Content-Encoding"), "zstd")
		resp, _ = ask(t, c, "GET", base+"/i.png", "Accept-Encoding: gzip")
		want(t, name+": coding of an image", resp.Header.Get("Content-Encoding"), "")
		resp, body = ask(t, c, "GET", base+"/none", "Accept-Encoding: gzip")
		want(t, name+": coding of an own answer", resp.Header.Get("Content-Encoding"), "gzip")
		own, err := io.ReadAll(unpacked(t, "gzip", strings.NewReader(body)))
		if err != nil || !strings.Contains(string(own), "404 Not Found") {
			t.Errorf("%s: %q, %v", name, own, err)
		}
	}
}

// HTTP/1.0 gets the body as it is.
func TestCompressHTTP10(t *testing.T) {
	o := plain.origin(t, proxytest.Always(proxytest.Response("200 OK", "text", "Content-Type: text/plain")))
	s := setup{mode: plain}
	s.routes = compressing(filter.CompressOptions{}, nil)
	g := start(t, s, o)
	c := g.client()
	c.Send("GET / HTTP/1.0\r\n" + host + "Accept-Encoding: gzip\r\n\r\n")
	a := c.Answer()
	want(t, "body", a.Body, "text")
	if _, err := c.Rest(); err != nil && !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}
