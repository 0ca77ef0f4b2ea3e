package backend

import (
	"context"
	"crypto/tls"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mpgate/mptcp"
	"mpgate/telemetry"
)

// epoch is the zero of times that are stored as numbers. They come from the monotonic clock, so
// that setting the wall clock does not change them.
var epoch = time.Now()

// Server is one address in a backend.
type Server struct {
	Address string // as configured
	backend *Backend
	ctx     context.Context // of its tasks; ends with the server or the backend
	cancel  context.CancelFunc
	weight  atomic.Int64 // 0: it gets nothing new
	backup  bool         // it is used if no other server is available
	dialer  mptcp.Dialer
	unix    string // the path of a unix socket; "": TCP
	port    uint16
	addr    netip.AddrPort // valid if the address is not a name
	names   *names         // nil if the address is not a name
	entry   *entry         // that the server was found for; nil: it is in the configuration
	// priority is that of an SRV record: servers of a lower one are used first. Guarded by
	// membersMu.
	priority   int
	preference preference // among the addresses of a name
	meter      *telemetry.ServerMeter
	tls        *tls.Config // nil: no TLS
	tls1       *tls.Config // for HTTP/1 alone
	shared     sharedConns
	ports      ports

	places      places
	conns       connCount
	inFlight    atomic.Int64 // requests in progress, and connections forwarded unparsed
	dialling    atomic.Int64 // connections that are being made
	secondDials atomic.Int64 // those among them for second copies of requests
	latency     latency
	cookies     setCookies // of a backend with sticky
	slow        slowStart

	connecting connecting
	outcomes   outcomes
	checks     checks
	resume     func()                       // continues what restore has found; nil: nothing
	outage     atomic.Pointer[outage]       // nil: it can be reached and passes its checks
	ejected    atomic.Pointer[ejection]     // nil: it is not
	admin      atomic.Uint32                // an AdminState
	last       atomic.Pointer[mptcp.Result] // of the last connection

	mu       sync.Mutex         // guards what follows
	idle     []*conn            // the one used last is last
	owned    map[*Owner][]*conn // idle connections that belong to one client each
	closed   bool
	reported time.Time // when an outage was last reported
}

// Host returns the host and port by which the server is asked: its address, or the name that was
// resolved to it.
func (s *Server) Host() string {
	if s.entry != nil && s.entry.all != nil {
		return s.entry.options.Address
	}
	return s.Address
}

// newServer makes the server of an address in the configuration.
func (b *Backend) newServer(o ServerOptions) (*Server, error) {
	s := b.emptyServer(o)
	s.restore()
	if path, ok := strings.CutPrefix(o.Address, "unix:"); ok {
		s.unix = path
		config, err := b.tlsFor("localhost")
		s.setTLS(config)
		return s, err
	}
	host, port, err := hostPort(o.Address)
	if err != nil {
		return nil, err
	}
	config, err := b.tlsFor(host)
	if err != nil {
		return nil, err
	}
	s.setTLS(config)
	s.port = port
	if a, err := netip.ParseAddr(host); err == nil {
		s.addr = netip.AddrPortFrom(a, s.port)
	} else {
		s.names = b.options.Names.host(b.options.Resolve, host)
	}
	return s, nil
}

// emptyServer makes a server that has no address to connect to yet.
func (b *Backend) emptyServer(o ServerOptions) *Server {
	s := &Server{Address: o.Address, backend: b, backup: o.Backup}
	s.weight.Store(int64(o.weight()))
	s.setLimits(o.MaxRequests)
	s.ctx, s.cancel = context.WithCancel(b.background.ctx)
	s.dialer = mptcp.Dialer{Mode: o.MPTCP, Source: o.Source, Interface: o.Interface, Memory: b.options.Memory, SourceSelector: b.options.SourceSelector}
	return s
}

// tlsFor returns the configuration of TLS to servers of a host; nil: no TLS.
func (b *Backend) tlsFor(host string) (*tls.Config, error) {
	if b.options.TLS == nil {
		return nil, nil
	}
	return b.options.TLS(host)
}

func (s *Server) setTLS(config *tls.Config) {
	if config == nil {
		return
	}
	s.tls, s.tls1 = config.Clone(), config.Clone()
	s.tls1.NextProtos = []string{"http/1.1"}
	switch s.backend.options.Protocol {
	case HTTP2:
		s.tls.NextProtos = []string{"h2"}
	case Auto:
		s.tls.NextProtos = []string{"h2", "http/1.1"}
	}
}

// startTasks starts the tasks that run as long as the backend.
func (s *Server) startTasks() {
	s.showHealth()
	s.meter.Drained(AdminState(s.admin.Load()) != AdminUp)
	if s.resume != nil {
		s.resume()
	}
	if s.backend.options.Check != nil {
		s.start("checks", s.checkPeriodically)
	}
	if s.names != nil {
		s.start("name", func(ctx context.Context) { s.names.keepFresh(ctx, s.inUse, s.reportStale, nil) })
	}
}

// start starts a task of the server, which ends with the server or the backend.
func (s *Server) start(what string, f func(context.Context)) {
	s.backend.background.start("backend "+s.backend.Name()+": "+what+" of "+s.Address, func(context.Context) { f(s.ctx) })
}

// reportStale reports that the server's name does not resolve, or with nil that it does again.
func (s *Server) reportStale(known bool, why error) {
	if f := s.backend.options.Stale; f != nil && known { // otherwise it is reported as down
		f(s.Address, known, why)
	}
}

// requestBegins and requestEnds count the requests in progress.
func (s *Server) requestBegins() {
	s.countInFlight(1)
	s.meter.Start()
}

func (s *Server) requestEnds() {
	s.countInFlight(-1)
	s.meter.Done()
	s.noteRoom()
}

func (s *Server) countInFlight(n int64) {
	s.inFlight.Add(n)
	if s.backend.countsInFlight {
		s.backend.inFlight.Add(n)
	}
}

// avoids reports whether l must not carry a new exchange: it uses MPTCP, which may stall while the
// host is short of memory for sockets, and the server may be reached over TCP.
func (s *Server) avoids(l *Link) bool {
	if s.dialer.Mode != mptcp.Prefer || !s.backend.options.MemoryShort() {
		return false
	}
	t, _ := l.info.State()
	return t == mptcp.MPTCP
}

// inUse reports whether there are connections for later requests.
func (s *Server) inUse() bool {
	s.mu.Lock()
	idle := len(s.idle) + len(s.owned)
	s.mu.Unlock()
	return idle > 0 || s.shared.inUse()
}

// closeExpired closes the connections that must not carry further exchanges.
func (s *Server) closeExpired(now time.Time) {
	s.shared.closeExpired(now)
	s.closeIdle(s.removeExpired(now))
	s.closeIdle(s.removeSurplus(now))
	s.refreshRTT(now)
	s.noteRoom()
}

// close closes all idle connections. Those in use are closed after their exchanges.
func (s *Server) close() {
	s.closeCheckConn()
	s.shared.close()
	s.mu.Lock()
	idle := s.idle
	for _, list := range s.owned {
		idle = append(idle, list...)
	}
	first := !s.closed
	s.idle, s.owned, s.closed = nil, nil, true
	s.mu.Unlock()
	s.closeIdle(idle)
	if first {
		s.meter.Release()
		if s.names != nil {
			s.names.release()
		}
	}
}
