package proxy_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/message"
	"mpgate/proxy/preread"
	"mpgate/proxy/route"
)

// A server that says it has not looked at a request gets it no second time; it goes by another
// connection, whatever its method is.
func TestHTTP2NotProcessedIsSentAgain(t *testing.T) {
	for name, refuse := range map[string]func(fr *xhttp2.Framer, id uint32){
		"GOAWAY":         func(fr *xhttp2.Framer, id uint32) { _ = fr.WriteGoAway(0, xhttp2.ErrCodeNo, nil) },
		"REFUSED_STREAM": func(fr *xhttp2.Framer, id uint32) { _ = fr.WriteRSTStream(id, xhttp2.ErrCodeRefusedStream) },
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			o := plain.origin(t, func(c *proxytest.Conn) {
				if _, err := io.CopyN(io.Discard, c.R, int64(len(preread.Preface))); err != nil {
					return
				}
				fr := xhttp2.NewFramer(c.Conn, c.R)
				_ = fr.WriteSettings()
				for {
					f, err := fr.ReadFrame()
					if err != nil {
						return
					}
					h, ok := f.(*xhttp2.HeadersFrame)
					if !ok {
						continue
					}
					if asked.Add(1) == 1 {
						refuse(fr, h.StreamID)
						continue
					}
					var b bytes.Buffer
					enc := hpack.NewEncoder(&b)
					_ = enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
					_ = fr.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: h.StreamID, BlockFragment: b.Bytes(),
						EndHeaders: true, EndStream: true})
				}
			})
			g := start(t, setup{mode: plain, backend: backend.Options{Protocol: backend.HTTP2}}, o)
			c := g.client()
			c.Send("DELETE /x HTTP/1.1\r\nHost: h\r\n\r\n")
			if a := c.Answer(); a.Status != 200 || asked.Load() != 2 {
				t.Errorf("got %d after %d requests", a.Status, asked.Load())
			}
			c.Send("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
			if a := c.Answer(); a.Status != 200 || asked.Load() != 3 {
				t.Errorf("got %d after %d requests", a.Status, asked.Load())
			}
		})
	}
}

// A request with a body that was refused goes by another connection too, if nothing of the body was
// taken yet.
func TestHTTP2NotProcessedIsSentAgainWithItsBody(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	again := make(chan struct{})
	o := framesOrigin(t, nil, func(fr *xhttp2.Framer, f xhttp2.Frame) {
		switch h := f.Header(); {
		case h.Type == xhttp2.FrameHeaders && asked.Add(1) == 1:
			_ = fr.WriteRSTStream(h.StreamID, xhttp2.ErrCodeRefusedStream)
		case h.Type == xhttp2.FrameHeaders:
			close(again)
		case h.Type == xhttp2.FrameData && h.Flags.Has(xhttp2.FlagDataEndStream):
			answerFrames(fr, h.StreamID)
		}
	})
	g := start(t, setup{mode: plain, listener: proxy.ListenerOptions{H2C: true},
		backend: backend.Options{Protocol: backend.HTTP2}}, o)
	s, err := begin(multiplexed(t, g.addr), "POST", "/", 4)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	wantSoon(t, "the second request", again)
	if err := s.WriteBody([]byte("body")); err != nil {
		t.Fatal(err)
	}
	if err := s.End(nil); err != nil {
		t.Fatal(err)
	}
	var r message.Response
	if err := s.ReadHead(&r, time.Now().Add(proxytest.Patience)); err != nil || r.Status != 200 {
		t.Errorf("got %d, %v", r.Status, err)
	}
}

// Who waits for a connection waits until the server has said how many streams it takes, which are
// not more then.
func TestHTTP2BurstKeepsToTheServersLimit(t *testing.T) {
	t.Parallel()
	var conns atomic.Int64
	asked, settle, finish := make(chan struct{}), make(chan struct{}), make(chan struct{})
	o := plain.origin(t, func(c *proxytest.Conn) {
		if _, err := io.CopyN(io.Discard, c.R, int64(len(preread.Preface))); err != nil {
			return
		}
		first := conns.Add(1) == 1
		fr := xhttp2.NewFramer(c.Conn, c.R)
		most := xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: 1}
		if !first {
			_ = fr.WriteSettings(most)
		}
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				return
			}
			h := f.Header()
			if h.Type != xhttp2.FrameHeaders {
				continue
			}
			if first { // no other fits before its answer
				asked <- struct{}{}
				<-settle
				_ = fr.WriteSettings(most)
				<-finish
			}
			answerFrames(fr, h.StreamID)
		}
	})
	g := start(t, setup{mode: plain, backend: backend.Options{Protocol: backend.HTTP2}}, o)
	var clients []*proxytest.Client
	ask := func() {
		c := g.client()
		c.Send("GET / HTTP/1.1\r\n" + host + "\r\n")
		clients = append(clients, c)
	}
	ask()
	<-asked
	ask()
	ask()
	g.waitMetric(3, "mpgate_http_requests_in_flight")
	close(settle)
	for _, c := range clients[1:] {
		want(t, "status", c.Answer().Status, 200)
	}
	close(finish)
	want(t, "status", clients[0].Answer().Status, 200)
}

// When a lease ends, its streams are cut at the deadline, and the others of the same connection
// live on.
func TestHTTP2LeasesEndByStream(t *testing.T) {
	goOn := make(chan bool)
	o := plain.origin(t, func(c *proxytest.Conn) {
		for {
			r := c.Request()
			if r == nil {
				return
			}
			<-goOn
			if !c.Send(proxytest.Response("200 OK", "late")) {
				return
			}
		}
	})
	var old, kept proxy.Lease
	g := start(t, setup{mode: plain, listener: proxy.ListenerOptions{H2C: true},
		routes: func(b *backend.Backend) []proxy.Route {
			return []proxy.Route{{Name: "old", Match: route.Match{Paths: []string{"/old"}},
				Action: &proxy.Forward{Backend: b}, Lease: &old},
				{Name: "kept", Match: route.Match{Paths: []string{"/kept"}}, Action: &proxy.Forward{Backend: b},
					Lease: &kept}}
		}}, o)
	c := multiplexed(t, g.addr)
	ask := func(path string) chan string {
		got := make(chan string, 1)
		s, err := c.Open()
		if err != nil {
			t.Fatal(err)
		}
		r := &message.Request{Method: []byte("GET"), Scheme: "http", Host: []byte("h"), Path: []byte(path)}
		if err := s.WriteHead(r); err != nil {
			t.Fatal(err)
		}
		_ = s.Flush()
		go func() {
			defer s.Release()
			var resp message.Response
			if err := s.ReadHead(&resp, time.Now().Add(proxytest.Patience)); err != nil {
				got <- err.Error()
				return
			}
			p, _ := s.Body().Next(true)
			got <- string(p)
		}()
		return got
	}
	cut, lives := ask("/old"), ask("/kept")
	g.waitMetric(2, "mpgate_http_requests_in_flight")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if n := g.proxy.Expire(ctx, proxy.Ending{Leases: []*proxy.Lease{&old}}); n != 1 {
		t.Errorf("%d connections were cut into, want 1", n)
	}
	if got := <-cut; got != "the peer reset the stream: CANCEL" {
		t.Errorf("the stream whose route is gone got %q", got)
	}
	close(goOn)
	if got := <-lives; got != "late" {
		t.Errorf("the other stream got %q", got)
	}
	ends := map[string]string{}
	for range 2 {
		l := g.log.Next()
		ends[l.Route] = l.End
	}
	if ends["old"] != "drain" || ends["kept"] != "ok" {
		t.Errorf("the log says %v", ends)
	}
}

// One byte, or a part of the preface, on a listener that waits for HTTP/2 is closed in time; a
// client of HTTP/1 is not made to send more than it has.
func TestHTTP2PrefaceInParts(t *testing.T) {
	g := start(t, setup{
		mode: plain, listener: proxy.ListenerOptions{H2C: true},
		options: proxy.Options{Limits: proxy.Limits{HeaderTime: 2 * time.Second}},
	}, plain.origin(t, proxytest.Echo))
	var conns sync.WaitGroup
	for _, part := range []string{"", "P", preread.Preface[:23], preread.Preface, preread.Preface + "\x00\x00"} {
		nc, err := net.Dial("tcp", g.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		conns.Go(func() {
			_, _ = io.WriteString(nc, part)
			_ = nc.SetReadDeadline(time.Now().Add(proxytest.Patience))
			if _, err := io.Copy(io.Discard, nc); err != nil {
				t.Errorf("%q: %v", part, err)
			}
		})
	}
	conns.Wait()
	g.bystander()
}
