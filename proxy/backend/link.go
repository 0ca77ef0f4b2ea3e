package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"time"

	"mpgate/mptcp"
	"mpgate/proxy/conninfo"
	"mpgate/proxy/netio"
	"mpgate/task"
)

// maxNamedUse is how long connections are used if the server's name has several addresses, so that
// each of them gets its share of the requests.
const maxNamedUse = 5 * time.Minute

// Addresses are what a PROXY header to a server contains.
type Addresses struct {
	// Client and Gateway are the two ends of the client's connection; Gateway is the address that
	// the client connected to. They are zero if there is no such address.
	Client, Gateway netip.AddrPort

	other route // to take; its source is the zero Addr if any will do
}

// Link is a connection to a server, below any protocol.
type Link struct {
	*netio.Conn
	server *Server
	info   conninfo.Info
	addr   netip.Addr // of a server that has a name
	opened time.Time

	counts   bool      // it is one of Options.MaxConnections
	unparsed bool      // its bytes are forwarded without parsing them: it counts as a request
	until    time.Time // it carries no further requests then; zero: no limit
}

// outdated reports whether the connection should carry no further requests: the server's name no
// longer has its address, or has several and it is time to connect to another one, or it has
// reached Keep.Age.
func (l *Link) outdated(now time.Time) bool {
	if !l.until.IsZero() && !now.Before(l.until) {
		return true
	}
	n := l.server.names
	if n == nil {
		return false
	}
	included, of := n.includes(l.addr)
	return !included || of > 1 && now.Sub(l.opened) >= maxNamedUse
}

// State returns the transport and the number of subflows, at most a second old.
func (l *Link) State(now time.Time) (mptcp.Transport, int) { return l.info.Refresh(now) }

// Close counts the connection as ended and closes it.
func (l *Link) Close() {
	if l.unparsed {
		l.server.countInFlight(-1)
	}
	l.countClose()
	_ = l.Conn.Close()
}

// countClose counts the connection as ended. The socket must still be open.
func (l *Link) countClose() {
	l.info.Close()
	l.server.meter.Open(-1)
	if l.counts {
		l.server.conns.release(l.server)
	}
	l.server.backend.connLimit.Release()
}

// handshake performs the TLS handshake, unless config is nil, before the deadline of ctx. protocol
// is what the server selected by ALPN.
func (l *Link) handshake(ctx context.Context, config *tls.Config) (_ netio.Stream, protocol string, err error) {
	if config == nil {
		return l.Conn, "", nil
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = l.SetReadDeadline(deadline)
	}
	stop := task.AfterDone(ctx, "TLS handshake with a server: end", func() {
		// At the deadline of ctx the read deadline ends the handshake.
		if errors.Is(ctx.Err(), context.Canceled) {
			l.Interrupt()
		}
	})
	defer stop()
	t := tls.Client(l.Conn, config)
	if err := t.Handshake(); err != nil {
		return nil, "", &TLSError{err}
	}
	// A server may send session tickets first, and its response only after they are acknowledged.
	l.AcknowledgeNext()
	s := netio.NewTLS(l.Conn, t)
	s.NeedsCloseNotify()
	return s, t.ConnectionState().NegotiatedProtocol, nil
}

// TLSError is the error of a failed TLS handshake with a server.
type TLSError struct{ Err error }

func (e *TLSError) Error() string { return "TLS handshake with the server: " + e.Err.Error() }
func (e *TLSError) Unwrap() error { return e.Err }
