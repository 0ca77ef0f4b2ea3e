package http2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"mpgate/internal/proxytest"
	"mpgate/proxy/message"
	"mpgate/proxy/netio"
)

// origin is a server of net/http that uses h2c.
func origin(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	srv := &http.Server{Handler: h, Protocols: &p, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 20}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(ln)
	}()
	t.Cleanup(func() { srv.Close(); <-done })
	return ln.Addr().String()
}

// dial gives a connection of ours to a server.
func dial(t testing.TB, addr string, o ClientOptions) *ClientConn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	base, err := netio.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	c := NewClientConn(base, &o)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Run()
		base.Close()
	}()
	t.Cleanup(func() { c.Abort(); <-done })
	return c
}

func request(method, path string, length int64) *message.Request {
	r := &message.Request{Method: []byte(method), Scheme: "http", Host: []byte("h.example"), Path: []byte(path), ContentLength: length}
	r.Header.AddString(message.UserAgent, "test")
	return r
}

type result struct {
	status        int
	body, trailer string
}

// exchange makes one with a body, if any, sent meanwhile.
func exchange(c *ClientConn, r *message.Request, body []byte) (res result, err error) {
	s, err := c.Open()
	if err != nil {
		return res, err
	}
	var wg sync.WaitGroup
	defer s.Release()
	defer wg.Wait()
	if err := s.WriteHead(r); err != nil {
		return res, err
	}
	wg.Go(func() {
		for len(body) > 0 {
			n := min(len(body), 50000)
			if s.WriteBody(body[:n]) != nil {
				return
			}
			body = body[n:]
		}
		_ = s.End(nil)
	})
	var resp message.Response
	for {
		resp.Reset()
		if err := s.ReadHead(&resp, time.Now().Add(10*time.Second)); err != nil {
			return res, err
		}
		if !resp.Interim() {
			break
		}
	}
	res.status = resp.Status
	var got bytes.Buffer
	for {
		p, err := s.Body().Next(true)
		if err == io.EOF {
			break
		}
		if err != nil {
			return res, err
		}
		got.Write(p)
	}
	res.body = got.String()
	for i := range resp.Trailer.Len() {
		if _, name, value, ok := resp.Trailer.At(i); ok {
			res.trailer += fmt.Sprintf("%s=%s;", name, value)
		}
	}
	return res, nil
}

func TestClientAsksTheOracle(t *testing.T) {
	addr := origin(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(103)
		w.Header().Set("Trailer", "X-Sum")
		b, _ := io.ReadAll(r.Body)
		w.WriteHeader(201)
		fmt.Fprintf(w, "%s %s %s %s %d", r.Method, r.Host, r.URL, r.UserAgent(), len(b))
		w.Header().Set("X-Sum", "7")
	})
	c := dial(t, addr, ClientOptions{})
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			n := i * 100000
			res, err := exchange(c, request("POST", "/a?b", int64(n)), make([]byte, n))
			want := result{201, fmt.Sprintf("POST h.example /a?b test %d", n), "x-sum=7;"}
			if err != nil || res != want {
				t.Errorf("got %+v, %v; want %+v", res, err, want)
			}
		})
	}
	wg.Wait()
}

func TestClientKeepsToTheServersLimit(t *testing.T) {
	in, out := make(chan bool), make(chan bool)
	addr := origin(t, func(w http.ResponseWriter, r *http.Request) {
		in <- true
		<-out
	})
	c := dial(t, addr, ClientOptions{})
	// The settings have come.
	if res, err := exchange2(c, in, out); err != nil || res.status != 200 {
		t.Fatal(res, err)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if res, err := exchange(c, request("GET", "/", 0), nil); err != nil || res.status != 200 {
				t.Errorf("%+v, %v", res, err)
			}
		})
	}
	for range 20 {
		<-in
	}
	if _, err := c.Open(); !errors.Is(err, ErrFull) {
		t.Errorf("a stream beyond the limit: %v, want ErrFull", err)
	}
	for range 20 {
		out <- true
	}
	wg.Wait()
	if now, most := c.Streams(); now != 0 || most != 20 {
		t.Errorf("%d streams of %d, want 0 of 20", now, most)
	}
}

func exchange2(c *ClientConn, in, out chan bool) (result, error) {
	go func() { <-in; out <- true }()
	return exchange(c, request("GET", "/", 0), nil)
}

// A connection on which a place was reserved is not idle; once it has none, it ends by its idle
// time and takes no more.
func TestReservedPlaceKeepsTheConnection(t *testing.T) {
	pings := make(chan error, 1<<10)
	c := dial(t, frames(t, func(p *peer, f http2.Frame) error {
		switch f := f.(type) {
		case *http2.HeadersFrame:
			return p.head(f.StreamID, true, ":status", "204")
		case *http2.PingFrame:
			pings <- nil
			return p.fr.WritePing(true, f.Data)
		}
		return nil
	}), ClientOptions{Limits: Limits{IdleTime: soon}, PingEvery: soon})
	if _, err := exchange(c, request("GET", "/", 0), nil); err != nil {
		t.Fatal(err)
	}
	s, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	_ = within(t, pings) // the idle time is over
	if !c.Usable() {
		t.Error("the connection ended")
	}
	s.Release()
	if !proxytest.Within(proxytest.Patience, func() bool { return !c.Usable() }) {
		t.Error("the connection goes on")
	}
	if _, err := c.Open(); err != ErrClosed {
		t.Errorf("Open gives %v, want %v", err, ErrClosed)
	}
}

func TestClientAbortReachesTheServerAtOnce(t *testing.T) {
	in, gone := make(chan bool), make(chan error)
	addr := origin(t, func(w http.ResponseWriter, r *http.Request) {
		in <- true
		<-r.Context().Done()
		gone <- r.Context().Err()
	})
	c := dial(t, addr, ClientOptions{})
	s, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WriteHead(request("GET", "/", 0)); err != nil {
		t.Fatal(err)
	}
	go func() { <-in; s.Abort(); <-gone; in <- true }()
	var r message.Response
	if err := s.ReadHead(&r, time.Time{}); err != errAborted {
		t.Errorf("got %v", err)
	}
	<-in
	s.Release()
}

func TestBothEndsSpeakToEachOther(t *testing.T) {
	f := serve(t, ServerOptions{}, echo)
	c := dial(t, f.addr, ClientOptions{})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			body := strings.Repeat(string(rune('a'+i%26)), 1+i*37777)
			res, err := exchange(c, request("PUT", "/", int64(len(body))), []byte(body))
			if err != nil || res.status != 200 || res.body != body || res.trailer != fmt.Sprintf("x-sum=%d;", len(body)) {
				t.Errorf("%d: status %d, %d bytes of %d, trailer %q, %v", i, res.status, len(res.body), len(body), res.trailer, err)
			}
		})
	}
	wg.Wait()
	c.Close()
	if err := <-f.ended; err != nil {
		t.Error(err)
	}
}

func TestDrainServesWhatIsUnderWay(t *testing.T) {
	started, goOn := make(chan bool), make(chan bool)
	f := serve(t, ServerOptions{}, func(s *ServerStream) {
		started <- true
		<-goOn
		answer(200, "late")(s)
	})
	c := dial(t, f.addr, ClientOptions{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if res, err := exchange(c, request("GET", "/", 0), nil); err != nil || res.body != "late" {
			t.Errorf("%+v, %v", res, err)
		}
	})
	<-started
	server := <-f.conns
	server.Shutdown()
	for c.Usable() {
		runtime.Gosched()
	}
	close(goOn)
	wg.Wait()
	if err := <-f.ended; err != nil {
		t.Errorf("the connection ended with %v", err)
	}
}

// A request with a body that the client sent before it knew of the last GOAWAY is ignored, body and
// all.
func TestDrainIgnoresWhatCrossesTheLastGoAway(t *testing.T) {
	started, goOn := make(chan bool), make(chan bool)
	f := serve(t, ServerOptions{}, func(s *ServerStream) {
		started <- true
		<-goOn
		answer(200, "late")(s)
	})
	defer close(goOn)
	p := connect(t, f.addr)
	if err := p.open(1, true); err != nil {
		t.Fatal(err)
	}
	<-started
	(<-f.conns).Shutdown()
	p.next(http2.FrameGoAway)
	ping := p.next(http2.FramePing)
	if err := p.fr.WritePing(true, [8]byte([]byte(ping.data))); err != nil {
		t.Fatal(err)
	}
	if g := p.next(http2.FrameGoAway); g.last != 1 {
		t.Errorf("the last stream is %d, want 1", g.last)
	}
	if err := errors.Join(p.open(3, false), p.fr.WriteData(3, true, []byte("crossing")), p.fr.WritePing(false, [8]byte{})); err != nil {
		t.Fatal(err)
	}
	p.next(http2.FramePing)
	if err := p.fr.WriteData(5, true, nil); err != nil { // never opened
		t.Fatal(err)
	}
	// RFC 9113 section 6.8: it must not be raised.
	if g := p.next(http2.FrameGoAway); g.last != 1 || g.code != http2.ErrCodeProtocol {
		t.Errorf("then the last stream is %d, with %v", g.last, g.code)
	}
}

func TestShutdownBeforeServeStillBeginsWithSettings(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ended := make(chan error)
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			ended <- err
			return
		}
		base, err := netio.New(nc)
		if err != nil {
			ended <- err
			return
		}
		c := NewServerConn(base, nil, &ServerOptions{}, answer(200, "last"))
		c.Shutdown()
		ended <- c.Serve()
		base.Close()
	}()
	c := dial(t, ln.Addr().String(), ClientOptions{})
	res, err := exchange(c, request("GET", "/", 0), nil)
	switch {
	case errors.Is(err, ErrClosed): // it was told before it asked
		c.Close()
	case err != nil || res.body != "last":
		t.Errorf("a client that could not know got %+v, %v", res, err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the connection ended with %v", err)
	}
}
