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

// client is the other end of a connection: who it is, the listener that it came to, and the
// exchanges with it. How its bytes are carried is the business of conn.
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
	// destination is the address that the client connected to, by a PROXY header; zero without one.
	destination netip.AddrPort
	counted     netip.Addr // in perClient

	tls     *session // nil without TLS
	info    conninfo.Info
	owner   backend.Owner // of connections to servers
	tunnels tunnels

	lease   atomic.Pointer[Lease] // of the present exchange, unless there is a mux
	mux     atomic.Pointer[mux]   // set before the first exchange, if there are many at a time
	leaving atomic.Bool           // no request may follow the present one
	shed    atomic.Bool           // ended while it waited for a request, to make room for others
	cut     atomic.Bool           // ended at a deadline
}

// setAddresses notes the addresses of a connection over TCP.
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
	addr := a.Addr().WithZone("") // it names an interface of this host, which says nothing to others
	c.peer, c.peerText = netip.AddrPortFrom(addr, a.Port()), addr.AppendTo(nil)
}

// addresses are what a PROXY header to a server says of the client.
func (c *client) addresses() backend.Addresses {
	a := backend.Addresses{Client: c.peer, Gateway: c.destination}
	if !a.Gateway.IsValid() {
		a.Gateway = c.local
	}
	return a
}

// ending reports whether no request may follow the present one.
func (c *client) ending() bool {
	return c.leaving.Load() || c.shed.Load() || c.proxy.draining.Load()
}

// take notes the lease of an exchange that begins. Where one exchange follows another on the same
// route it only compares.
func (c *client) take(x *exchange, l *Lease) {
	if m := c.mux.Load(); m != nil {
		m.take(x, l)
	} else if c.lease.Load() != l {
		c.lease.Store(l)
	}
}

// giveBack is called at the end of an exchange.
func (c *client) giveBack(x *exchange, l *Lease) {
	if m := c.mux.Load(); m != nil {
		m.giveBack(x)
	} else if l.retired() {
		c.lease.Store(nil)
	}
}

// holds counts the connections to servers that are in use for the client; nil if it has one
// exchange at a time.
func (c *client) holds() *atomic.Int64 {
	if m := c.mux.Load(); m != nil {
		return &m.holds
	}
	return nil
}

// mux is a connection that carries many exchanges at a time.
type mux struct {
	http interface {
		Shutdown()                        // end after the exchanges under way
		EndIdle(after time.Duration) bool // end if there has been no exchange for so long
	}
	holds atomic.Int64 // connections to servers that its exchanges use

	mu   sync.Mutex // guards open
	open map[*exchange]*Lease
}

func (m *mux) take(x *exchange, l *Lease) {
	m.mu.Lock()
	m.open[x] = l
	m.mu.Unlock()
}

func (m *mux) giveBack(x *exchange) {
	m.mu.Lock()
	delete(m.open, x)
	m.mu.Unlock()
}

// under says whether an exchange lasts by one of the leases.
func (m *mux) under(leases map[*Lease]bool) bool {
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

// abort ends the exchanges that last by one of the leases.
func (m *mux) abort(leases map[*Lease]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for x, l := range m.open {
		if !leases[l] {
			continue
		}
		x.cut.Store(true)
		if x.client.tunnels.startClose(x) {
			task.AfterFunc(closeFrameTime, "exchange: end of its startClose", func() { m.cut(x, l) })
			continue
		}
		x.down.Abort()
		x.client.tunnels.cut(x)
	}
}

// cut ends an exchange that still lasts by a lease.
func (m *mux) cut(x *exchange, l *Lease) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open[x] == l {
		x.down.Abort()
		x.client.tunnels.cut(x)
	}
}
