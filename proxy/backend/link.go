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

// Addresses are what a PROXY header to a server says.
type Addresses struct {
	// Client and Gateway are the two ends of the client's connection, Gateway the address that the
	// client connected to. They are zero where it has none.
	Client, Gateway netip.AddrPort
}

// Link is a connection to a server, below any protocol.
type Link struct {
	*netio.Conn
	server *Server
	info   conninfo.Info
	addr   netip.Addr // of a server that has a name
	opened time.Time
}

// outdated says whether the connection should carry no further requests: the server's name has
// moved away from its address, or has several and it is time to ask again for one.
func (l *Link) outdated(now time.Time) bool {
	n := l.server.names
	if n == nil {
		return false
	}
	has, of := n.includes(l.addr)
	return !has || of > 1 && now.Sub(l.opened) >= maxNamedUse
}

// State is what the connection speaks, and over how many subflows, at most a second ago.
func (l *Link) State(now time.Time) (mptcp.Transport, int) { return l.info.Refresh(now) }

// Close ends the connection and accounts for it.
func (l *Link) Close() {
	l.recordClose()
	_ = l.Conn.Close()
}

// account counts the connection as over, while its socket can still be asked.
func (l *Link) recordClose() {
	l.info.Close()
	l.server.meter.Open(-1)
	l.server.backend.connLimit.release()
}

// secure uses TLS where the backend is to, within the time of ctx, and says what the server picked
// by ALPN.
func (l *Link) secure(ctx context.Context, config *tls.Config) (_ netio.Stream, protocol string, err error) {
	if config == nil {
		return l.Conn, "", nil
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = l.SetReadDeadline(deadline)
	}
	stop := task.AfterDone(ctx, "TLS handshake with a server: end", func() {
		if errors.Is(ctx.Err(), context.Canceled) { // everything ends; that time is over the deadline says
			l.Interrupt()
		}
	})
	defer stop()
	t := tls.Client(l.Conn, config)
	if err := t.Handshake(); err != nil {
		return nil, "", &TLSError{err}
	}
	l.AcknowledgeNext() // a server may send session tickets first, and its answer only once they are acknowledged
	s := netio.NewTLS(l.Conn, t)
	s.NeedsCloseNotify()
	return s, t.ConnectionState().NegotiatedProtocol, nil
}

// TLSError is a handshake with a server that failed.
type TLSError struct{ Err error }

func (e *TLSError) Error() string { return "TLS handshake with the server: " + e.Err.Error() }
func (e *TLSError) Unwrap() error { return e.Err }
