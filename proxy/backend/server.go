package backend

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strconv"
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
	weight  int // at least 1
	dialer  mptcp.Dialer
	unix    string // the path of a unix socket; "": TCP
	port    uint16
	addr    netip.AddrPort // valid if the address is not a name
	names   *names         // nil if the address is not a name
	meter   *telemetry.ServerMeter
	tls     *tls.Config // nil: no TLS
	tls1    *tls.Config // for HTTP/1 alone
	shared  sharedConns
	ports   ports

	places   places
	conns    connCount
	inFlight atomic.Int64                 // requests in progress
	outage   atomic.Pointer[outage]       // nil: the last connect succeeded
	last     atomic.Pointer[mptcp.Result] // of the last connection

	mu       sync.Mutex         // guards what follows
	idle     []*conn            // the one used last is last
	owned    map[*Owner][]*conn // idle connections that belong to one client each
	closed   bool
	reported time.Time // when an outage was last reported
}

func (b *Backend) newServer(o ServerOptions) (*Server, error) {
	s := &Server{Address: o.Address, backend: b, weight: max(o.Weight, 1)}
	s.setLimits(o.MaxRequests)
	s.dialer = mptcp.Dialer{Mode: o.MPTCP, Source: o.Source, Interface: o.Interface, Memory: b.options.Memory, SourceSelector: b.options.SourceSelector}
	if path, ok := strings.CutPrefix(o.Address, "unix:"); ok {
		s.unix = path
		return s, s.setTLS("localhost")
	}
	host, port, err := net.SplitHostPort(o.Address)
	if err != nil {
		return nil, fmt.Errorf("server %q: want host:port or unix:/path", o.Address)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return nil, fmt.Errorf("server %q: want a port from 1 to 65535", o.Address)
	}
	s.port = uint16(n)
	if a, err := netip.ParseAddr(host); err == nil {
		s.addr = netip.AddrPortFrom(a, s.port)
	} else {
		s.names = newNames(host)
	}
	return s, s.setTLS(host)
}

func (s *Server) setTLS(host string) error {
	if s.backend.options.TLS == nil {
		return nil
	}
	config, err := s.backend.options.TLS(host)
	if err != nil || config == nil {
		return err
	}
	s.tls, s.tls1 = config.Clone(), config.Clone()
	s.tls1.NextProtos = []string{"http/1.1"}
	switch s.backend.options.Protocol {
	case HTTP2:
		s.tls.NextProtos = []string{"h2"}
	case Auto:
		s.tls.NextProtos = []string{"h2", "http/1.1"}
	}
	return nil
}

// startTasks starts the tasks that run as long as the backend.
func (s *Server) startTasks() {
	if s.names != nil {
		s.start("name", func(ctx context.Context) { s.names.refreshPeriodically(ctx, s.inUse, s.reportStale) })
	}
}

// start starts a task of the server, which ends with the backend.
func (s *Server) start(what string, f func(context.Context)) {
	s.backend.background.start("backend "+s.backend.Name()+": "+what+" of "+s.Address, f)
}

// reportStale reports that the server's name does not resolve, or with nil that it does again.
func (s *Server) reportStale(why error) {
	if f := s.backend.options.Stale; f != nil {
		f(s.Address, why)
	}
}

// requestBegins and requestEnds count the requests in progress.
func (s *Server) requestBegins() {
	s.inFlight.Add(1)
	s.meter.Start()
}

func (s *Server) requestEnds() {
	s.inFlight.Add(-1)
	s.meter.Done()
	s.noteRoom()
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
	s.noteRoom()
}

// close closes all idle connections. Those in use are closed after their exchanges.
func (s *Server) close() {
	s.shared.close()
	s.mu.Lock()
	idle := s.idle
	for _, list := range s.owned {
		idle = append(idle, list...)
	}
	s.idle, s.owned, s.closed = nil, nil, true
	s.meter.Up(true) // a server of a later generation may use the same meter
	s.mu.Unlock()
	s.closeIdle(idle)
	s.meter.Release()
}
