package backend

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"mpgate/proxy/netio"
	"mpgate/task"
)

// maxCheckBody is how much of the body of a response to a check is read.
const maxCheckBody = 64 << 10

// checkConn is a connection for the checks of one server. It is kept from one check to the next,
// because opening one costs more than the check. Requests do not use it.
type checkConn struct {
	exclusive *conn
	shared    *sharedConn
}

var checkAsks = sync.Pool{New: func() any { return new(Ask) }}

// exchange sends the request that prepare fills in, and calls verify with the response.
// The whole takes at most the timeout.
func (k *checkConn) exchange(ctx context.Context, s *Server, timeout time.Duration, prepare func(*Ask), verify func(*Ask) error) error {
	a := checkAsks.Get().(*Ask)
	defer checkAsks.Put(a)
	deadline := time.Now().Add(timeout)
	for {
		reused := k.exclusive != nil || k.shared != nil
		up, err := k.open(ctx, s, deadline)
		if err != nil {
			return &connectError{err}
		}
		a.Reset()
		a.MaxBody = maxCheckBody
		prepare(a)
		err = k.ask(ctx, a, up, deadline)
		stale := err != nil && reused && (err == netio.ErrNotIdle || errors.Is(err, ErrNotProcessed) || !up.Answered() && !timedOut(err))
		if err == nil || errors.Is(err, ErrBodyTooLarge) {
			k.keep(s, up, err == nil)
			return verify(a)
		}
		k.drop(up)
		if !stale || ctx.Err() != nil {
			return err
		}
	}
}

func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// connectError is the error of a connect for a check.
type connectError struct{ err error }

func (e *connectError) Error() string { return e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }

// open returns a stream on the kept connection, or on a new one.
func (k *checkConn) open(ctx context.Context, s *Server, deadline time.Time) (Stream, error) {
	if c := k.shared; c != nil {
		if !c.closeIfRetired() && !c.link.outdated(time.Now()) {
			if cs, err := c.Open(); err == nil {
				return &stream{ClientStream: cs, conn: c}, nil
			}
		}
		k.close()
	}
	if c := k.exclusive; c != nil {
		k.exclusive = nil
		switch {
		case c.link.outdated(time.Now()):
			c.close()
		case c.ready(true):
			return c, nil
		}
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	shared, exclusive, err := s.reach(ctx, Addresses{}, s.mayShare(&Request{}), false)
	switch {
	case err != nil:
		return nil, err
	case exclusive != nil:
		return exclusive, nil
	}
	cs, err := shared.Open()
	if err != nil {
		shared.Close()
		return nil, err
	}
	k.shared = shared
	return &stream{ClientStream: cs, conn: shared}, nil
}

// ask is one exchange.
func (k *checkConn) ask(ctx context.Context, a *Ask, up Stream, deadline time.Time) error {
	stop := task.AfterDone(ctx, "check of a server: end", up.Abort)
	defer stop()
	err := a.head(ctx, up, deadline)
	if err == nil {
		err = a.body(up, deadline)
	}
	return err
}

// keep keeps the connection for the next check, if it can be used again and there are connections
// to spare.
func (k *checkConn) keep(s *Server, up Stream, whole bool) {
	if !whole || s.backend.options.SendProxy != 0 || !s.backend.connLimit.ample() {
		k.drop(up)
		return
	}
	switch up := up.(type) {
	case *conn:
		if !up.Reusable() {
			up.close()
			return
		}
		k.exclusive = up
	case *stream:
		up.ClientStream.Release()
	}
}

// drop ends an exchange and its connection.
func (k *checkConn) drop(up Stream) {
	up.Abort()
	switch up := up.(type) {
	case *conn:
		up.close()
	case *stream:
		up.ClientStream.Release()
	}
	k.close()
}

// close closes the kept connection.
func (k *checkConn) close() {
	if k.exclusive != nil {
		k.exclusive.close()
	}
	if k.shared != nil {
		k.shared.Close()
	}
	*k = checkConn{}
}

// closeCheckConn closes the connection that is kept for checks.
func (s *Server) closeCheckConn() {
	s.checks.mu.Lock()
	defer s.checks.mu.Unlock()
	s.checks.kept.close()
}
