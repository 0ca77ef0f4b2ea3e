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
	"mpgate/proxy/conninfo"
	"mpgate/proxy/http1"
	"mpgate/proxy/netio"
	"mpgate/proxy/preread"
	"mpgate/telemetry"
)

const (
	// fresh is how recently a kept connection must have been used to carry a request that cannot be
	// repeated: servers close idle connections after seconds, and the request would be lost in that
	// race.
	maxIdleUnrepeatable = time.Second
	// maxKept bounds the idle connections to one server.
	maxIdle = 1024
	// longestUse is how long connections are used whose server's name has several addresses, so
	// that all of them get their share.
	maxNamedUse = 5 * time.Minute
)

// Server is one address in a backend.
type Server struct {
	Address string // as configured
	backend *Backend
	dialer  mptcp.Dialer
	unix    string
	port    uint16
	addr    netip.AddrPort // valid: nothing to resolve
	names   *names         // nil: nothing to resolve
	meter   *telemetry.ServerMeter
	tls     *tls.Config // nil: none
	tls1    *tls.Config // for HTTP/1 alone
	shared  sharedConns
	ports   ports
	// memoryShort says whether the host is short of memory for sockets.
	memoryShort func() bool

	outage atomic.Pointer[outage] // nil: it is available
	last   atomic.Pointer[mptcp.Result]

	mu     sync.Mutex
	idle   []*conn            // the one used last is last
	owned  map[*Owner][]*conn // as kept, for one client each
	closed bool
	// reported is when an outage was last reported.
	reported time.Time
}

// epoch makes times numbers that no setting of the clock moves.
var epoch = time.Now()

// avoids reports whether l must not carry a new exchange: it uses MPTCP, which may stall while the
// host is short of memory for sockets, and the server may be reached over TCP.
func (s *Server) avoids(l *Link) bool {
	if s.dialer.Mode != mptcp.Prefer || !s.memoryShort() {
		return false
	}
	t, _ := l.info.State()
	return t == mptcp.MPTCP
}

// dial makes a new connection, ready for requests: one for many exchanges where share allows that
// and the server takes part, else one for one at a time.
func (s *Server) dial(ctx context.Context, from Addresses, share bool) (*sharedConn, *conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.backend.options.ConnectTimeout)
	defer cancel()
	l, err := s.openLink(ctx, from)
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
		s.connectFailed(err)
		return nil, nil, err
	}
	s.connectSucceeded()
	if share && (protocol == "h2" || config == nil) {
		return s.newShared(stream, l), nil, nil
	}
	return nil, &conn{ClientConn: http1.NewClientConn(stream, &s.backend.client), link: l}, nil
}

// open makes a connection and puts the PROXY header in front, if there is to be one.
func (s *Server) openLink(ctx context.Context, from Addresses) (*Link, error) {
	places := s.backend.connLimit
	if !s.ports.allow() {
		return nil, &ShortError{ShortPorts, errPorts}
	}
	if !places.acquire() {
		return nil, &ShortError{ShortConnections, errConnections}
	}
	nc, addr, result, err := s.dialSocket(ctx)
	s.ports.noteResult(err)
	transport := result.Transport.String()
	if nc == nil && transport == "" {
		transport = s.requestedTransport().String()
	}
	outcome := connectResult(err)
	s.meter.Connect(transport, outcome)
	if err != nil {
		places.release()
		s.connectFailed(err)
		return nil, shortage(err)
	}
	s.last.Store(&result)
	base, err := netio.New(nc)
	if err != nil {
		places.release()
		nc.Close()
		return nil, err
	}
	l := &Link{Conn: base, server: s, addr: addr, opened: time.Now()}
	l.info.Open(base.Raw(), conninfo.Options{
		Side: telemetry.SideBackend, Instruments: s.backend.options.Instruments, Reason: result.Reason, Registry: s.backend.options.Live,
	})
	s.meter.Open(1)
	if s.backend.options.SendProxy != 0 {
		h := preread.Proxy{Version: s.backend.options.SendProxy, Source: from.Client, Destination: from.Gateway, Local: !from.Client.IsValid()}
		_, _ = base.Write(h.Append(nil)) // held; it leaves with what comes next
	}
	return l, nil
}

// wanted is the transport that a dial asks for.
func (s *Server) requestedTransport() mptcp.Transport {
	switch {
	case s.unix != "":
		return mptcp.Unix
	case s.dialer.Mode == mptcp.Off:
		return mptcp.TCP
	}
	return mptcp.MPTCP
}

// connect also gives the address where that is one of several, or may change.
func (s *Server) dialSocket(ctx context.Context) (nc net.Conn, addr netip.Addr, result mptcp.Result, err error) {
	switch {
	case s.unix != "":
		nc, err = dialUnix(ctx, s.unix)
		result.Transport = mptcp.Unix
	case s.names == nil:
		nc, result, err = asConn(s.dialer.Dial(ctx, s.addr))
	default:
		var addrs []netip.Addr
		if addrs, err = s.names.addresses(ctx); err == nil {
			return s.dialAny(ctx, addrs)
		}
	}
	return nc, netip.Addr{}, result, err
}

// connectUnix waits where the queue of the listening socket is full, as a connect by TCP does.
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

// connectAny tries the addresses of a name one after the other, so that one that is silent leaves
// time for the others.
func (s *Server) dialAny(ctx context.Context, addrs []netip.Addr) (nc net.Conn, addr netip.Addr, result mptcp.Result, err error) {
	deadline, _ := ctx.Deadline() // of dial and OpenRaw
	for i, addr := range addrs {
		one, cancel := context.WithTimeout(ctx, connectTime(time.Until(deadline), len(addrs)-i))
		nc, result, err = asConn(s.dialer.Dial(one, netip.AddrPortFrom(addr, s.port)))
		cancel()
		if err == nil {
			if i > 0 {
				s.names.prefer(addr)
			}
			return nc, addr, result, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, netip.Addr{}, result, err
}

// tcp keeps a nil *net.TCPConn from becoming a net.Conn that is not nil.
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
