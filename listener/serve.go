package listener

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"mpgate/task"
)

// Serve accepts on all sockets until the context is done or the listener is closed, and returns nil
// then. Each connection goes to accept, which must not block: it owns the connection, and with a
// Gate one place in it. No error of accept(2) ends the loop. After the context's end the sockets
// still listen, no connection that was accepted is lost, and Serve may be called again.
func (l *Listener) Serve(ctx context.Context, accept func(net.Conn, *Socket)) error {
	sockets, leaving, err := l.begin()
	if err != nil {
		return err
	}
	defer l.end()
	interrupted := make(chan struct{})
	stop := task.AfterDone(ctx, "listener "+l.o.Name+": end", func() {
		defer close(interrupted)
		for _, s := range slices.Concat(sockets, leaving) {
			s.setDeadline(time.Unix(1, 0))
		}
	})
	var loops task.Group
	lim := new(logLimit)
	loop := func(serve func(context.Context, *Socket, func(net.Conn, *Socket), *logLimit), s *Socket) {
		name := "listener " + l.o.Name + ": accepting on " + s.info.Address
		loops.Go(name, func() { task.Keep(ctx, name, func() { serve(ctx, s, accept, lim) }) }, nil)
	}
	for _, s := range sockets {
		loop(l.serve, s)
	}
	for _, s := range leaving {
		loop(l.serveLeaving, s)
	}
	loops.Wait()
	if !stop() {
		<-interrupted // otherwise its deadlines could affect the next Serve
	}
	return nil
}

// begin returns the sockets to accept on, and replaced ones that are accepted on for a while.
func (l *Listener) begin() (sockets, leaving []*Socket, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil, nil, fmt.Errorf("listener %q: %w", l.o.Name, net.ErrClosed)
	case l.serving:
		return nil, nil, fmt.Errorf("listener %q is already served", l.o.Name)
	}
	l.serving = true
	select {
	case <-l.started:
	default:
		close(l.started)
	}
	l.arm()
	l.steerPairs()
	for _, s := range l.sockets {
		s.setDeadline(time.Time{})
	}
	return l.sockets, slices.Clone(l.leaving), nil
}

func (l *Listener) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.serving = false
}

func (l *Listener) serve(ctx context.Context, s *Socket, accept func(net.Conn, *Socket), lim *logLimit) {
	var b backoff
	for {
		// Full: connections wait in the kernel's queue, where a restart loses none.
		if l.await(ctx, s) != nil {
			return
		}
		c, err := s.accept()
		if err == nil {
			b = backoff{}
			// Another listener may have taken the last place meanwhile. Where the
			// end comes first, the connection is served beyond the limit: it is accepted.
			if l.await(ctx, s) != nil || l.o.Gate.Enter(ctx) != nil {
				l.o.Gate.force()
			}
			l.handOver(c, s, accept)
			continue
		}
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return
		}
		if s.left(err) {
			return
		}
		if s.answer(ctx, err) {
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if l.o.Failed != nil {
			l.o.Failed()
		}
		wait := b.next(err)
		if n, ok := lim.allow(time.Now()); ok {
			l.o.log().Warn("accept failed", "listener", l.o.Name, "address", s.info.Address,
				"err", err, "wait", wait, "unreported", n)
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

// handOver passes a connection to accept. If that panics, the connection is closed, its place is
// released, and accepting continues.
func (l *Listener) handOver(c net.Conn, s *Socket, accept func(net.Conn, *Socket)) {
	defer func() {
		if v := recover(); v != nil {
			task.Recovered("listener "+l.o.Name+": new connection", v)
			_ = c.Close()
			l.o.Gate.Leave()
		}
	}()
	accept(c, s)
}

func (s *Socket) accept() (net.Conn, error) {
	if s.tcp != nil {
		c, err := s.tcp.AcceptTCP()
		if err != nil {
			return nil, err
		}
		if s.keepAlive != nil {
			_ = c.SetKeepAliveConfig(*s.keepAlive) // refused by some kernels on MPTCP
		}
		return c, nil
	}
	c, err := s.unix.AcceptUnix()
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (s *Socket) setDeadline(t time.Time) {
	switch {
	case s.tcp != nil:
		_ = s.tcp.SetDeadline(t)
	case s.unix != nil:
		_ = s.unix.SetDeadline(t)
	}
}

// pause waits. It returns false if the context ended meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

const (
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
	// This many errors of single connections in a row count as an error of the socket.
	maxInRow = 64
)

// backoff is how long to wait after failed accepts in a row.
type backoff struct {
	wait  time.Duration
	atRow int
}

// next is the pause after err. An error that is of the one connection (it was reset while it
// waited, its network failed: see accept(2)) needs none; anything else, such as a lack of
// descriptors or memory, needs time.
func (b *backoff) next(err error) time.Duration {
	if ofConnection(err) {
		if b.atRow++; b.atRow <= maxInRow {
			return 0
		}
	}
	b.wait = min(max(2*b.wait, firstPause), lastPause)
	return b.wait
}

func ofConnection(err error) bool {
	var e syscall.Errno
	if !errors.As(err, &e) {
		return false
	}
	switch e {
	case syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EINTR, syscall.EPERM, syscall.EPROTO, syscall.ENOPROTOOPT,
		syscall.EHOSTDOWN, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.ENETUNREACH, syscall.EOPNOTSUPP, syscall.ETIMEDOUT:
		return true
	}
	return false
}

// logLimit allows one line a second.
type logLimit struct {
	mu      sync.Mutex
	last    time.Time
	dropped int
}

// allow also returns how many were suppressed since the last.
func (l *logLimit) allow(now time.Time) (dropped int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.last.IsZero() && now.Sub(l.last) < time.Second {
		l.dropped++
		return 0, false
	}
	dropped, l.dropped, l.last = l.dropped, 0, now
	return dropped, true
}

// remedyFor returns what to do about an error of listen or bind.
func remedyFor(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "find the program that uses it (ss -ltnp) and stop it, or use another address"
	case errors.Is(err, syscall.EACCES), errors.Is(err, os.ErrPermission):
		return "a port below 1024 needs a .socket unit, CAP_NET_BIND_SERVICE or net.ipv4.ip_unprivileged_port_start; a path needs a writable directory"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "use an address of this host (ip address), or 0.0.0.0 or [::]"
	case errors.Is(err, syscall.ENODEV):
		return "use a device of this host (ip link)"
	case errors.Is(err, syscall.ENOENT):
		return "create the directory (RuntimeDirectory= in the unit)"
	}
	return ""
}
