package backend

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"mpgate/mptcp"
	"mpgate/proxy/conninfo"
	"mpgate/proxy/http1"
	"mpgate/proxy/netio"
	"mpgate/proxy/preread"
	"mpgate/telemetry"
)

// dial opens a connection that is ready for requests: a shared one if share is true and the server
// selects HTTP/2, otherwise one for one exchange at a time.
func (s *Server) dial(ctx context.Context, from Addresses, share bool) (*sharedConn, *conn, error) {
	s.dialling.Add(1)
	defer s.dialling.Add(-1)
	c, exclusive, err := s.reach(ctx, from, share, true)
	s.noteConnect(err)
	return c, exclusive, err
}

// noteConnect records the result of a connect for a request.
func (s *Server) noteConnect(err error) {
	if err != nil {
		s.connectFailed(err)
		return
	}
	s.connectSucceeded()
}

// reach is dial without its record of the result. counts is that of openLink.
func (s *Server) reach(ctx context.Context, from Addresses, share, counts bool) (*sharedConn, *conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.backend.options.ConnectTimeout)
	defer cancel()
	l, err := s.openLink(ctx, from, counts)
	if err != nil {
		return nil, nil, err
	}
	config := s.tls1
	if share {
		config = s.tls
	}
	stream, protocol, err := l.handshake(ctx, config)
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

// openLink opens a connection, and writes the PROXY header if the backend sends one. counts says
// whether it is one of Options.MaxConnections: those of checks are not, so that a busy server
// passes its checks, and a check keeps no request out.
func (s *Server) openLink(ctx context.Context, from Addresses, counts bool) (l *Link, err error) {
	if !s.ports.allow() {
		return nil, &ShortError{ShortPorts, errPorts}
	}
	limit, o := s.backend.connLimit, &s.backend.options
	if counts && !s.conns.acquire(s) {
		return nil, errFull
	}
	defer func() {
		if err != nil && counts {
			s.conns.release(s)
		}
	}()
	if !limit.Acquire() {
		return nil, &ShortError{ShortConnections, errConnections}
	}
	defer func() {
		if err != nil {
			limit.Release()
		}
	}()
	began := s.connecting.begin()
	dialled := time.Now()
	nc, addr, result, err := s.dialSocket(ctx, from.other)
	s.connecting.end(began, err)
	s.ports.noteResult(err)
	transport := result.Transport.String()
	if nc == nil && transport == "" {
		transport = s.requestedTransport().String()
	}
	s.meter.Connect(transport, connectResult(err))
	if err != nil {
		return nil, shortage(err)
	}
	s.last.Store(&result)
	if s.backend.notesLatency && s.unix == "" {
		s.latency.noteRTT(time.Since(dialled))
	}
	base, err := netio.New(nc)
	if err != nil {
		nc.Close()
		return nil, err
	}
	l = &Link{Conn: base, server: s, addr: addr, opened: time.Now(), counts: counts}
	l.until = o.Keep.until(l.opened)
	l.info.Open(base.Raw(), conninfo.Options{
		Side: telemetry.SideBackend, Instruments: o.Instruments, Reason: result.Reason, Registry: o.Live, Checks: !counts,
	})
	s.meter.Open(1)
	if o.SendProxy != 0 {
		h := preread.Proxy{Version: o.SendProxy, Source: from.Client, Destination: from.Gateway, Local: !from.Client.IsValid()}
		_, _ = base.Write(h.Append(nil)) // buffered; it is sent with what follows
	}
	return l, nil
}

// requestedTransport returns the transport that a dial requests.
func (s *Server) requestedTransport() mptcp.Transport {
	switch {
	case s.unix != "":
		return mptcp.Unix
	case s.dialer.Mode == mptcp.Off:
		return mptcp.TCP
	}
	return mptcp.MPTCP
}

// dialSocket connects a socket, by the other route if there is one. addr is the address that it
// used of a name.
func (s *Server) dialSocket(ctx context.Context, other route) (nc net.Conn, addr netip.Addr, result mptcp.Result, err error) {
	switch {
	case s.unix != "":
		nc, err = dialUnix(ctx, s.unix)
		result.Transport = mptcp.Unix
	case other.source.IsValid():
		d := s.dialer
		d.Source, addr = other.source, other.to.Addr()
		nc, result, err = asConn(d.Dial(ctx, other.to))
		return nc, addr, result, err
	case s.names == nil:
		nc, result, err = asConn(s.dialer.Dial(ctx, s.addr))
	default:
		var addrs []netip.Addr
		if addrs, err = s.names.lookup(ctx); err == nil {
			return s.dialAny(ctx, addrs)
		}
	}
	return nc, netip.Addr{}, result, err
}

// dialUnix waits while the queue of the listening socket is full, as a TCP connect does.
func dialUnix(ctx context.Context, path string) (net.Conn, error) {
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

// asConn prevents a nil *net.TCPConn from becoming a net.Conn that is not nil.
func asConn(c *net.TCPConn, r mptcp.Result, err error) (net.Conn, mptcp.Result, error) {
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

// TimedOut reports whether err means that a server did not answer a connect in time.
func TimedOut(err error) bool { return connectResult(err) == telemetry.ConnectTimeout }

// NeedsMPTCP reports whether err means that MPTCP was required and not available.
func NeedsMPTCP(err error) bool {
	var unable *mptcp.UnableError
	return errors.Is(err, mptcp.ErrRequired) || errors.As(err, &unable)
}
