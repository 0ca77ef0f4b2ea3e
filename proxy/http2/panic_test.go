package http2

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"mpgate/internal/proxytest"
	"mpgate/proxy/message"
	"mpgate/proxy/netio"
	"mpgate/task"
)

// reports collects what is reported of panics.
func reports(t *testing.T) <-chan *task.Panic {
	c := make(chan *task.Panic, 64)
	t.Cleanup(task.OnPanic(func(p *task.Panic) { c <- p }))
	return c
}

// wantReport wants a panic in that task to have been reported, and no other.
func wantReport(t *testing.T, told <-chan *task.Panic, name string) {
	t.Helper()
	select {
	case p := <-told:
		if p.Task != name || !strings.Contains(string(p.Stack), "proxy/http2") {
			t.Errorf("reported: %v\n%s", p, p.Stack)
		}
	case <-time.After(proxytest.Patience):
		t.Fatal("no panic was reported")
	}
	select {
	case p := <-told:
		t.Errorf("reported besides: %v\n%s", p, p.Stack)
	default:
	}
}

// faultyStream panics in its next call once it is told to.
type faultyStream struct {
	netio.Stream
	write, flush atomic.Bool
}

func (s *faultyStream) Write(p []byte) (int, error) {
	if s.write.Swap(false) {
		panic("write")
	}
	return s.Stream.Write(p)
}

func (s *faultyStream) Flush() error {
	if s.flush.Swap(false) {
		panic("flush")
	}
	return s.Stream.Flush()
}

// waiting begins n exchanges whose heads are awaited, and gives their outcomes.
func waiting(t *testing.T, c *ClientConn, n int) <-chan error {
	t.Helper()
	errs := make(chan error, n)
	for range n {
		s, err := c.Open()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.WriteHead(request("GET", "/", 0)); err != nil {
			t.Fatal(err)
		}
		go func() {
			var r message.Response
			err := s.ReadHead(&r, time.Time{})
			s.Release()
			errs <- err
		}()
	}
	return errs
}

// TestPanicOfAClientsReader: a panic of what reads, with the connection's lock held or not, ends
// the connection with all its exchanges, none of which waits for ever.
func TestPanicOfAClientsReader(t *testing.T) {
	for _, held := range []bool{false, true} {
		t.Run(map[bool]string{false: "the lock is free", true: "the lock is held"}[held], func(t *testing.T) {
			told := reports(t)
			all := make(chan bool)
			addr := frames(t, func(p *peer, f http2.Frame) error {
				if f, ok := f.(*http2.HeadersFrame); ok && f.StreamID == 5 {
					<-all
					return errors.Join(p.head(f.StreamID, false, ":status", "200"), p.fr.WriteData(f.StreamID, true, []byte("body")))
				}
				return nil
			})
			o := ClientOptions{}
			if !held {
				o.OnSettings = func() { <-all; panic("settled") }
			}
			c := dial(t, addr, o)
			errs := waiting(t, c, 2)
			s, err := c.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer s.Release()
			if err := errors.Join(s.WriteHead(request("GET", "/", 0)), s.Flush()); err != nil {
				t.Fatal(err)
			}
			if held {
				c.mu.Lock()
				c.streams[5].inbox.first = 100 // of no blocks
				c.mu.Unlock()
			}
			close(all)
			ends := []error{within(t, errs), within(t, errs)} // before anybody looks into the inbox
			var r message.Response
			if err = s.ReadHead(&r, time.Time{}); held && err == nil {
				_, err = s.Body().Next(true)
			}
			for _, err := range append(ends, err) {
				if err == nil || !strings.Contains(err.Error(), "internal error") {
					t.Errorf("an exchange ends with %v", err)
				}
			}
			wantReport(t, told, "HTTP/2 connection to a server: reading")
			if c.Usable() {
				t.Error("the connection goes on")
			}
		})
	}
}

// TestPanicOfAWriter: nobody knows what has left, so the connection ends, and with it the exchanges
// that wait.
func TestPanicOfAWriter(t *testing.T) {
	for _, what := range []string{"write", "flush"} {
		t.Run(what, func(t *testing.T) {
			told := reports(t)
			nc, err := net.Dial("tcp", frames(t, func(*peer, http2.Frame) error { return nil }))
			if err != nil {
				t.Fatal(err)
			}
			base, err := netio.New(nc)
			if err != nil {
				t.Fatal(err)
			}
			s := &faultyStream{Stream: base}
			c := NewClientConn(s, &ClientOptions{})
			ended := make(chan error, 1)
			go func() { ended <- c.Run(); base.Close() }()
			t.Cleanup(c.Abort)
			errs := waiting(t, c, 2)
			if what == "write" {
				s.write.Store(true)
			} else {
				s.flush.Store(true)
			}
			c.mu.Lock()
			c.appendPing(false, [8]byte{pingAlive})
			c.wantFlush()
			c.mu.Unlock()
			for range 2 {
				if err := within(t, errs); err == nil {
					t.Error("an exchange was answered")
				}
			}
			if err := within(t, ended); err == nil {
				t.Error("Run ends in order")
			}
			if p := <-told; p.Value != what {
				t.Errorf("reported: %v", p)
			}
		})
	}
}

// TestPanicOfAHandler ends its stream, and nothing else on the connection.
func TestPanicOfAHandler(t *testing.T) {
	told := reports(t)
	var bad atomic.Bool
	f := serve(t, ServerOptions{}, func(s *ServerStream) {
		if bad.Swap(false) {
			panic("handler")
		}
		answer(200, "well")(s)
	})
	c := dial(t, f.addr, ClientOptions{})
	bad.Store(true)
	if res, err := exchange(c, request("GET", "/", 0), nil); err == nil || !strings.Contains(err.Error(), "INTERNAL_ERROR") {
		t.Errorf("%+v, %v", res, err)
	}
	wantReport(t, told, "HTTP/2 stream")
	if res, err := exchange(c, request("GET", "/", 0), nil); err != nil || res.body != "well" {
		t.Errorf("the next exchange: %+v, %v", res, err)
	}
}

// TestPanicOfAServersReader: with the lock held, in the middle of a frame. The handlers that run
// have their streams reset, Serve returns once they have, and the client's exchanges end.
func TestPanicOfAServersReader(t *testing.T) {
	told := reports(t)
	began, gone := make(chan bool, 2), make(chan bool, 2)
	f := serve(t, ServerOptions{}, func(s *ServerStream) {
		s.Watch(func() { gone <- true })
		defer s.StopWatch()
		began <- true
		<-gone
	})
	c := dial(t, f.addr, ClientOptions{})
	errs := waiting(t, c, 1)
	s, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	if err := errors.Join(s.WriteHead(request("PUT", "/", 10)), s.Flush()); err != nil {
		t.Fatal(err)
	}
	<-began
	<-began
	server := <-f.conns
	server.mu.Lock()
	server.streams[3].inbox.first = 100 // of no blocks
	server.mu.Unlock()
	if err := errors.Join(s.WriteBody([]byte("0123456789")), s.End(nil)); err != nil {
		t.Fatal(err)
	}
	var r message.Response
	for _, err := range []error{s.ReadHead(&r, time.Time{}), within(t, errs)} {
		if err == nil {
			t.Error("an exchange was answered")
		}
	}
	if err := within(t, f.ended); err == nil || !strings.Contains(err.Error(), "internal error") {
		t.Errorf("Serve ends with %v", err)
	}
	wantReport(t, told, "HTTP/2 connection to a client: reading")
}

// TestStreamsBeforeTheSettings opens and gives up streams while the server's first SETTINGS come
// byte by byte: the reader looks at what the streams change. It is for the race detector.
func TestStreamsBeforeTheSettings(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	sent := make(chan error, 1)
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			sent <- err
			return
		}
		go func() { _, _ = io.Copy(io.Discard, nc) }() // until the client closes
		_, err = nc.Write([]byte{0, 60, 0, 4, 0, 0, 0, 0, 0})
		for range 10000 { // of 15360 bytes, so that they are never whole
			if err == nil {
				_, err = nc.Write([]byte{0})
			}
		}
		sent <- err
	}()
	c := dial(t, ln.Addr().String(), ClientOptions{})
	for n := 0; ; n++ {
		select {
		case err := <-sent:
			if err != nil || n == 0 {
				t.Errorf("%d streams, %v", n, err)
			}
			return
		default:
		}
		s, err := c.Open()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.WriteHead(request("GET", "/", 0)); err != nil {
			t.Fatal(err)
		}
		s.Release()
	}
}
