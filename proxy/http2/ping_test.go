package http2

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"mpgate/proxy/message"
	"mpgate/proxy/netio"
	"mpgate/proxy/preread"
)

const (
	soon      = 10 * time.Millisecond // of silence, before a PING
	shortly   = 50 * time.Millisecond // for the answer of who never gives one
	generous  = 30 * time.Second      // for the answer of who is alive, on a busy machine
	manyPings = 5
)

// reading is a handler that reads the body to its end, says how that was, and answers where it was
// in order.
func reading(result chan<- error) func(*ServerStream) {
	return func(s *ServerStream) {
		var r message.Request
		if err := s.ReadRequest(&r, time.Time{}); err != nil {
			result <- err
			return
		}
		for {
			if _, err := s.Body().Next(true); err == io.EOF {
				break
			} else if err != nil {
				result <- err
				return
			}
		}
		respond(s, 200, "done")
		result <- nil
	}
}

// A client that says nothing while a stream is open is asked; without an answer it is gone, and the
// stream with it.
func TestSilentClientIsEnded(t *testing.T) {
	result := make(chan error, 2)
	f := serve(t, ServerOptions{PingEvery: soon, PingAnswer: shortly}, reading(result))
	p := connect(t, f.addr)
	// In one write: on a busy machine the first could be over before the second comes.
	var both bytes.Buffer
	for _, id := range []uint32{1, 3} {
		head := http2.HeadersFrameParam{StreamID: id, BlockFragment: p.block(get...), EndHeaders: true}
		if err := http2.NewFramer(&both, nil).WriteHeaders(head); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.c.Write(both.Bytes()); err != nil {
		t.Fatal(err)
	}
	if ping := p.next(http2.FramePing); ping.Flags.Has(http2.FlagPingAck) || ping.data[0] != pingAlive {
		t.Errorf("got %v %q, want a PING to be answered", ping, ping.data)
	}
	for range 2 {
		if err := within(t, result); !errors.Is(err, errSilent) {
			t.Errorf("a stream ended with %v, want %v", err, errSilent)
		}
	}
	if err := within(t, f.ended); !errors.Is(err, errSilent) {
		t.Errorf("the connection ended with %v, want %v", err, errSilent)
	}
	if _, err := p.ended(); err != io.EOF {
		t.Errorf("the client saw %v, want the end", err)
	}
}

// One that answers is asked again after each silence, and kept for as long as its stream takes.
func TestIdleClientThatAnswersIsKept(t *testing.T) {
	result := make(chan error, 1)
	f := serve(t, ServerOptions{PingEvery: soon, PingAnswer: generous}, reading(result))
	p := connect(t, f.addr)
	if err := p.open(1, false); err != nil {
		t.Fatal(err)
	}
	for range manyPings {
		ping := p.next(http2.FramePing)
		if err := p.fr.WritePing(true, [8]byte([]byte(ping.data))); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.fr.WriteData(1, true, nil); err != nil {
		t.Fatal(err)
	}
	if err := within(t, result); err != nil {
		t.Errorf("the stream ended with %v", err)
	}
	if got := p.next(http2.FrameData); got.data != "done" {
		t.Errorf("got %q", got.data)
	}
}

// One that answers no PING, and goes on sending, is alive.
func TestDataIsASignOfLife(t *testing.T) {
	result := make(chan error, 1)
	f := serve(t, ServerOptions{PingEvery: soon, PingAnswer: generous}, reading(result))
	p := connect(t, f.addr)
	if err := p.open(1, false); err != nil {
		t.Fatal(err)
	}
	p.next(http2.FramePing)
	server := <-f.conns
	if err := p.fr.WriteData(1, false, []byte("alive")); err != nil {
		t.Fatal(err)
	}
	p.next(http2.FramePing) // another silence began: the first PING is forgotten
	if err := p.fr.WriteData(1, true, []byte("alive")); err != nil {
		t.Fatal(err)
	}
	if err := within(t, result); err != nil {
		t.Errorf("the stream ended with %v", err)
	}
	server.Shutdown()
}

// pingedServer takes a connection and, before it says anything, some requests on it. It answers
// PINGs as often as it is told, then the first request, if it answered any.
func pingedServer(ln net.Listener, requests, answers int, pings chan<- byte) error {
	nc, err := ln.Accept()
	if err != nil {
		return err
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(generous))
	if _, err := io.CopyN(io.Discard, nc, int64(len(preread.Preface))); err != nil {
		return err
	}
	p := &peer{c: nc, fr: http2.NewFramer(nc, nc)}
	p.enc = hpack.NewEncoder(&p.buf)
	for came, answered := 0, 0; ; {
		f, err := p.fr.ReadFrame()
		if err != nil {
			return err
		}
		if f.Header().Type == http2.FrameHeaders {
			if came++; came == requests && p.fr.WriteSettings() != nil {
				return errors.New("the client is gone")
			}
		}
		ping, ok := f.(*http2.PingFrame)
		if !ok {
			continue
		}
		pings <- ping.Data[0]
		if answered == answers {
			continue
		}
		if err := p.fr.WritePing(true, ping.Data); err != nil {
			return err
		}
		if answered++; answered == answers {
			if err := p.head(1, true, ":status", "204"); err != nil {
				return err
			}
		}
	}
}

func TestSilentServerIsEnded(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	pings, ended := make(chan byte, 1<<10), make(chan error, 1)
	go func() { ended <- pingedServer(ln, 2, 0, pings) }()
	c := dial(t, ln.Addr().String(), ClientOptions{PingEvery: soon, PingAnswer: shortly})
	results := make(chan error, 2)
	for range 2 {
		go func() { _, err := exchange(c, request("GET", "/", 0), nil); results <- err }()
	}
	for range 2 {
		if err := within(t, results); !errors.Is(err, errSilent) {
			t.Errorf("an exchange ended with %v, want %v", err, errSilent)
		}
	}
	if err := within(t, ended); !errors.Is(err, io.EOF) {
		t.Errorf("the server saw %v, want the end", err)
	}
	if n := len(pings); n != 1 || <-pings != pingAlive {
		t.Errorf("%d PINGs came, want one to be answered", n)
	}
	if c.Usable() {
		t.Error("the connection still takes requests")
	}
}

func TestIdleServerThatAnswersIsKept(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	pings, ended := make(chan byte, 1<<10), make(chan error, 1)
	go func() { ended <- pingedServer(ln, 1, manyPings, pings) }()
	c := dial(t, ln.Addr().String(), ClientOptions{PingEvery: soon, PingAnswer: generous})
	s, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	if err := errors.Join(s.WriteHead(request("GET", "/", 0)), s.End(nil)); err != nil {
		t.Fatal(err)
	}
	var resp message.Response
	if err := s.ReadHead(&resp, time.Now().Add(generous)); err != nil || resp.Status != 204 {
		t.Errorf("got %d, %v", resp.Status, err)
	}
	if n := len(pings); n < manyPings {
		t.Errorf("%d PINGs came before the answer, want %d", n, manyPings)
	}
	if !c.Usable() {
		t.Error("the connection takes no more requests")
	}
	c.Abort()
	<-ended
}

func TestPingsByDefault(t *testing.T) {
	for name, l := range map[string]connLimits{
		"server": NewServerConn(unspoken(t), nil, &ServerOptions{}, nil).limits,
		"client": NewClientConn(unspoken(t), &ClientOptions{}).limits,
	} {
		if l.pingEvery != 15*time.Second || l.pingAnswer != 15*time.Second {
			t.Errorf("%s: a PING after %v, to be answered within %v; want 15 s each", name, l.pingEvery, l.pingAnswer)
		}
	}
}

// unspoken is a connection on which nobody says anything.
func unspoken(t *testing.T) *netio.Conn {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	base, err := netio.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { base.Close() })
	return base
}

// within waits for an end, if nothing is broken.
func within(t *testing.T, end <-chan error) error {
	t.Helper()
	select {
	case err := <-end:
		return err
	case <-time.After(generous):
		t.Fatal("no end came")
		return nil
	}
}
