package proxy

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"mpgate/proxy/backend"
	"mpgate/proxy/conninfo"
	"mpgate/task"
	"mpgate/telemetry"
)

// client is the peer of a connection: its addresses, the listener that accepted it, and its
// exchanges. conn carries its bytes.
type client struct {
	proxy    *Proxy
	listener *Listener
	limits   *connLimits // those that held when it was accepted
	meter    *telemetry.ListenerMeter
	accepted time.Time

	socket   netip.AddrPort // the socket's peer; zero for unix sockets
	local    netip.AddrPort // the socket's own address; zero for unix sockets
	peer     netip.AddrPort // socket without its zone, or what a PROXY header says
	peerText []byte         // the address of peer, as in X-Forwarded-For
	// destination is the address that the client connected to, according to a PROXY header; zero
	// without one.
	destination netip.AddrPort
	counted     netip.Addr // in perClient

	tls     *session // nil without TLS
	info    conninfo.Info
	owner   backend.Owner // of connections to servers
	tunnels tunnels

	lease     atomic.Pointer[Lease] // of the present exchange, unless there is a mux
	mux       atomic.Pointer[mux]   // set before the first exchange, if there are concurrent ones
	dismissed atomic.Bool           // the present request is the last one
	shed      atomic.Bool           // closed while parked, to make room for others
	expired   atomic.Bool           // ended at a deadline
}

// setAddresses records the addresses of a TCP connection.
func (c *client) setAddresses(nc net.Conn) {
	remote, _ := nc.RemoteAddr().(*net.TCPAddr)
	local, _ := nc.LocalAddr().(*net.TCPAddr)
	if remote == nil || local == nil {
		return
	}
	c.local = local.AddrPort()
	a := remote.AddrPort()
	c.socket = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	c.setPeer(c.socket)
}

func (c *client) setPeer(a netip.AddrPort) {
	// The zone names an interface of this host; it has no meaning elsewhere.
	addr := a.Addr().WithZone("")
	c.peer, c.peerText = netip.AddrPortFrom(addr, a.Port()), addr.AppendTo(nil)
}

// addresses returns the addresses for a PROXY header to a server.
func (c *client) addresses() backend.Addresses {
	a := backend.Addresses{Client: c.peer, Gateway: c.destination}
	if !a.Gateway.IsValid() {
		a.Gateway = c.local
	}
	return a
}

// Transport implements filter.Conn.
func (c *client) Transport() string {
	t, _ := c.info.State()
	return t.String()
}

// Path implements filter.Conn. After a PROXY header it is still the path of the socket.
func (c *client) Path() string {
	if c.proxy.options.PathAt == nil || !c.local.IsValid() {
		return ""
	}
	return c.proxy.options.PathAt(c.local.Addr().Unmap())
}

// ending reports whether the present request is the last one of the connection.
func (c *client) ending() bool {
	return c.dismissed.Load() || c.shed.Load() || c.proxy.draining.Load()
}

// holdLease records the lease of an exchange that begins. It only compares if the exchange before
// it was on the same route.
func (c *client) holdLease(x *exchange, l *Lease) {
	if m := c.mux.Load(); m != nil {
		m.add(x, l)
	} else if c.lease.Load() != l {
		c.lease.Store(l)
	}
}

// releaseLease ends what holdLease began.
func (c *client) releaseLease(x *exchange, l *Lease) {
	if m := c.mux.Load(); m != nil {
		m.remove(x)
	} else if l.retired() {
		c.lease.Store(nil)
	}
}

// serverConns returns the number of connections to servers that the client uses; nil if it has one
// exchange at a time.
func (c *client) serverConns() *atomic.Int64 {
	if m := c.mux.Load(); m != nil {
		return &m.serverConns
	}
	return nil
}

// mux is the state of a connection that carries concurrent exchanges.
type mux struct {
	http interface {
		Shutdown()                        // end after the exchanges under way
		EndIdle(after time.Duration) bool // end if there has been no exchange for so long
	}
	serverConns atomic.Int64 // connections to servers that its exchanges use

	mu   sync.Mutex // guards open
	open map[*exchange]*Lease
}

func (m *mux) add(x *exchange, l *Lease) {
	m.mu.Lock()
	m.open[x] = l
	m.mu.Unlock()
}

func (m *mux) remove(x *exchange) {
	m.mu.Lock()
	delete(m.open, x)
	m.mu.Unlock()
}

// usesAny reports whether an exchange holds one of the leases.
func (m *mux) usesAny(leases map[*Lease]bool) bool {
	if m == nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.open {
		if leases[l] {
			return true
		}
	}
	return false
}

// abort ends the exchanges that hold one of the leases.
func (m *mux) abort(leases map[*Lease]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for x, l := range m.open {
		if !leases[l] {
			continue
		}
		x.expired.Store(true)
		if x.client.tunnels.startClose(x) {
			task.AfterFunc(closeFrameTime, "exchange: end of its startClose", func() { m.abortNow(x, l) })
			continue
		}
		x.down.Abort()
		x.client.tunnels.stop(x)
	}
}

// abortNow ends an exchange that still holds a lease.
func (m *mux) abortNow(x *exchange, l *Lease) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open[x] == l {
		x.down.Abort()
		x.client.tunnels.stop(x)
	}
}
