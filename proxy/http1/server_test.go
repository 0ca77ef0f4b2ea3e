package http1

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"mpgate/proxy/message"
	"mpgate/proxy/netio"
)

func farAway() time.Time { return time.Now().Add(20 * time.Second) }

func send(t *testing.T, w io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(w, lines(s)); err != nil {
		t.Error(err) // not Fatal: it is also called beside the test's goroutine
	}
}

func wantRead(t *testing.T, r io.Reader, want string) {
	t.Helper()
	want = lines(want)
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v; want %q", got[:n], err, want)
	}
}

func newServer(t *testing.T, o *ServerOptions) (*ServerConn, *net.TCPConn) {
	t.Helper()
	conn, peer := pair(t)
	c := NewServerConn(conn, o)
	t.Cleanup(c.Release)
	return c, peer
}

// readRequest waits for the next request and gives it as text.
func readRequest(t *testing.T, c *ServerConn) string {
	t.Helper()
	var r message.Request
	if err := c.Wait(farAway()); err != nil {
		t.Fatal(err)
	}
	if err := c.ReadRequest(&r, time.Now()); err != nil {
		t.Fatal(err)
	}
	return dumpRequest(&r)
}

func respond(t *testing.T, c *ServerConn, body string) {
	t.Helper()
	if err := c.WriteHead(&message.Response{Status: 200, ContentLength: int64(len(body))}); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteBody([]byte(body)); err != nil {
		t.Fatal(err)
	}
	if err := c.End(nil); err != nil {
		t.Fatal(err)
	}
}

// Requests in a row, of every framing, empty lines between them as old clients send: each is read
// as its own.
func TestPipelining(t *testing.T) {
	in := lines("POST /a HTTP/1.1|Host: x|Content-Length: 3||abc|GET /b HTTP/1.1|Host: x||" +
		"POST /c HTTP/1.1|Host: x|Transfer-Encoding: chunked||3|abc|0|T: 1||GET /d HTTP/1.0|Host: x||")
	want := []struct{ head, body, trailer string }{
		{"POST /a HTTP/1.1 host=x length=3", "abc", ""},
		{"GET /b HTTP/1.1 host=x", "", ""},
		{"POST /c HTTP/1.1 host=x length=-1", "abc", "|T: 1"},
		{"GET /d HTTP/1.0 host=x close", "", ""},
	}
	each(in, func(pieces ...string) {
		conn, peer := unixPair(t)
		c := NewServerConn(&feeder{Conn: conn, peer: peer, pieces: pieces}, &testServer)
		var r message.Request
		for i, w := range want {
			if i > 0 && !c.Next() {
				t.Fatalf("no further request after %d, in pieces %q", i, pieces)
			}
			r.Reset()
			if err := c.Wait(farAway()); err != nil {
				t.Fatal(err)
			}
			if err := c.ReadRequest(&r, time.Now()); err != nil {
				t.Fatalf("request %d in pieces %q: %v", i, pieces, err)
			}
			if c.Next() {
				t.Fatal("the next request may be read before this one is answered")
			}
			body, err := readAll(c.Body())
			if got := dumpRequest(&r); got != w.head || body != w.body || err != nil || dumpHeader(&r.Trailer) != w.trailer {
				t.Fatalf("request %d in pieces %q: got %q, %q, %q, %v", i, pieces, got, body, dumpHeader(&r.Trailer), err)
			}
			respond(t, c, string(r.Path))
		}
		if c.Next() {
			t.Fatal("a further request after one of HTTP/1.0")
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		ok := "HTTP/1.1 200 OK|Content-Length: 2||"
		wantRead(t, peer, ok+"/a"+ok+"/b"+ok+"/cHTTP/1.1 200 OK|Content-Length: 2|Connection: close||/d")
		c.Release()
		conn.Close()
		peer.Close()
	})
}

// What Connection names goes from the trailers too, of this message and no other.
func TestNominatedTrailers(t *testing.T) {
	s, peer := newServer(t, &testServer)
	c, origin := newClient(t)
	const tail = "Transfer-Encoding: chunked||0|X-A: 1|X-B: 2||"
	for _, m := range []struct{ connection, want string }{
		{"Connection: x-a, close-by|", "|X-B: 2"},
		{"", "|X-A: 1|X-B: 2"},
		{"Connection: keep-alive|Connection: X-B|", "|X-A: 1"},
	} {
		var r message.Request
		send(t, peer, "POST / HTTP/1.1|Host: x|"+m.connection+tail)
		if err := s.ReadRequest(&r, time.Now()); err != nil {
			t.Fatal(err)
		}
		if _, err := readAll(s.Body()); err != nil || dumpHeader(&r.Trailer) != m.want {
			t.Errorf("request with %q: got %q, %v; want %q", m.connection, dumpHeader(&r.Trailer), err, m.want)
		}
		var a message.Response
		request(t, c, get)
		send(t, origin, "HTTP/1.1 200 OK|"+m.connection+tail)
		if err := c.ReadHead(&a, farAway()); err != nil {
			t.Fatal(err)
		}
		if _, err := readAll(c.Body()); err != nil || dumpHeader(&a.Trailer) != m.want {
			t.Errorf("response with %q: got %q, %v; want %q", m.connection, dumpHeader(&a.Trailer), err, m.want)
		}
	}
}

func TestNextWantsBothComplete(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(c *ServerConn)
	}{
		{"unread body", func(c *ServerConn) { respond(t, c, "") }},
		{"half-read body", func(c *ServerConn) {
			if p, err := c.Body().Next(true); string(p) != "abc" || err != nil {
				t.Fatalf("got %q, %v", p, err)
			}
			respond(t, c, "")
		}},
		{"no response", func(c *ServerConn) { _, _ = readAll(c.Body()) }},
		{"unended response", func(c *ServerConn) {
			_, _ = readAll(c.Body())
			_ = c.WriteHead(&message.Response{Status: 200})
		}},
		{"SetClose", func(c *ServerConn) {
			_, _ = readAll(c.Body())
			c.SetClose()
			respond(t, c, "")
		}},
	} {
		s, peer := newServer(t, &testServer)
		send(t, peer, "POST / HTTP/1.1|Host: x|Content-Length: 3||abc")
		readRequest(t, s)
		c.do(s)
		if s.Next() {
			t.Errorf("%s: a further request may be read", c.name)
		}
	}
}

// While one goroutine passes a body on, the other asks whether it is through, to watch the client
// then.
func TestBodyDoneFromAnotherGoroutine(t *testing.T) {
	s, peer := newServer(t, &testServer)
	send(t, peer, "POST / HTTP/1.1|Host: x|Content-Length: 300000||")
	readRequest(t, s)
	go func() { _, _ = io.WriteString(peer, strings.Repeat("a", 300000)) }()
	read := make(chan error, 1)
	go func() {
		_, err := readAll(s.Body())
		read <- err
	}()
	for !s.BodyDone() {
		runtime.Gosched()
	}
	s.Watch(func() {})
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	s.StopWatch()
}

func TestRefusedRequestEndsTheConnection(t *testing.T) {
	s, peer := newServer(t, &testServer)
	send(t, peer, "GET / HTTP/1.1|Host: x||GET / HTTP/1.1|Host : x||GET /secret HTTP/1.1|Host: x||")
	readRequest(t, s)
	respond(t, s, "")
	if !s.Next() || s.Unread() == false {
		t.Fatal("the second request is not expected")
	}
	var r message.Request
	if err := s.ReadRequest(&r, time.Now()); err != errName {
		t.Fatalf("got %v, want %v", err, errName)
	}
	if s.Next() || s.BodyDone() || !s.Unread() || s.HeadSent() {
		t.Error("what was refused looks complete, or answered")
	}
	if p, err := s.Body().Next(false); len(p) > 0 || err == nil || err == io.EOF || err == message.ErrWait {
		t.Errorf("what was refused has a body: %q, %v", p, err)
	}
	respond(t, s, "no")
	if s.Next() {
		t.Error("a request may follow one that was refused")
	}
	_ = s.Flush()
	wantRead(t, peer, "HTTP/1.1 200 OK|Content-Length: 0||HTTP/1.1 200 OK|Content-Length: 2|Connection: close||no")
}

func TestWait(t *testing.T) {
	t.Run("deadline", func(t *testing.T) {
		s, _ := newServer(t, &testServer)
		if err := s.Wait(time.Now().Add(10 * time.Millisecond)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("got %v, want a deadline error", err)
		}
		if s.Unread() {
			t.Error("a silent client has something unread")
		}
	})
	t.Run("close", func(t *testing.T) {
		s, peer := newServer(t, &testServer)
		peer.Close()
		if err := s.Wait(farAway()); err != io.EOF {
			t.Fatalf("got %v, want EOF", err)
		}
	})
	for _, silent := range []string{"\r", "\r\n"} {
		t.Run("close behind an empty line", func(t *testing.T) {
			s, peer := newServer(t, &testServer)
			send(t, peer, silent)
			peer.Close()
			if err := s.Wait(farAway()); err != io.EOF {
				t.Fatalf("got %v, want EOF", err)
			}
		})
	}
	each(lines("|GET / HTTP/1.1|Host: x||"), func(pieces ...string) {
		conn, peer := unixPair(t)
		s := NewServerConn(&feeder{Conn: conn, peer: peer, pieces: pieces}, &testServer)
		if got := readRequest(t, s); got != "GET / HTTP/1.1 host=x" {
			t.Fatalf("in pieces %q: got %q", pieces, got)
		}
		s.Release()
		conn.Close()
		peer.Close()
	})
}

func TestHeadInTime(t *testing.T) {
	o := testServer
	o.HeaderTime = 20 * time.Millisecond
	for _, in := range []string{"", "G", "GET / HTTP/1.1|Host: x|"} {
		s, peer := newServer(t, &o)
		send(t, peer, in)
		var r message.Request
		if err := s.ReadRequest(&r, time.Now()); err != errTimeout || errTimeout.Status != 408 {
			t.Errorf("after %q: got %v, want %v", in, err, errTimeout)
		}
	}
	s, peer := newServer(t, &o)
	send(t, peer, wrkRequest)
	if err := s.Wait(farAway()); err != nil {
		t.Fatal(err)
	}
	var r message.Request
	if err := s.ReadRequest(&r, time.Now().Add(-time.Hour)); err != nil {
		t.Errorf("a head that is there already is late: %v", err)
	}
}

func TestHeadBrokenOff(t *testing.T) {
	for i := 1; i < len(wrkRequest); i++ {
		s, peer := newServer(t, &testServer)
		send(t, peer, wrkRequest[:i])
		_ = peer.CloseWrite()
		var r message.Request
		if err := s.ReadRequest(&r, time.Now()); err != io.ErrUnexpectedEOF {
			t.Fatalf("after %d bytes: got %v, want unexpected EOF", i, err)
		}
	}
}

// A limit above what a buffer holds is that of the buffer, and is answered as one.
func TestHeadLargerThanABuffer(t *testing.T) {
	o := testServer
	o.HeaderBytes = 8 * netio.MaxBuffered
	for _, c := range []struct {
		size int
		want error
	}{{netio.MaxBuffered, nil}, {netio.MaxBuffered + 1, errHeaderBytes}, {2 * netio.MaxBuffered, errHeaderBytes}} {
		s, peer := newServer(t, &o)
		head := "GET / HTTP/1.1\r\nHost: x\r\nA: "
		head += strings.Repeat("a", c.size-len(head)-4) + "\r\n\r\n"
		wrote := make(chan struct{})
		go func() {
			_, _ = io.WriteString(peer, head)
			close(wrote)
		}()
		var r message.Request
		if err := s.ReadRequest(&r, time.Now()); err != c.want && !(err == nil && c.want == nil) {
			t.Errorf("%d bytes: got %v, want %v", c.size, err, c.want)
		}
		peer.Close()
		<-wrote
	}
}

func TestInterim(t *testing.T) {
	hints := &message.Response{Status: 103, NoBody: true}
	hints.Header.AddName([]byte("Link"), []byte("a"))
	s, peer := newServer(t, &testServer)
	send(t, peer, wrkRequest)
	readRequest(t, s)
	if err := s.WriteInterim(hints); err != nil {
		t.Fatal(err)
	}
	wantRead(t, peer, "HTTP/1.1 103 Early Hints|Link: a||") // at once
	if s.HeadSent() || s.Next() {
		t.Error("an interim response counts as the final one")
	}
	respond(t, s, "a")
	_ = s.Flush()
	wantRead(t, peer, "HTTP/1.1 200 OK|Content-Length: 1||a")

	s, peer = newServer(t, &testServer)
	send(t, peer, "GET / HTTP/1.0||")
	readRequest(t, s)
	if err := s.WriteInterim(hints); err != nil {
		t.Fatal(err)
	}
	respond(t, s, "a")
	_ = s.Flush()
	// And nothing before.
	wantRead(t, peer, "HTTP/1.1 200 OK|Content-Length: 1|Connection: close||a")
}

func TestServerTunnel(t *testing.T) {
	s, peer := newServer(t, &testServer)
	send(t, peer, "GET / HTTP/1.1|Host: x|Connection: upgrade|Upgrade: foo||behind")
	readRequest(t, s)
	if p, err := s.Body().Next(false); err != io.EOF {
		t.Fatalf("before the 101 the tunnel brings %q, %v", p, err)
	}
	if err := s.WriteHead(&message.Response{Status: 101, NoBody: true, Upgrade: []byte("foo")}); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteBody([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	_ = s.Flush()
	wantRead(t, peer, "HTTP/1.1 101 Switching Protocols|Connection: Upgrade|Upgrade: foo||hello")
	if p, err := s.Body().Next(true); string(p) != "behind" || err != nil {
		t.Fatalf("got %q, %v", p, err)
	}
	_ = peer.CloseWrite()
	if p, err := s.Body().Next(true); err != io.EOF { // half-closed: the other direction lives on
		t.Fatalf("got %q, %v", p, err)
	}
	if err := s.WriteBody([]byte("bye")); err != nil {
		t.Fatal(err)
	}
	if err := s.End(nil); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(peer); string(b) != "bye" || err != nil {
		t.Fatalf("got %q, %v", b, err)
	}
	if s.Next() {
		t.Error("a request may follow a tunnel")
	}
}

func TestRefusedUpgradeIsAnOrdinaryExchange(t *testing.T) {
	s, peer := newServer(t, &testServer)
	send(t, peer, "GET /a HTTP/1.1|Host: x|Connection: upgrade|Upgrade: foo||GET /b HTTP/1.1|Host: x||")
	readRequest(t, s)
	respond(t, s, "")
	if !s.Next() {
		t.Fatal("no further request may be read")
	}
	if got := readRequest(t, s); got != "GET /b HTTP/1.1 host=x" {
		t.Fatalf("got %q", got)
	}
}

func TestWatch(t *testing.T) {
	never := func() { t.Error("a client that is there has left") }
	t.Run("client leaves", func(t *testing.T) {
		for _, leave := range []func(*net.TCPConn){
			func(p *net.TCPConn) { p.Close() },
			func(p *net.TCPConn) { _ = p.SetLinger(0); p.Close() },
		} {
			s, peer := newServer(t, &testServer)
			send(t, peer, wrkRequest)
			readRequest(t, s)
			gone := make(chan struct{})
			s.Watch(func() { close(gone) })
			leave(peer)
			<-gone
			s.StopWatch()
		}
	})
	t.Run("stopped at once", func(t *testing.T) {
		s, peer := newServer(t, &testServer)
		s.StopWatch() // without a Watch
		for range 200 {
			send(t, peer, wrkRequest)
			readRequest(t, s)
			s.Watch(never)
			s.StopWatch()
			respond(t, s, "")
		}
	})
	t.Run("client goes on while it is watched", func(t *testing.T) {
		s, peer := newServer(t, &testServer)
		send(t, peer, wrkRequest)
		for range 200 {
			readRequest(t, s)
			s.Watch(never)
			sent := make(chan struct{})
			go func() { // some of it may come during the watch, some after
				for _, c := range []byte(wrkRequest) {
					_, _ = peer.Write([]byte{c})
				}
				close(sent)
			}()
			s.StopWatch()
			respond(t, s, "")
			<-sent
		}
		readRequest(t, s)
	})
	t.Run("client sends far ahead", func(t *testing.T) {
		s, peer := newServer(t, &testServer)
		send(t, peer, wrkRequest)
		readRequest(t, s)
		const n = 10000
		wrote := make(chan struct{})
		go func() {
			_, _ = peer.Write(bytes.Repeat([]byte(wrkRequest), n))
			close(wrote)
		}()
		s.Watch(never)
		<-s.watching // it stops by itself
		if s.in.Len() < maxWatched || s.in.Len() > 5*maxWatched {
			t.Errorf("%d bytes read ahead, want about %d", s.in.Len(), maxWatched)
		}
		s.StopWatch()
		for range n {
			if got := readRequest(t, s); got != "GET / HTTP/1.1 host=127.0.0.1:8080" {
				t.Fatalf("got %q", got)
			}
		}
		<-wrote
	})
	t.Run("an earlier deadline does not end it", func(t *testing.T) {
		s, peer := newServer(t, &testServer)
		send(t, peer, wrkRequest)
		if err := s.Wait(time.Now().Add(30 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		readRequest(t, s)
		_ = s.s.Base().SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		s.Watch(never)
		// The timer of that deadline fires while the client is watched.
		<-time.After(60 * time.Millisecond)
		s.StopWatch()
		send(t, peer, wrkRequest)
		readRequest(t, s)
	})
}

// A client that is still sending its body reads the whole response before the connection ends. What
// a client has sent behind the request that turns out to be its last would reset the connection,
// too.
func TestUnreadInTheSocket(t *testing.T) {
	for _, asks := range []bool{false, true} {
		s, peer := newServer(t, &ServerOptions{Limits{HeaderBytes: 1 << 10, HeaderFields: 10, HeaderTime: 20 * time.Second}})
		head := "GET / HTTP/1.1\r\nHost: a\r\n"
		if asks {
			head += "Connection: close\r\n"
		}
		send(t, peer, head+"\r\n")
		readRequest(t, s)
		s.SetClose()
		send(t, peer, "G")
		respond(t, s, "x")
		if err := s.s.Base().WaitReadable(); err != nil {
			t.Fatal(err)
		}
		if s.Unread() == asks {
			t.Errorf("the client asks for the end: %v; unread: %v", asks, s.Unread())
		}
	}
}

func TestLinger(t *testing.T) {
	s, peer := newServer(t, &testServer)
	const most = 256 << 10
	send(t, peer, "POST / HTTP/1.1|Host: x|Content-Length: 100000||")
	readRequest(t, s)
	s.SetClose()
	respond(t, s, "too large")
	done := make(chan struct{})
	go func() {
		s.Linger(netio.Linger{Bytes: most, Silence: 20 * time.Second, Time: 20 * time.Second})
		s.s.Close()
		close(done)
	}()
	send(t, peer, strings.Repeat("a", 100000))
	_ = peer.CloseWrite()
	b, err := io.ReadAll(peer)
	if want := lines("HTTP/1.1 200 OK|Content-Length: 9|Connection: close||too large"); string(b) != want || err != nil {
		t.Fatalf("got %q, %v", b, err)
	}
	<-done
}

func TestLingerIsBounded(t *testing.T) {
	t.Run("in time", func(t *testing.T) {
		s, _ := newServer(t, &testServer)
		s.Linger(netio.Linger{Bytes: 1 << 40, Silence: 20 * time.Second, Time: 20 * time.Millisecond})
	})
	t.Run("in bytes", func(t *testing.T) {
		s, peer := newServer(t, &testServer)
		wrote := make(chan error, 1)
		go func() {
			_, err := peer.Write(make([]byte, 64<<20))
			wrote <- err
		}()
		s.Linger(netio.Linger{Bytes: 256 << 10, Silence: 20 * time.Second, Time: 20 * time.Second})
		s.s.Close()
		if err := <-wrote; err == nil {
			t.Error("64 MiB were taken, want about 256 KiB")
		}
	})
	t.Run("after an interruption", func(t *testing.T) {
		s, peer := newServer(t, &testServer)
		s.s.Base().Interrupt()
		send(t, peer, "abc")
		s.Linger(netio.Linger{Bytes: 3, Silence: 20 * time.Second, Time: 20 * time.Second})
		if !s.s.Idle() {
			t.Error("the 3 bytes that came were not taken")
		}
	})
}
