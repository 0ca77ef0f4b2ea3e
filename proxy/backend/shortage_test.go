package backend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

// attempt opens a stream, which the caller ends.
func attempt(b *Backend, r Request) (Stream, *Attempt, error) {
	a := new(Attempt)
	a.Reset(b)
	r.Now, r.Bodyless, r.Repeatable = time.Now(), true, true
	up, err := a.Open(context.Background(), &r)
	return up, a, err
}

func end(up Stream) {
	up.Abort()
	up.Release(time.Now())
}

// wantShort checks that err means a shortage, and that it lasted as long as a connect may take.
func wantShort(t *testing.T, err error, of Shortage, began time.Time, b *Backend) {
	t.Helper()
	var short *ShortError
	if !errors.As(err, &short) || short.Of != of {
		t.Errorf("got %v, want a shortage of %v", err, of)
	}
	if took := time.Since(began); took < b.options.ConnectTimeout {
		t.Errorf("it was given up after %v", took)
	}
}

func TestConnLimit(t *testing.T) {
	for _, protocol := range []Protocol{HTTP1, HTTP2} {
		t.Run(fmt.Sprint(protocol), func(t *testing.T) {
			o := proxytest.NewOrigin(t, mptcp.Off, silent)
			limit := new(ConnLimit)
			limit.SetLimit(1)
			b, _ := pool(t, Options{Servers: servers(o.Address()), ConnLimit: limit, ConnectTimeout: time.Second})
			other, _ := pool(t, Options{Servers: servers(proxytest.NewOrigin(t, mptcp.Off, silent).Address()), ConnLimit: limit,
				Protocol: protocol, ConnectTimeout: time.Minute})
			first, _, err := attempt(b, Request{})
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			_, a, err := attempt(b, Request{})
			wantShort(t, err, ShortConnections, began, b)
			if a.Tries() != 0 || b.Status()[0].Down {
				t.Errorf("%d tries, %+v", a.Tries(), b.Status())
			}
			got := make(chan error)
			go func() {
				up, _, err := attempt(other, Request{})
				if err == nil {
					end(up)
				}
				got <- err
			}()
			if !proxytest.Within(time.Minute, func() bool { return limit.waiting.Load() == 1 }) {
				t.Fatal("no request waits")
			}
			end(first)
			if err := <-got; err != nil {
				t.Errorf("after a connection was closed: %v", err)
			}
			if protocol == HTTP1 && limit.Used() != 0 {
				t.Errorf("%d connections are counted", limit.Used())
			}
		})
	}
}

// At the limit an idle connection is closed, so that one to another server can be opened.
func TestIdleConnectionIsClosedAtTheLimit(t *testing.T) {
	gone := make(chan struct{}, 2)
	o := proxytest.NewOrigin(t, mptcp.Off, func(c *proxytest.Conn) { silent(c); gone <- struct{}{} })
	limit := new(ConnLimit)
	limit.SetLimit(2)
	one, _ := pool(t, Options{Servers: servers(o.Address()), ConnLimit: limit})
	two, _ := pool(t, Options{Servers: servers(proxytest.NewOrigin(t, mptcp.Off, silent).Address()), ConnLimit: limit})
	limit.CloseIdle = func() bool { return one.CloseIdle() }
	s := one.list()[0]
	for range 2 {
		_, c, err := s.dial(context.Background(), Addresses{}, false)
		if err != nil {
			t.Fatal(err)
		}
		defer s.putIdle(c, time.Now())
		if limit.Used() == 2 {
			s.putIdle(c, time.Now())
		}
	}
	up, _, err := attempt(two, Request{})
	if err != nil {
		t.Fatal(err)
	}
	<-gone
	end(up)
}

// One client's connection does not get all connections to servers.
func TestLimitIsShared(t *testing.T) {
	o := proxytest.NewOrigin(t, mptcp.Off, silent)
	limit := new(ConnLimit)
	limit.SetLimit(40)
	b, _ := pool(t, Options{Servers: servers(o.Address()), ConnLimit: limit, ConnectTimeout: time.Millisecond})
	var ours atomic.Int64
	var open []Stream
	var attempts []*Attempt
	for {
		up, a, err := attempt(b, Request{ServerConns: &ours})
		if err != nil {
			break
		}
		open, attempts = append(open, up), append(attempts, a)
	}
	if n := len(open); n < 6 || n > 10 || int(ours.Load()) != n {
		t.Errorf("one client has %d connections of 40, %d counted", n, ours.Load())
	}
	up, _, err := attempt(b, Request{})
	if err != nil {
		t.Errorf("another client: %v", err)
	} else {
		end(up)
	}
	for i, up := range open {
		end(up)
		attempts[i].End()
	}
	if limit.Used() != 0 || ours.Load() != 0 {
		t.Errorf("%d connections, %d of the client; want 0", limit.Used(), ours.Load())
	}
}

func TestShortages(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Shortage
	}{
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)}, ShortDescriptors},
		{os.NewSyscallError("socket", syscall.ENFILE), ShortDescriptors},
		{&net.OpError{Op: "dial", Err: mptcp.ErrNoPort}, ShortPorts},
		{os.NewSyscallError("connect", syscall.ENOBUFS), ShortBuffers},
		{os.NewSyscallError("socket", syscall.ENOMEM), ShortBuffers},
	} {
		var short *ShortError
		if !errors.As(shortage(c.err), &short) || short.Of != c.want || !errors.Is(short, errors.Unwrap(c.err)) && short.Err != c.err {
			t.Errorf("%v is %v, want %v", c.err, shortage(c.err), c.want)
		}
	}
	for _, err := range []error{syscall.ECONNREFUSED, os.NewSyscallError("bind", syscall.EADDRNOTAVAIL), context.DeadlineExceeded} {
		if got := shortage(err); got != err {
			t.Errorf("%v is %v", err, got)
		}
	}
}

// A connect waits while the queue of a unix socket is full.
func TestFullQueueOfAUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	b, _ := pool(t, Options{Servers: servers("unix:" + path), ConnectTimeout: time.Second})
	up, _, err := attempt(b, Request{})
	if err != nil {
		t.Fatal(err)
	}
	defer end(up)
	if _, _, err = attempt(b, Request{}); !TimedOut(err) {
		t.Errorf("with a full queue: %v, want a timeout", err)
	}
	b, _ = pool(t, Options{Servers: servers("unix:" + path), ConnectTimeout: time.Minute})
	go func() { _, _, _ = syscall.Accept(fd) }()
	second, _, err := attempt(b, Request{})
	if err != nil {
		t.Fatal(err)
	}
	end(second)
}

// A new limit wakes all waiting requests and removes them from the queue, so that a connection that
// is closed later wakes another request.
func TestNewLimitEmptiesTheQueue(t *testing.T) {
	limit := new(ConnLimit)
	b, _ := pool(t, Options{Servers: servers("127.0.0.1:1"), ConnLimit: limit})
	for range 20 {
		woken := make(chan bool)
		go func() {
			var q queueWait
			woken <- q.wait(context.Background(), b)
		}()
		if !proxytest.Within(time.Minute, func() bool { return limit.waiting.Load() == 1 }) {
			t.Fatal("it does not wait")
		}
		limit.SetLimit(1)
		if !<-woken {
			t.Error("it was not woken")
		}
		if n := limit.queue.Len(); n != 0 || limit.waiting.Load() != 0 {
			t.Fatalf("%d are in the queue, %d wait", n, limit.waiting.Load())
		}
	}
}
