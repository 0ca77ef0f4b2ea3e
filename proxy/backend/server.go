package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"mpgate/mptcp"
	"mpgate/proxy/http1"
	"mpgate/proxy/netio"
	"mpgate/proxy/preread"
	"mpgate/telemetry"
)

const (
	// rest is how long a server that could not be reached is left alone.
	rest = time.Second
	// fresh is how recently a kept connection must have been used to carry a request that cannot be
	// repeated: servers close idle connections after seconds, and the request would be lost in that race.
	fresh = time.Second
	// maxKept bounds the idle connections to one server.
	maxKept = 1024
)

// Server is one address in a backend.
type Server struct {
	Address string // as configured
	backend *Backend
	dialer  mptcp.Dialer
	unix    string
	host    string // to be resolved
	port    uint16
	addr    netip.AddrPort // valid: nothing to resolve
	meter   *telemetry.ServerMeter
	names   names
	tls     *tls.Config // nil: none
	tls1    *tls.Config // for HTTP/1 alone
	sharing sharing
	ports   ports
	// memoryShort says whether the host is short of memory for sockets.
	memoryShort func() bool

	restUntil atomic.Int64 // ns since epoch; 0: it does not rest
	restsLong atomic.Bool  // because connects to it take all their time to fail
	last      atomic.Pointer[mptcp.Result]

	mu     sync.Mutex
	kept   []*conn // the one used last is last
	closed bool
}

// epoch makes times numbers that no setting of the clock moves.
var epoch = time.Now()

// resting says whether the server is left alone for now.
func (s *Server) resting(now time.Time) bool {
	until := s.restUntil.Load()
	return until != 0 && int64(now.Sub(epoch)) < until
}

// take gives a kept connection that is open and silent, nil where there is none. Where the request has no body the
// connection itself looks, in the same step that sends the request.
func (s *Server) take(repeatable, bodyless bool) *conn {
	for {
		s.mu.Lock()
		n := len(s.kept)
		if n == 0 || !repeatable && time.Since(s.kept[n-1].used) > fresh {
			s.mu.Unlock()
			return nil
		}
		c := s.kept[n-1]
		s.kept[n-1] = nil
		s.kept = s.kept[:n-1]
		s.mu.Unlock()
		s.meter.Idle(-1)
		if c.link.leg.Retired() || s.avoids(c.link) {
			c.close()
			continue
		}
		c.reused = true
		if bodyless && s.tls == nil {
			c.ExpectSilence()
			return c
		}
		if c.Idle() {
			return c
		}
		c.close()
	}
}

// avoids says whether l is not to carry a new exchange: it speaks MPTCP, which may stand still where the host is short of memory
// for sockets, and the server may be spoken to by TCP.
func (s *Server) avoids(l *Link) bool {
	if s.dialer.Mode != mptcp.Prefer || !s.memoryShort() {
		return false
	}
	t, _ := l.leg.State()
	return t == mptcp.MPTCP
}

// keep puts a connection by for the next exchange, or closes it.
func (s *Server) keep(c *conn, now time.Time) {
	c.used = now
	s.mu.Lock()
	if s.closed || len(s.kept) >= maxKept {
		s.mu.Unlock()
		c.close()
		return
	}
	s.kept = append(s.kept, c)
	s.mu.Unlock()
	s.meter.Idle(1)
	s.backend.places.wake(s.backend)
}

// sweep closes the kept connections that were not used for the idle time, that the server has closed, or that a new one
// is to replace.
func (s *Server) sweep(now time.Time) {
	s.sharing.sweep()
	dead := s.takeDead(now)
	s.meter.Idle(-len(dead))
	for _, c := range dead {
		c.close()
	}
}

func (s *Server) takeDead(now time.Time) (dead []*conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.kept[:0]
	for _, c := range s.kept {
		if now.Sub(c.used) >= s.backend.options.IdleTimeout || c.link.leg.Retired() || !c.Idle() {
			dead = append(dead, c)
		} else {
			kept = append(kept, c)
		}
	}
	clear(s.kept[len(kept):])
	s.kept = kept
	return dead
}

func (s *Server) close() {
	s.sharing.close()
	s.mu.Lock()
	kept := s.kept
	s.kept, s.closed = nil, true
	s.mu.Unlock()
	s.meter.Idle(-len(kept))
	for _, c := range kept {
		c.close()
	}
	s.meter.Release()
}

// dial makes a new connection, ready for requests: one for many exchanges where share allows that and the server
// takes part, else one for one at a time.
func (s *Server) dial(ctx context.Context, from Addresses, share bool) (*shared, *conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.backend.options.ConnectTimeout)
	defer cancel()
	l, err := s.open(ctx, from)
	if err != nil {
		return nil, nil, err
	}
	config := s.tls1
	if share {
		config = s.tls
	}
	stream, protocol, err := l.secure(ctx, config)
	if err == nil && share && s.backend.options.Protocol == HTTP2 && config != nil && protocol != "h2" {
		err = ErrNoHTTP2
	}
	if err != nil {
		l.Close()
		return nil, nil, err
	}
	if share && (protocol == "h2" || config == nil) {
		return s.newShared(stream, l), nil, nil
	}
	return nil, &conn{ClientConn: http1.NewClientConn(stream, &s.backend.client), link: l}, nil
}

// open makes a connection and puts the PROXY header in front, if there is to be one.
func (s *Server) open(ctx context.Context, from Addresses) (*Link, error) {
	places := s.backend.places
	if !s.ports.try() {
		return nil, &ShortError{ShortPorts, errPorts}
	}
	if !places.take() {
		return nil, &ShortError{ShortConnections, errConnections}
	}
	nc, result, err := s.connect(ctx)
	s.ports.note(err)
	transport := result.Transport.String()
	if nc == nil && transport == "" {
		transport = s.wanted().String()
	}
	outcome := connectResult(err)
	s.meter.Connect(transport, outcome)
	if err != nil {
		places.leave()
		if outcome != telemetry.ConnectOK && outcome != telemetry.ConnectError {
			s.restsLong.Store(outcome == telemetry.ConnectTimeout)
			until := time.Now().Add(rest)
			s.restUntil.Store(int64(until.Sub(epoch)))
			s.meter.Rest(until)
		}
		return nil, shortage(err)
	}
	s.restUntil.Store(0)
	s.meter.Rest(time.Time{})
	s.last.Store(&result)
	base, err := netio.New(nc)
	if err != nil {
		places.leave()
		nc.Close()
		return nil, err
	}
	l := &Link{Conn: base, server: s}
	l.leg.Open(base.Raw(), telemetry.SideBackend, s.backend.options.Instruments, result.Reason, s.backend.options.Live)
	s.meter.Open(1)
	if s.backend.options.SendProxy != 0 {
		h := preread.Proxy{Version: s.backend.options.SendProxy, Source: from.Client, Destination: from.Gateway, Local: !from.Client.IsValid()}
		_, _ = base.Write(h.Append(nil)) // held; it leaves with what comes next
	}
	return l, nil
}

// wanted is the transport that a dial asks for.
func (s *Server) wanted() mptcp.Transport {
	switch {
	case s.unix != "":
		return mptcp.Unix
	case s.dialer.Mode == mptcp.Off:
		return mptcp.TCP
	}
	return mptcp.MPTCP
}

func (s *Server) connect(ctx context.Context) (net.Conn, mptcp.Result, error) {
	if s.unix != "" {
		nc, err := connectUnix(ctx, s.unix)
		return nc, mptcp.Result{Transport: mptcp.Unix}, err
	}
	if s.addr.IsValid() {
		return tcp(s.dialer.Dial(ctx, s.addr))
	}
	addrs, err := s.names.ordered(ctx, s.host)
	if err != nil {
		return nil, mptcp.Result{}, err
	}
	return s.connectAny(ctx, addrs)
}

// connectUnix waits where the queue of the listening socket is full, as a connect by TCP does.
func connectUnix(ctx context.Context, path string) (net.Conn, error) {
	const first, most = 5 * time.Millisecond, 100 * time.Millisecond
	var d net.Dialer
	for pause := first; ; pause = min(2*pause, most) {
		nc, err := d.DialContext(ctx, "unix", path)
		if !errors.Is(err, syscall.EAGAIN) {
			return nc, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
	}
}

// connectAny tries the addresses of a name one after the other, so that one that is silent leaves time for the others.
func (s *Server) connectAny(ctx context.Context, addrs []netip.Addr) (nc net.Conn, result mptcp.Result, err error) {
	deadline, _ := ctx.Deadline() // of dial and OpenRaw
	for i, addr := range addrs {
		one, cancel := context.WithTimeout(ctx, connectTime(time.Until(deadline), len(addrs)-i))
		nc, result, err = tcp(s.dialer.Dial(one, netip.AddrPortFrom(addr, s.port)))
		cancel()
		if err == nil {
			if i > 0 {
				s.names.prefer(addr)
			}
			return nc, result, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, result, err
}

// tcp keeps a nil *net.TCPConn from becoming a net.Conn that is not nil.
func tcp(c *net.TCPConn, r mptcp.Result, err error) (net.Conn, mptcp.Result, error) {
	if err != nil {
		return nil, r, err
	}
	return c, r, nil
}

func connectResult(err error) telemetry.ConnectResult {
	var timeout interface{ Timeout() bool }
	switch {
	case err == nil:
		return telemetry.ConnectOK
	case errors.Is(err, syscall.ECONNREFUSED):
		return telemetry.ConnectRefused
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return telemetry.ConnectTimeout
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.ENOENT):
		return telemetry.ConnectUnreachable
	}
	return telemetry.ConnectError
}
