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
)

// Serve accepts on all sockets until the context is done or the listener is
// closed, and returns nil then. Each connection goes to accept, which must not
// block: it owns the connection, and with a Gate one place in it. Nothing that
// accept(2) may say ends the accepting. After the context's end the sockets
// still listen, no connection that was accepted is lost, and Serve may be
// called again.
func (l *Listener) Serve(ctx context.Context, accept func(net.Conn, *Socket)) error {
	l.mu.Lock()
	switch {
	case l.closed:
		l.mu.Unlock()
		return fmt.Errorf("listener %q: %w", l.o.Name, net.ErrClosed)
	case l.serving:
		l.mu.Unlock()
		return fmt.Errorf("listener %q is served already", l.o.Name)
	}
	l.serving = true
	select {
	case <-l.started:
	default:
		close(l.started)
	}
	l.arm()
	l.steerPairs()
	sockets, leaving := l.sockets, slices.Clone(l.leaving)
	for _, s := range sockets {
		s.setDeadline(time.Time{})
	}
	l.mu.Unlock()

	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		for _, s := range slices.Concat(sockets, leaving) {
			s.setDeadline(time.Unix(1, 0))
		}
		close(interrupted)
	})
	var wg sync.WaitGroup
	lim := new(logLimit)
	for _, s := range sockets {
		wg.Go(func() { l.serve(ctx, s, accept, lim) })
	}
	for _, s := range leaving {
		wg.Go(func() { l.serveLeaving(ctx, s, accept, lim) })
	}
	wg.Wait()
	if !stop() {
		<-interrupted // else its deadlines could hit the next Serve
	}
	l.mu.Lock()
	l.serving = false
	l.mu.Unlock()
	return nil
}

func (l *Listener) serve(ctx context.Context, s *Socket, accept func(net.Conn, *Socket), lim *logLimit) {
	var b backoff
	for {
		// Full: let them wait in the kernel's queue, where a restart loses none.
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
			accept(c, s)
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
			l.o.log().Warn("accept failed, going on", "listener", l.o.Name, "address", s.info.Address,
				"error", err, "wait", wait, "unreported", n)
		}
		if !pause(ctx, wait) {
			return
		}
	}
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

// pause waits, and is false when the context ended meanwhile.
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
	// So many errors of single connections in a row are taken for an error of the socket.
	patience = 64
)

// backoff is how long to wait after failed accepts in a row.
type backoff struct {
	wait  time.Duration
	atRow int
}

// next is the pause after err. An error that is of the one connection (it was
// reset while it waited, its network failed: see accept(2)) needs none; anything
// else, want of descriptors and memory above all, will not be better at once.
func (b *backoff) next(err error) time.Duration {
	if ofConnection(err) {
		if b.atRow++; b.atRow <= patience {
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

// logLimit lets one line a second pass.
type logLimit struct {
	mu      sync.Mutex
	last    time.Time
	dropped int
}

// allow also tells how many were held back since the last.
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

// remedyFor says what to do about an error of listen or bind.
func remedyFor(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "see who has it (ss -ltnp), and stop that or take another address"
	case errors.Is(err, syscall.EACCES), errors.Is(err, os.ErrPermission):
		return "a port below 1024 needs a .socket unit, CAP_NET_BIND_SERVICE or net.ipv4.ip_unprivileged_port_start; a path needs a directory that may be written"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "use an address of this host (ip address), or 0.0.0.0 or [::]"
	case errors.Is(err, syscall.ENODEV):
		return "see ip link for the devices of this host"
	case errors.Is(err, syscall.ENOENT):
		return "make the directory (RuntimeDirectory= in the unit)"
	}
	return ""
}
