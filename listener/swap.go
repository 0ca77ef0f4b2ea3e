package listener

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"mpgate/mptcp"
)

// A socket cannot be changed from MPTCP to TCP or back, and closing it resets the connections that
// wait at it. So a reload that wants the other swaps:
//
//	Reopen  binds a socket of the other protocol beside it (SO_REUSEPORT on both)
//	Serve   lets it listen and steers new SYNs to it (a classic BPF program); the
//	        old one is accepted from until its handshakes are over, then closed
//
// Until Serve nothing has happened that a failed reload would have to undo, but that
// processes of the same user may share the port from then on. A swap
// back while the old one is still there steers back to it.

// leaveAfter is when the last handshake with a socket is over: SYN-ACKs are repeated for
// 63 s (net.ipv4.tcp_synack_retries=5).
const leaveAfter = 64 * time.Second

// swap is what Serve has to do for a socket that replaces another.
type swap struct {
	bound *os.File // not listening yet; nil: the socket listens already
	old   *Socket  // a duplicate of the replaced socket
}

// swapFor opens the socket of the other protocol that replaces s of old.
func (l *Listener) swapFor(old *Listener, s *Socket, want mptcp.Transport) (*Socket, error) {
	if want == mptcp.MPTCP {
		if h := mptcp.Probe(); !h.Usable { // it is required, and a restart would not help
			return nil, l.listenError(s.info.Address, &mptcp.UnableError{Support: h})
		}
	}
	replaced, err := l.duplicate(s)
	if err != nil {
		return nil, err
	}
	fresh, err := l.counterpart(old, s, want)
	if err != nil {
		replaced.tcp.Close()
		return nil, &Error{Listener: l.o.Name, What: fmt.Sprintf("%s cannot be opened as a %s socket in addition to the %s one", s.info.Address, want, s.info.Transport),
			Err: err, Remedy: "restart mpgate (systemctl restart mpgate), or open another port for it"}
	}
	fresh.swap.old = replaced
	return fresh, nil
}

// counterpart is the socket that an earlier swap replaced and that is still open, or a new one.
func (l *Listener) counterpart(old *Listener, s *Socket, want mptcp.Transport) (*Socket, error) {
	old.mu.Lock()
	defer old.mu.Unlock()
	for _, x := range old.leaving {
		if x.info.Address == s.info.Address && x.info.Transport == want && time.Now().Before(x.leaves) {
			back, err := l.duplicate(x)
			if err == nil {
				back.swap = new(swap)
			}
			return back, err
		}
	}
	f, err := bindBeside(s.tcp, want)
	if err != nil {
		return nil, err
	}
	info := s.info
	info.Listener, info.Transport, info.Origin, info.Why, info.Remedy = l.o.Name, want, Own, "", ""
	return &Socket{info: info, place: 1, swap: &swap{bound: f}, answered: make(chan struct{}, 1)}, nil
}

// duplicate is the same socket for this listener.
func (l *Listener) duplicate(s *Socket) (*Socket, error) {
	f, err := s.dup(l.o.Name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info := s.info
	info.Listener = l.o.Name
	d, err := l.adopt(f, info)
	if err == nil {
		d.place = s.place
	}
	return d, err
}

// arm completes the swaps when Serve starts. If one fails, the old socket stays. mu must be held.
func (l *Listener) arm() {
	for i, s := range l.sockets {
		if s.swap == nil {
			continue
		}
		w := s.swap
		s.swap = nil
		if err := l.exchange(s, w); err != nil {
			l.o.log().Error("cannot replace the socket; the old one remains in use", "listener", l.o.Name, "address", s.info.Address,
				"wanted", s.info.Transport.String(), "err", err)
			w.old.info.Why, w.old.info.Remedy = "it could not be replaced: "+err.Error(), "restart mpgate (systemctl restart mpgate)"
			if s.tcp != nil {
				s.tcp.Close()
			}
			l.sockets[i] = w.old
			continue
		}
		w.old.leaves = time.Now().Add(l.leaveAfter)
		l.leaving = append(l.leaving, w.old)
		l.o.log().Info("listening socket replaced", "listener", l.o.Name, "address", s.info.Address, "from", w.old.info.Transport.String(), "to", s.info.Transport.String())
	}
}

func (l *Listener) exchange(s *Socket, w *swap) error {
	if w.bound != nil {
		defer w.bound.Close()
		if err := startListening(w.bound); err != nil {
			return err
		}
		nl, err := l.adopt(w.bound, s.info)
		if err != nil {
			return err
		}
		s.tcp, s.keepAlive = nl.tcp, nl.keepAlive
	}
	plain := s
	if s.info.Transport != mptcp.TCP {
		plain = w.old
	}
	return steer(plain.tcp, s.place)
}

// serveLeaving accepts the remaining connections of a replaced socket, then closes it.
func (l *Listener) serveLeaving(ctx context.Context, s *Socket, accept func(net.Conn, *Socket), lim *logLimit) {
	s.setDeadline(s.leaves)
	l.serve(ctx, s, accept, lim)
	if ctx.Err() != nil {
		return // Serve may be called again
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.tcp.Close()
	for i, x := range l.leaving {
		if x == s {
			l.leaving = append(l.leaving[:i:i], l.leaving[i+1:]...)
			break
		}
	}
	for _, x := range l.sockets {
		if x.info.Address == s.info.Address {
			x.place = 0 // no longer shared
		}
	}
}

// left reports whether the time of a replaced socket is over.
func (s *Socket) left(err error) bool {
	return !s.leaves.IsZero() && errors.Is(err, os.ErrDeadlineExceeded) && !time.Now().Before(s.leaves)
}

// undo closes the sockets of a swap that was not armed.
func (w *swap) undo() {
	if w == nil {
		return
	}
	if w.bound != nil {
		w.bound.Close()
	}
	w.old.tcp.Close()
}
