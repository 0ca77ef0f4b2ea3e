package http1

import (
	"errors"
	"fmt"
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

func newClient(t *testing.T) (*ClientConn, *net.TCPConn) {
	t.Helper()
	conn, peer := pair(t)
	c := NewClientConn(conn, &testClient)
	t.Cleanup(c.in.Release)
	return c, peer
}

// request sends a request whole.
func request(t *testing.T, c *ClientConn, head string) {
	t.Helper()
	var r message.Request
	if _, err := ParseRequest([]byte(lines(head)), &r, testLimits); err != nil {
		t.Fatal(err)
	}
	if err := c.WriteHead(&r); err != nil {
		t.Fatal(err)
	}
	if err := c.End(nil); err != nil {
		t.Fatal(err)
	}
}

// readHead gives the next head as text, or the error.
func readHead(c *ClientConn) (string, error) {
	var r message.Response
	if err := c.ReadHead(&r, farAway()); err != nil {
		return "", err
	}
	return dumpResponse(&r), nil
}

const get = "GET / HTTP/1.1|Host: x||"

func TestReusable(t *testing.T) {
	for _, c := range []struct {
		name, request, response string
		reusable                bool
	}{
		{"length", get, "HTTP/1.1 200 OK|Content-Length: 3||abc", true},
		{"no body", get, "HTTP/1.1 200 OK|Content-Length: 0||", true},
		{"chunked", get, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||3|abc|0|A: b||", true},
		{"HEAD", "HEAD / HTTP/1.1|Host: x||", "HTTP/1.1 200 OK|Content-Length: 3||", true},
		{"HEAD of a chunked one", "HEAD / HTTP/1.1|Host: x||", "HTTP/1.1 200 OK|Transfer-Encoding: chunked||", true},
		{"204", get, "HTTP/1.1 204 No Content||", true},
		{"304", get, "HTTP/1.1 304 Not Modified|Content-Length: 3||", true},
		{"1.0 keep-alive", get, "HTTP/1.0 200 OK|Connection: keep-alive|Content-Length: 3||abc", true},
		{"behind interim ones", get, "HTTP/1.1 103 x||HTTP/1.1 200 OK|Content-Length: 3||abc", true},

		{"close", get, "HTTP/1.1 200 OK|Connection: close|Content-Length: 3||abc", false},
		{"1.0", get, "HTTP/1.0 200 OK|Content-Length: 3||abc", false},
		{"until close", get, "HTTP/1.1 200 OK||abc", false},
		{"204 that announces a body", get, "HTTP/1.1 204 No Content|Content-Length: 3||", false},
		{"a byte behind a length", get, "HTTP/1.1 200 OK|Content-Length: 3||abc\r", false},
		{"a response behind", get, "HTTP/1.1 200 OK|Content-Length: 0||HTTP/1.1 200 OK|Content-Length: 0||", false},
		{"a byte behind the last chunk", get, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||0||x", false},
		{"HEAD with a body", "HEAD / HTTP/1.1|Host: x||", "HTTP/1.1 200 OK|Content-Length: 3||abc", false},
		{"204 with a body", get, "HTTP/1.1 204 No Content||abc", false},
		{"304 with a body", get, "HTTP/1.1 304 Not Modified|Content-Length: 3||abc", false},
		{"a 200 to an offer to upgrade", "GET / HTTP/1.1|Host: x|Connection: upgrade|Upgrade: foo||", "HTTP/1.1 200 OK|Content-Length: 0||", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, peer := newClient(t)
			request(t, s, c.request)
			send(t, peer, c.response)
			if strings.Contains(c.name, "until close") {
				_ = peer.CloseWrite()
			}
			if s.Reusable() {
				t.Fatal("reusable before the response")
			}
			var r message.Response
			for r.Status < 200 {
				r.Reset()
				if err := s.ReadHead(&r, farAway()); err != nil {
					t.Fatal(err)
				}
			}
			if !r.NoBody && r.ContentLength != 0 && s.Reusable() {
				t.Error("reusable before the body")
			}
			if _, err := readAll(s.Body()); err != nil {
				t.Fatal(err)
			}
			if s.Reusable() != c.reusable {
				t.Fatalf("Reusable() = %v", s.Reusable())
			}
			if c.reusable && !s.Idle() {
				t.Error("not idle")
			}
		})
	}
}

func TestNotReusableBeforeTheRequestHasEnded(t *testing.T) {
	s, peer := newClient(t)
	var r message.Request
	if _, err := ParseRequest([]byte(lines("POST / HTTP/1.1|Host: x|Content-Length: 3||")), &r, testLimits); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteHead(&r); err != nil {
		t.Fatal(err)
	}
	send(t, peer, "HTTP/1.1 200 OK|Content-Length: 0||") // an early answer
	if _, err := readHead(s); err != nil {
		t.Fatal(err)
	}
	if _, err := readAll(s.Body()); err != nil {
		t.Fatal(err)
	}
	if s.Reusable() {
		t.Error("reusable with half a request sent")
	}
	if err := s.WriteBody([]byte("ab")); err != nil {
		t.Fatal(err)
	}
	if err := s.End(nil); err != ErrBodyLength || s.Reusable() {
		t.Errorf("a short body: %v, reusable %v", err, s.Reusable())
	}
	if err := s.WriteBody([]byte("c")); err != nil {
		t.Fatal(err)
	}
	if err := s.End(nil); err != nil || !s.Reusable() {
		t.Errorf("a whole body: %v, reusable %v", err, s.Reusable())
	}
}

func TestExchangesOnOneConnection(t *testing.T) {
	s, peer := newClient(t)
	for i := range 3 {
		request(t, s, fmt.Sprintf("GET /%d HTTP/1.1|Host: x||", i))
		if s.Answered() || s.Reusable() {
			t.Fatal("answered before anything came")
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			want := lines(fmt.Sprintf("GET /%d HTTP/1.1|Host: x||", i))
			got := make([]byte, len(want))
			if _, err := io.ReadFull(peer, got); err != nil || string(got) != want {
				t.Errorf("got %q, %v; want %q", got, err, want)
			}
			send(t, peer, strings.Repeat("HTTP/1.1 103 x||", 32)+"HTTP/1.1 200 OK|Content-Length: 1||a")
		}()
		for range 32 { // the bound is that of one exchange
			if got, err := readHead(s); got != `HTTP/1.1 103 "x" nobody` {
				t.Fatalf("got %q, %v", got, err)
			}
		}
		if !s.Answered() {
			t.Error("an interim response is an answer")
		}
		if got, err := readHead(s); got != `HTTP/1.1 200 "OK" length=1` {
			t.Fatalf("got %q, %v", got, err)
		}
		if body, err := readAll(s.Body()); body != "a" || err != nil {
			t.Fatalf("got %q, %v", body, err)
		}
		<-done
		if !s.Reusable() || !s.Idle() {
			t.Fatal("not reusable")
		}
	}
	peer.Close()
	for s.Idle() { // until the FIN is there
	}
}

func TestTooManyInterimResponses(t *testing.T) {
	s, peer := newClient(t)
	request(t, s, get)
	send(t, peer, strings.Repeat("HTTP/1.1 103 x||", 33)+"HTTP/1.1 200 OK|Content-Length: 0||")
	for range 32 {
		if _, err := readHead(s); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := readHead(s); err != errInterim {
		t.Fatalf("got %v, want %v", err, errInterim)
	}
}

func TestAnswered(t *testing.T) {
	for _, c := range []struct {
		in       string
		answered bool
		err      error
	}{
		{"", false, io.EOF},
		{"H", true, io.ErrUnexpectedEOF},
		{"HTTP/1.1 200 OK|", true, io.ErrUnexpectedEOF},
		{"HTTP/1.1 200 OK|A b||", true, errNoColon},
	} {
		s, peer := newClient(t)
		request(t, s, get)
		send(t, peer, c.in)
		_ = peer.CloseWrite()
		if _, err := readHead(s); err != c.err || s.Answered() != c.answered || s.Reusable() {
			t.Errorf("%q: got %v, answered %v, reusable %v; want %v, %v", c.in, err, s.Answered(), s.Reusable(), c.err, c.answered)
		}
	}
	s, peer := newClient(t)
	request(t, s, get)
	send(t, peer, "HTTP/1.1 100 Continue||")
	_ = peer.CloseWrite()
	if _, err := readHead(s); err != nil {
		t.Fatal(err)
	}
	if _, err := readHead(s); err != io.ErrUnexpectedEOF || !s.Answered() {
		t.Errorf("closed behind a 100: got %v, answered %v", err, s.Answered())
	}
}

// A deadline in the middle of a head loses nothing.
func TestReadHeadGoesOnAfterADeadline(t *testing.T) {
	s, peer := newClient(t)
	request(t, s, get)
	var r message.Response
	for _, piece := range []string{"", "HTTP/1.1 2", "00 OK\r\nA", ": b\r\nContent-Length: 1\r", "\n\r"} {
		send(t, peer, piece)
		if err := s.ReadHead(&r, time.Now().Add(10*time.Millisecond)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("after %q: got %v, want a deadline error", piece, err)
		}
	}
	send(t, peer, "\na")
	if err := s.ReadHead(&r, farAway()); err != nil || lines(dumpResponse(&r)) != lines(`HTTP/1.1 200 "OK" length=1|A: b`) {
		t.Fatalf("got %q, %v", dumpResponse(&r), err)
	}
	if body, err := readAll(s.Body()); body != "a" || err != nil {
		t.Fatalf("got %q, %v", body, err)
	}
}

func TestResponseBodyBrokenOff(t *testing.T) {
	for _, in := range []string{
		"HTTP/1.1 200 OK|Content-Length: 4||abc",
		"HTTP/1.1 200 OK|Transfer-Encoding: chunked||3|abc|",
		"HTTP/1.1 200 OK|Transfer-Encoding: chunked||3|abc|0|A: b|",
	} {
		s, peer := newClient(t)
		request(t, s, get)
		send(t, peer, in)
		_ = peer.CloseWrite()
		if _, err := readHead(s); err != nil {
			t.Fatal(err)
		}
		if body, err := readAll(s.Body()); body != "abc" || err != io.ErrUnexpectedEOF || s.Reusable() {
			t.Errorf("%q: got %q, %v", in, body, err)
		}
	}
	s, peer := newClient(t)
	request(t, s, get)
	send(t, peer, "HTTP/1.1 200 OK||abc") // until close: a reset is no end
	if _, err := readHead(s); err != nil {
		t.Fatal(err)
	}
	if p, err := s.Body().Next(true); string(p) != "abc" || err != nil {
		t.Fatalf("got %q, %v", p, err)
	}
	_ = peer.SetLinger(0)
	peer.Close()
	if _, err := s.Body().Next(true); err == nil || err == io.EOF || s.body.done() {
		t.Errorf("a body that a reset ended looks complete: %v", err)
	}
}

func TestSwitchingProtocols(t *testing.T) {
	const offer = "GET / HTTP/1.1|Host: x|Connection: upgrade|Upgrade: WebSocket||"
	for _, c := range []struct{ name, request, response string }{
		{"not asked for", get, "HTTP/1.1 101 x|Connection: upgrade|Upgrade: websocket||"},
		{"another one", offer, "HTTP/1.1 101 x|Connection: upgrade|Upgrade: websocket2||"},
		{"one that folds only in Unicode", offer, "HTTP/1.1 101 x|Connection: upgrade|Upgrade: webSoc\xe2\x84\xaaet||"},
		{"Connection does not say so", offer, "HTTP/1.1 101 x|Upgrade: websocket||"},
		{"does not say to what", offer, "HTTP/1.1 101 x|Connection: upgrade||"},
		{"two", offer, "HTTP/1.1 101 x|Connection: upgrade|Upgrade: websocket|Upgrade: websocket||"},
	} {
		s, peer := newClient(t)
		request(t, s, c.request)
		send(t, peer, c.response)
		if _, err := readHead(s); err != errSwitch || s.Reusable() {
			t.Errorf("%s: got %v, reusable %v; want %v", c.name, err, s.Reusable(), errSwitch)
		}
	}

	s, peer := newClient(t)
	request(t, s, offer)
	send(t, peer, "HTTP/1.1 101 x|Connection: keep-alive, Upgrade|Upgrade: websocket||behind")
	if got, err := readHead(s); got != `HTTP/1.1 101 "x" nobody upgrade=websocket` {
		t.Fatalf("got %q, %v", got, err)
	}
	if p, err := s.Body().Next(true); string(p) != "behind" || err != nil {
		t.Fatalf("got %q, %v", p, err)
	}
	s.Tunnel()
	if err := s.WriteBody([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := s.End(nil); err != nil { // our half ends, the server's lives on
		t.Fatal(err)
	}
	wantRead(t, peer, "GET / HTTP/1.1|Host: x|Connection: Upgrade|Upgrade: WebSocket||hello")
	if _, err := peer.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("got %v, want EOF", err)
	}
	send(t, peer, "bye")
	_ = peer.CloseWrite()
	if body, err := readAll(s.Body()); body != "bye" || err != nil {
		t.Fatalf("got %q, %v", body, err)
	}
	if s.Reusable() {
		t.Error("reusable after a tunnel")
	}
}

// The framings of a request's body, as the server gets them.
func TestRequestBodies(t *testing.T) {
	var trailer message.Header
	trailer.AddName([]byte("X-Sum"), []byte("1"))
	for _, c := range []struct{ head, want string }{
		{"PUT / HTTP/1.1|Host: x|Content-Length: 5||", "PUT / HTTP/1.1|Host: x|Content-Length: 5||abcde"},
		{"PUT / HTTP/1.1|Host: x|Transfer-Encoding: chunked||", "PUT / HTTP/1.1|Host: x|Transfer-Encoding: chunked||3|abc|2|de|0|X-Sum: 1||"},
	} {
		s, peer := newClient(t)
		var r message.Request
		if _, err := ParseRequest([]byte(lines(c.head)), &r, testLimits); err != nil {
			t.Fatal(err)
		}
		if err := s.WriteHead(&r); err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{"abc", "", "de"} {
			if err := s.WriteBody([]byte(p)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.End(&trailer); err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		wantRead(t, peer, c.want)
	}
	s, _ := newClient(t)
	request(t, s, get)
	if err := s.WriteBody([]byte("x")); err == nil {
		t.Error("a request without a body takes one")
	}
}

func TestAbortWakesTheReader(t *testing.T) {
	s, _ := newClient(t)
	request(t, s, get)
	done := make(chan error, 1)
	go func() {
		_, err := readHead(s)
		done <- err
	}()
	s.Abort()
	if err := <-done; err == nil {
		t.Error("a head was read from an aborted connection")
	}
}

// A head that is too long to be held leaves before the answer is read: silence must be looked for
// before that. An answer that has come meanwhile is no reason to send the request again.
func TestLongHeadsLookForSilenceFirst(t *testing.T) {
	head := "POST / HTTP/1.1|Host: a|Content-Length: 0|X: " + strings.Repeat("x", 20<<10) + "||"
	var r message.Request
	if _, err := ParseRequest([]byte(lines(head)), &r, testLimits); err != nil {
		t.Fatal(err)
	}
	s, peer := newClient(t)
	s.ExpectIdle()
	if err := s.WriteHead(&r); err != nil {
		t.Fatal(err)
	}
	send(t, peer, lines("HTTP/1.1 200 OK|Content-Length: 0||"))
	for s.s.Base().Idle() { // until it has come
		runtime.Gosched()
	}
	if got, err := readHead(s); err != nil {
		t.Errorf("an answer that is there before it is waited for: got %q, %v", got, err)
	}

	s, peer = newClient(t)
	send(t, peer, "out of turn")
	for s.s.Base().Idle() { // until it has come
		runtime.Gosched()
	}
	s.ExpectIdle()
	if err := s.WriteHead(&r); err != netio.ErrNotIdle {
		t.Errorf("a server that has spoken: got %v", err)
	}
	s.Abort()
	if n, _ := peer.Read(make([]byte, 1)); n > 0 {
		t.Error("something was sent to it")
	}
}
