package telemetry

import (
	"sync"
	"sync/atomic"
	"time"
)

type serverKey struct{ backend, server string }

// ServerMeter counts the requests to one server of a backend, and its responses.
type ServerMeter struct {
	in  *Instruments
	key serverKey

	inFlight  atomic.Int64
	idle      atomic.Int64
	open      atomic.Int64
	retries   atomic.Uint64
	codes     codes
	firstByte histogram
	connects  [transportCount][connectCount]atomic.Uint64
	health    serverHealth
}

// Start counts a request as sent to the server, Done as ended.
func (m *ServerMeter) Start() {
	if m != nil {
		m.inFlight.Add(1)
	}
}

func (m *ServerMeter) Done() {
	if m != nil {
		m.inFlight.Add(-1)
	}
}

// Request counts a request by the status of the response; 0: there was none.
func (m *ServerMeter) Request(code int) {
	if m != nil {
		m.codes.inc(code)
	}
}

// FirstByte observes the time from the choice of the server to its first byte.
func (m *ServerMeter) FirstByte(d time.Duration) {
	if m != nil {
		m.firstByte.observe(d)
	}
}

// Retry counts a request that went to this server after another try had failed.
func (m *ServerMeter) Retry() {
	if m != nil {
		m.retries.Add(1)
	}
}

// Connect counts a dial. transport is a Transport constant: that of the connection or, if the dial
// failed, the one requested.
func (m *ServerMeter) Connect(transport string, result ConnectResult) {
	if m != nil && result < connectCount {
		m.connects[transportOf(transport)][result].Add(1)
	}
}

// Open adds delta to the number of open connections, Idle to the number of idle ones among them.
func (m *ServerMeter) Open(delta int) {
	if m != nil {
		m.open.Add(int64(delta))
	}
}

func (m *ServerMeter) Idle(delta int) {
	if m != nil {
		m.idle.Add(int64(delta))
	}
}

// InFlight is the number of requests to the server in progress.
func (m *ServerMeter) InFlight() int64 {
	if m == nil {
		return 0
	}
	return m.inFlight.Load()
}

// Release ends the use of the handle; see Instruments.Server.
func (m *ServerMeter) Release() {
	if m != nil {
		m.in.servers.release(m.key, m)
	}
}

// used reports whether the server was ever dialled, as every request needs.
func (m *ServerMeter) used() bool {
	for t := range m.connects {
		for r := range m.connects[t] {
			if m.connects[t][r].Load() != 0 {
				return true
			}
		}
	}
	return m.open.Load() != 0 || m.inFlight.Load() != 0 || m.retries.Load() != 0
}

func (m *ServerMeter) keep() bool { return m.used() }

// ConnectResult is the outcome of a dial.
type ConnectResult uint8

const (
	ConnectOK ConnectResult = iota
	ConnectRefused
	ConnectTimeout
	ConnectUnreachable
	ConnectError
	connectCount
)

var connectNames = [connectCount]string{"ok", "refused", "timeout", "unreachable", "error"}

func (r ConnectResult) String() string { return connectNames[min(r, ConnectError)] }

var transportNames = [...]string{"", TransportMPTCP, TransportFallback, TransportTCP, TransportUnix}

const transportCount = len(transportNames)

func transportOf(s string) int {
	for i, n := range transportNames {
		if s == n {
			return i
		}
	}
	return 0
}

// ListenerMeter counts the connections of one listener.
type ListenerMeter struct {
	in   *Instruments
	name string

	open      atomic.Int64
	ends      [connEndCount]atomic.Uint64
	tlsErrors [tlsErrorCount]atomic.Uint64

	mu         sync.Mutex
	handshakes map[handshakeKey]uint64
}

type handshakeKey struct {
	version string
	resumed bool
}

// Opened counts a connection as open, Closed as ended.
func (m *ListenerMeter) Opened() {
	if m != nil {
		m.open.Add(1)
	}
}

func (m *ListenerMeter) Closed(end ConnEnd) {
	if m == nil {
		return
	}
	if end >= connEndCount {
		end = ConnInternal
	}
	m.open.Add(-1)
	m.ends[end].Add(1)
}

// Handshake counts a TLS handshake that succeeded. version is a result of tls.VersionName.
func (m *ListenerMeter) Handshake(version string, resumed bool) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.handshakes == nil {
		m.handshakes = map[handshakeKey]uint64{}
	}
	m.handshakes[handshakeKey{version, resumed}]++
}

// HandshakeError counts one that failed; see TLSErrorOf.
func (m *ListenerMeter) HandshakeError(reason TLSError) {
	if m != nil && reason < tlsErrorCount {
		m.tlsErrors[reason].Add(1)
	}
}

// Release ends the use of the handle; see Instruments.Listener.
func (m *ListenerMeter) Release() {
	if m != nil {
		m.in.listeners.release(m.name, m)
	}
}

// keep reports whether a connection was ever accepted.
func (m *ListenerMeter) keep() bool {
	for end := range m.ends {
		if m.ends[end].Load() != 0 {
			return true
		}
	}
	return m.open.Load() != 0
}

// ConnEnd is the reason why a connection of a listener ended. As with End, the zero value is a bug
// in mpgate.
type ConnEnd uint8

const (
	ConnInternal      ConnEnd = iota // a bug in mpgate
	ConnOK                           // closed by either side after its exchanges
	ConnSilent                       // no byte was received
	ConnIdle                         // no further byte within the idle time
	ConnTimeout                      // a head, a body or a response was too slow
	ConnReset                        // the client reset the connection
	ConnTLS                          // the handshake failed: see the TLS errors
	ConnProxyHeader                  // no valid PROXY header where one is required
	ConnMPTCPRequired                // not MPTCP, or no longer, where it is required
	ConnLimit                        // too many connections, or another limit
	ConnBadRequest                   // not valid HTTP
	ConnBackend                      // the server closed the connection within a response
	ConnDrain                        // ended by a shutdown or reload
	connEndCount
)

var connEndNames = [connEndCount]string{
	"internal", "ok", "silent", "idle", "timeout", "reset", "tls", "proxy_header", "mptcp_required",
	"limit", "bad_request", "backend", "drain",
}

func (e ConnEnd) String() string {
	if e >= connEndCount {
		e = ConnInternal
	}
	return connEndNames[e]
}

// Side is the side of the gateway that a connection is on.
type Side uint8

const (
	SideListener Side = iota
	SideBackend
	sideCount
)

var sideNames = [sideCount]string{"listener", "backend"}

func (s Side) String() string { return sideNames[min(s, SideBackend)] }

var (
	mptcpResults    = [...]string{TransportMPTCP, TransportFallback, TransportTCP}
	fallbackReasons = [...]string{"not_offered", "peer_or_path", "blackhole", "host", "later"}
)

type mptcpMeter struct {
	results       [len(mptcpResults)]atomic.Uint64
	reasons       [len(fallbackReasons)]atomic.Uint64
	subflows      atomic.Int64
	receiveStalls atomic.Uint64
}

// MPTCPEnded counts a connection, when it ends, by its transport: a Transport constant. Unix
// connections are not counted.
func (in *Instruments) MPTCPEnded(side Side, transport string) {
	if in == nil || side >= sideCount {
		return
	}
	for i, n := range mptcpResults {
		if n == transport {
			in.mptcp[side].results[i].Add(1)
		}
	}
}

// MPTCPFellBack counts a fallback by its inferred reason: not_offered, peer_or_path, blackhole,
// host or later. Others are not counted.
func (in *Instruments) MPTCPFellBack(side Side, reason string) {
	if in == nil || side >= sideCount {
		return
	}
	for i, n := range fallbackReasons {
		if n == reason {
			in.mptcp[side].reasons[i].Add(1)
		}
	}
}

// MPTCPReceiveStall counts a connection that stalled and was freed.
func (in *Instruments) MPTCPReceiveStall(side Side) {
	if in != nil && side < sideCount {
		in.mptcp[side].receiveStalls.Add(1)
	}
}

// MPTCPSubflows adds delta to the number of subflows of the open connections.
func (in *Instruments) MPTCPSubflows(side Side, delta int) {
	if in != nil && side < sideCount {
		in.mptcp[side].subflows.Add(int64(delta))
	}
}
