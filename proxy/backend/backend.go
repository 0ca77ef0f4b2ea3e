package backend

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"mpgate/mptcp"
	"mpgate/proxy/http1"
	"mpgate/proxy/http2"
	"mpgate/proxy/leg"
	"mpgate/proxy/limits"
	"mpgate/task"
	"mpgate/telemetry"
)

// Options describe a backend. Servers is required; durations that are zero get the defaults of New.
type Options struct {
	Name            string
	Servers         []ServerOptions
	ConnectTimeout  time.Duration // 5 s
	ResponseTimeout time.Duration // to the first byte of an answer, 60 s
	IdleTimeout     time.Duration // of a kept connection, and the longest silence in an answer, 60 s
	Limits          limits.Limits // of an answer's head; those of limits.Servers
	Protocol        Protocol
	SendProxy       uint8 // version of the PROXY header that a connection begins with; 0 is none
	// TLS gives the configuration for a server's host; nil: no TLS.
	TLS         func(host string) (*tls.Config, error)
	Instruments *telemetry.Instruments
	// Memory, if set, spares dials what earlier ones have learned about servers that get no MPTCP.
	Memory *mptcp.Memory
	// MemoryShort says whether the host is short of memory for sockets; nil: what the kernel says.
	MemoryShort func() bool
	// Detour, if set, leads dials around paths that do not carry.
	Detour mptcp.Detour
	// Live, if set, has the connections that use MPTCP.
	Live *leg.Live
	// Streams bounds, if set, what servers of HTTP/2 may make us hold, for all backends that share
	// it; nil: 256 MiB for this one.
	Streams *http2.Memory
	// Down, if set, is called when a server can no longer be reached, with the error of the last
	// connect, and Up when it can be reached again. They are not called for every outage of a
	// server that has many. No request waits for them.
	Down func(server string, why error)
	Up   func(server string, after time.Duration)
	// Stale, if set, is called when a server's name does not resolve any more while its last
	// addresses stay in use, and with nil when it does again.
	Stale func(server string, why error)
	// Places bounds the connections of all backends that share it; nil: no limit.
	Places *Places
}

// ServerOptions describe one server.
type ServerOptions struct {
	Address   string // host:port, or unix:/path
	Weight    int    // its share of the requests; 0 means 1
	MPTCP     mptcp.Mode
	Source    netip.Addr // to connect from
	Interface string     // to bind to
}

// Patience is how long an answer may take before the gateway looks whether the client is still
// there.
const Patience = 100 * time.Millisecond

// Backend is a named pool of servers.
type Backend struct {
	options Options
	client  http1.ClientOptions
	client2 http2.ClientOptions
	memory  *http2.Memory
	readers task.Group // of shared connections
	places  *Places
	servers []*Server
	turns   []int // indexes of servers, each as often as its weight says, well mixed
	turn    atomic.Uint64

	background *background
	firstRest  time.Duration // of servers that cannot be reached; tests make it shorter
}

// New makes a backend; it connects to nobody. Run must run while it is used.
func New(o Options) (*Backend, error) {
	setDefault(&o.ConnectTimeout, 5*time.Second)
	setDefault(&o.ResponseTimeout, 60*time.Second)
	setDefault(&o.IdleTimeout, 60*time.Second)
	if o.MemoryShort == nil {
		o.MemoryShort = mptcp.HostMemoryShort
	}
	o.Limits = o.Limits.Or(limits.Servers)
	o.Limits.IdleTime = o.IdleTimeout
	if len(o.Servers) == 0 {
		return nil, fmt.Errorf("backend %q has no servers", o.Name)
	}
	b := &Backend{options: o, client: http1.ClientOptions{Limits: o.Limits, Patience: Patience}}
	b.background, b.firstRest = newBackground(), firstRest
	if b.memory = o.Streams; b.memory == nil {
		b.memory = &http2.Memory{Limit: http2.MemoryLimit()}
	}
	if b.places = o.Places; b.places == nil {
		b.places = new(Places)
	}
	b.client2 = http2.ClientOptions{
		Limits: o.Limits, Patience: Patience, Memory: b.memory,
	}
	weights := make([]int, len(o.Servers))
	for i, so := range o.Servers {
		s, err := b.newServer(so)
		if err != nil {
			return nil, fmt.Errorf("backend %q: %w", o.Name, err)
		}
		b.servers = append(b.servers, s)
		weights[i] = max(so.Weight, 1)
	}
	b.turns = mixTurns(weights)
	for _, s := range b.servers {
		s.meter = o.Instruments.Server(o.Name, s.Address)
	}
	return b, nil
}

func setDefault(d *time.Duration, v time.Duration) {
	if *d == 0 {
		*d = v
	}
}

func (b *Backend) newServer(o ServerOptions) (*Server, error) {
	s := &Server{Address: o.Address, backend: b, memoryShort: b.options.MemoryShort}
	s.dialer = mptcp.Dialer{Mode: o.MPTCP, Source: o.Source, Interface: o.Interface, Memory: b.options.Memory, Detour: b.options.Detour}
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

func (s *Server) setTLS(host string) (err error) {
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

// mixTurns spreads servers over a round so that each comes as often as its weight and as evenly as
// it goes (smooth weighted round robin).
func mixTurns(weights []int) (turns []int) {
	total := 0
	for _, w := range weights {
		total += w
	}
	credit := make([]int, len(weights))
	for range total {
		best := 0
		for i, w := range weights {
			credit[i] += w
			if credit[i] > credit[best] {
				best = i
			}
		}
		credit[best] -= total
		turns = append(turns, best)
	}
	return turns
}

// Name is the backend's in the configuration.
func (b *Backend) Name() string { return b.options.Name }

// SendsProxy says whether connections begin with a PROXY header.
func (b *Backend) SendsProxy() bool { return b.options.SendProxy != 0 }

// ResponseTimeout bounds the wait for the first byte of an answer.
func (b *Backend) ResponseTimeout() time.Duration { return b.options.ResponseTimeout }

// IdleTimeout bounds silence in an answer or a tunnel.
func (b *Backend) IdleTimeout() time.Duration { return b.options.IdleTimeout }

// Run closes connections that are kept for too long, and follows the servers' names, until the
// context ends; then it closes all that are kept.
func (b *Backend) Run(ctx context.Context) error {
	for _, s := range b.servers {
		if s.names != nil {
			b.background.start(s.task("name"), func(ctx context.Context) { s.names.follow(ctx, s.inUse, s.stale) })
		}
	}
	tick := time.NewTicker(min(time.Second, b.options.IdleTimeout))
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			for _, s := range b.servers {
				s.sweep(now)
			}
		case <-ctx.Done():
			b.Discard()
			b.readers.Wait()
			return nil
		}
	}
}

// Discard gives back what a backend holds that never ran.
func (b *Backend) Discard() {
	b.background.stop()
	for _, s := range b.servers {
		s.close()
	}
}

// ServerStatus is what is known of a server, for the status page.
type ServerStatus struct {
	Address string `json:"address"`
	Resting bool   `json:"resting"`   // could not be reached, and has not been since
	Why     string `json:"why"`       // the error of the last connect, where it is resting
	Kept    int    `json:"kept"`      // idle connections
	Speaks  string `json:"transport"` // the transport of the last connection that was made; "" before
	Reason  string `json:"reason"`    // of a fallback, inferred
}

// Status says what is known of each server.
func (b *Backend) Status() []ServerStatus {
	list := make([]ServerStatus, len(b.servers))
	for i, s := range b.servers {
		s.mu.Lock()
		list[i] = ServerStatus{Address: s.Address, Kept: len(s.kept)}
		if o := s.outage.Load(); o != nil {
			list[i].Resting, list[i].Why = true, o.reason().Error()
		}
		for _, owned := range s.owned {
			list[i].Kept += len(owned)
		}
		if r := s.last.Load(); r != nil {
			list[i].Speaks, list[i].Reason = r.Transport.String(), r.Reason.String()
		}
		s.mu.Unlock()
	}
	return list
}
