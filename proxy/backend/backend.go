package backend

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"mpgate/mptcp"
	"mpgate/proxy/conninfo"
	"mpgate/proxy/http1"
	"mpgate/proxy/http2"
	"mpgate/proxy/limits"
	"mpgate/task"
	"mpgate/telemetry"
)

// Options describe a backend. Servers is required; zero durations get the defaults given here.
type Options struct {
	Name            string
	Servers         []ServerOptions
	Balance         string        // how a server is chosen: see balancers; "" is round_robin
	Sticky          StickyOptions // how clients stay with a server
	ConnectTimeout  time.Duration // 5 s
	ResponseTimeout time.Duration // to the first byte of a response, 60 s
	IdleTimeout     time.Duration // of idle connections, and of silence in a response; 60 s
	SlowStart       time.Duration // of a server that has come back; 0: it gets its share at once
	Limits          limits.Limits // of a response's head; those of limits.Servers
	Protocol        Protocol
	SendProxy       uint8 // version of the PROXY header that connections begin with; 0: no header
	// TLS returns the configuration for a server's host; nil: no TLS.
	TLS         func(host string) (*tls.Config, error)
	Instruments *telemetry.Instruments
	// Memory, if set, remembers which servers cannot be reached over MPTCP, so that dials to them
	// do not try it.
	Memory *mptcp.Memory
	// MemoryShort reports whether the host is short of memory for sockets; nil: what the kernel
	// says.
	MemoryShort func() bool
	// SourceSelector, if set, leads dials around paths that have failed.
	SourceSelector mptcp.SourceSelector
	// Live, if set, contains the open connections that use MPTCP.
	Live *conninfo.Registry
	// Streams, if set, bounds the memory that HTTP/2 servers can make mpgate use, for all backends
	// that share it; nil: 256 MiB for this backend.
	Streams *http2.Memory
	// Down, if set, is called when a server can no longer be reached, with the error of the last
	// connect, and Up when it can be reached again. They are not called for every outage of a
	// server that has many. No request waits for them.
	Down func(server string, why error)
	Up   func(server string, after time.Duration)
	// Stale, if set, is called with an error when the name of a server, or of an entry with All or
	// SRV, does not resolve, and with nil when it resolves again. Until then its last addresses
	// stay in use; known is whether there are any.
	Stale func(server string, known bool, why error)
	// Moved, if set, is called when servers of an entry with All or SRV have come or gone.
	Moved func(name string, added, removed []string)
	// Names, if set, is what is known about the names of servers, for all backends that share it.
	Names *Names
	// Resolve is how the names are resolved.
	Resolve Resolve
	// Panic, if set, is called when fewer than half of the servers are healthy, so that failed
	// checks and ejections do not count, and when that is over. No request waits for it.
	Panic func(on bool, healthy, servers int)
	// Check describes checks of the servers while they work; nil: none. During an outage a server
	// is checked in any case.
	Check *CheckOptions
	Eject *EjectOptions // nil: no server is ejected for its responses
	// Restore, if not nil, has the states of the servers of an earlier backend of this name. Those
	// that it does not have are new. Health identifies what health depends on: see ServerState.
	Restore []ServerState
	Health  string
	// Retry says when a request is sent again; nil: DefaultRetry.
	Retry *Retry
	// Hedge says when a request is sent a second time while it waits for an answer; nil: never.
	Hedge *Hedge
	// OtherSource, if set, returns a local address to reach a server from over another path than
	// the one that the local address from belongs to; the zero Addr if there is none.
	OtherSource func(from, server netip.Addr) netip.Addr
	// MaxConnections bounds the connections to each server; 0: no limit. Over HTTP/1 that bounds
	// the requests, too.
	MaxConnections int
	Queue          Queue
	Keep           Keep
	// ConnLimit, if set, bounds the connections of all backends that share it; nil: no limit.
	ConnLimit *ConnLimit
}

// ServerOptions describe one server, or a name that stands for several.
type ServerOptions struct {
	Address   string // host:port, or unix:/path
	All       bool   // each address of the host is a server
	SRV       string // in place of an address: the name of SRV records, each of which is a server
	Weight    int    // its share of the requests; 0 means 1; below 0: nothing new; not with SRV
	Backup    bool   // it is used if no other server is available
	MPTCP     mptcp.Mode
	Source    netip.Addr // to connect from
	Interface string     // to bind to
	// MaxRequests bounds the requests to the server that are in progress; 0: no limit. A connection
	// whose bytes are forwarded unparsed counts as a request.
	MaxRequests int
}

// weight is that of a server, from 0.
func (o *ServerOptions) weight() int {
	if o.Weight == 0 {
		return 1
	}
	return max(o.Weight, 0)
}

// ClientCheckDelay is how long a response may take before mpgate checks whether the client is still
// connected.
const ClientCheckDelay = 100 * time.Millisecond

// Backend is a named pool of servers.
type Backend struct {
	options   Options
	client    http1.ClientOptions
	client2   http2.ClientOptions
	readers   task.Group // of shared connections
	connLimit *ConnLimit
	entries   []*entry // of Options.Servers
	members   atomic.Pointer[members]
	check     check

	membersMu sync.Mutex // guards what follows; held while members are replaced
	running   bool       // Run has been called
	discarded bool

	health       *telemetry.BackendHealthMeter
	panics       atomic.Bool // too few servers are healthy
	healthMu     sync.Mutex  // guards what follows, and the ejections of all servers
	panicReports bool        // a task reports panics
	// earlier has the states of servers that are not in members; nil: nothing is known.
	earlier map[string]*ServerState

	retry   Retry
	budget  budget
	hedging *hedging // nil: no request is sent a second time
	queue   queue
	limited bool // a server has a limit of requests or connections

	background      *background
	firstProbeDelay time.Duration // tests shorten it

	notesLatency   bool         // the balancer needs Server.latency
	countsInFlight bool         // the balancer needs inFlight
	inFlight       atomic.Int64 // requests in progress
}

// New creates a backend without connecting to a server. Run must run while the backend is used.
func New(o Options) (*Backend, error) {
	setDefaults(&o)
	if len(o.Servers) == 0 {
		return nil, fmt.Errorf("backend %q has no servers", o.Name)
	}
	b := &Backend{
		options: o,
		client:  http1.ClientOptions{Limits: o.Limits, SlowAfter: ClientCheckDelay},
		client2: http2.ClientOptions{
			Limits: o.Limits, SlowAfter: ClientCheckDelay, Memory: o.Streams,
		},
		connLimit: o.ConnLimit, background: newBackground(), firstProbeDelay: firstProbeDelay,
	}
	b.retry = DefaultRetry
	if o.Retry != nil {
		b.retry = *o.Retry
	}
	b.retry.Tries = min(max(b.retry.Tries, 1), MaxTries)
	b.hedging = newHedging(o.Hedge, b)
	b.queue.init(b, o.Queue)
	b.limited = o.MaxConnections > 0
	for _, so := range o.Servers {
		b.limited = b.limited || so.MaxRequests > 0
	}
	var err error
	if b.check, err = newCheck(o.Check); err != nil {
		return nil, fmt.Errorf("backend %q: check: %w", o.Name, err)
	}
	b.earlier = byAddress(o.Restore)
	b.health = o.Instruments.BackendHealth(o.Name)
	b.notesLatency, b.countsInFlight = o.Balance == latencyName, o.Balance == hashName
	b.members.Store(new(members))
	if err = b.addEntries(); err == nil {
		err = b.assemble()
	}
	if err != nil {
		b.Discard()
		return nil, fmt.Errorf("backend %q: %w", o.Name, err)
	}
	return b, nil
}

func setDefaults(o *Options) {
	o.ConnectTimeout = cmp.Or(o.ConnectTimeout, 5*time.Second)
	o.ResponseTimeout = cmp.Or(o.ResponseTimeout, 60*time.Second)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 60*time.Second)
	o.Keep.Idle = cmp.Or(o.Keep.Idle, DefaultKeepIdle)
	o.Limits = o.Limits.Or(limits.Servers)
	o.Limits.IdleTime = o.IdleTimeout
	if o.MemoryShort == nil {
		o.MemoryShort = mptcp.HostMemoryShort
	}
	if o.Streams == nil {
		o.Streams = &http2.Memory{Limit: http2.MemoryLimit()}
	}
	if o.Names == nil {
		o.Names = new(Names)
	}
	if o.Check != nil {
		check := *o.Check
		check.setDefaults()
		o.Check = &check
	}
	if o.Eject != nil {
		eject := *o.Eject
		eject.Rest, eject.Most = cmp.Or(eject.Rest, 10*time.Second), cmp.Or(eject.Most, 0.5)
		o.Eject = &eject
	}
	if o.ConnLimit == nil {
		o.ConnLimit = new(ConnLimit)
	}
}

// Name returns the name of the backend in the configuration.
func (b *Backend) Name() string { return b.options.Name }

// SendsProxy reports whether connections begin with a PROXY header.
func (b *Backend) SendsProxy() bool { return b.options.SendProxy != 0 }

// ResponseTimeout returns the limit of the wait for the first byte of a response.
func (b *Backend) ResponseTimeout() time.Duration { return b.options.ResponseTimeout }

// IdleTimeout returns the limit of silence in a response or a tunnel.
func (b *Backend) IdleTimeout() time.Duration { return b.options.IdleTimeout }

// Run maintains the servers until the context ends: it closes expired idle connections and runs the
// servers' tasks. Then it closes all idle connections.
func (b *Backend) Run(ctx context.Context) error {
	b.startServers()
	tick := time.NewTicker(min(time.Second, b.options.IdleTimeout))
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			for _, s := range b.list() {
				s.closeExpired(now)
			}
			b.budget.tick(now)
			b.hedging.tick(now)
			b.queue.dispatch(nil)
		case <-ctx.Done():
			b.Discard()
			b.readers.Wait()
			return nil
		}
	}
}

// Discard releases the resources of a backend that never ran.
func (b *Backend) Discard() {
	b.background.stop()
	b.membersMu.Lock()
	defer b.membersMu.Unlock()
	for _, s := range b.list() {
		s.close()
	}
	if !b.discarded {
		b.discarded = true
		b.health.Release()
		b.queue.meter.Release()
		for _, e := range b.entries {
			e.discard()
		}
	}
}

// ServerStatus is the state of a server, for the status page.
type ServerStatus struct {
	Address     string
	Down        bool   // it cannot be reached, fails its checks or was ejected
	Unreachable bool   // it is Down because connects fail
	Why         string // if Down: the error of the last connect or check, or of the responses
	Admin       AdminState
	InProgress  int64   // requests, and connections whose bytes are forwarded
	Slow        float64 // the share of its weight that it has while it starts slowly; otherwise 1
	Idle        int     // idle connections
	Transport   string  // of the last connection; "" before the first
	Reason      string  // of a fallback, inferred
}

// Status returns the state of each server.
func (b *Backend) Status() []ServerStatus {
	var list []ServerStatus
	for _, s := range b.list() {
		list = append(list, s.status(time.Now()))
	}
	return list
}

func (s *Server) status(now time.Time) ServerStatus {
	status := ServerStatus{Address: s.Address, Admin: AdminState(s.admin.Load()), InProgress: s.inFlight.Load(), Slow: s.slowShare(now)}
	if o := s.outage.Load(); o != nil {
		status.Down, status.Unreachable, status.Why = true, !o.reachable.Load(), o.cause().Error()
	} else if e := s.ejected.Load(); e != nil {
		status.Down, status.Why = true, e.text(now)
	}
	if r := s.last.Load(); r != nil {
		status.Transport, status.Reason = r.Transport.String(), r.Reason.String()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	status.Idle = len(s.idle)
	for _, owned := range s.owned {
		status.Idle += len(owned)
	}
	return status
}
