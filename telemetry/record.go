package telemetry

import (
	"cmp"
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"time"
)

// Record is one exchange, with the fields of the access log. Filling and logging it allocates
// nothing: names come from the configuration or are constants, and what was received are slices
// that the caller owns and must not change until AccessLog.Log has returned.
//
// Call Reset before the first use and between uses. A field that does not apply stays zero and is
// logged as "" or left out.
type Record struct {
	Time time.Time // of the request's first byte
	ID   ID
	// GivenID is the ID that a trusted proxy gave the exchange, logged instead of ID; nil without
	// one.
	GivenID []byte

	Listener, Route, Backend, Server string // names from the configuration; Server is an address
	// ServerHost is the host and port by which the server is asked; "": Server.
	ServerHost string

	Peer   netip.AddrPort // of the connection; zero for unix peers
	Client netip.Addr     // after PROXY header and trusted forwarding

	Method []byte // as received
	Host   []byte // as received
	Path   []byte // as received, with query
	Scheme Scheme
	Proto  Proto

	Status            int   // sent to the client; 0: none
	BytesIn, BytesOut int64 // body bytes from and to the client
	Duration          time.Duration
	// from the choice of a server to its first byte; 0: no byte came
	BackendTime time.Duration
	QueueTime   time.Duration // that the request waited for a place at a server; 0: it did not
	Tries       int           // how often it was sent, or a connect failed
	Hedged      HedgeResult   // of a second copy of the request
	End         End
	Reason      string // of an error response of mpgate; a fixed text
	Filter      string // the filter that ended the exchange
	// InternalRoute is the route to which the server's X-Accel-Redirect led.
	InternalRoute string
	// DryRun is a limit that would have ended the exchange but for dry_run.
	DryRun        string
	GRPCStatus    int // -1: none
	DroppedFields int // header fields removed for their names

	ClientTransport, ServerTransport string // one of the Transport constants
	ClientSubflows, ServerSubflows   int    // logged for mptcp only; 0: not read

	TLSVersion, TLSCipher, TLSGroup string // TLSVersion "": no TLS of ours
	TLSResumed                      bool
	SNI                             string // also for passed-through connections

	headers []loggedHeader
}

// ServerName returns the host and port by which the server is asked.
func (r *Record) ServerName() string { return cmp.Or(r.ServerHost, r.Server) }

// IDText is the ID that the exchange is logged with.
func (r *Record) IDText() []byte {
	if r.GivenID != nil || r.ID[0] == 0 {
		return r.GivenID
	}
	return r.ID[:]
}

// Reset empties the record for the next exchange.
func (r *Record) Reset() {
	clear(r.headers) // the values are of the exchange that has ended
	*r = Record{GRPCStatus: -1, headers: r.headers[:0]}
}

// The transports of a connection, as in the access log and the metrics.
const (
	TransportMPTCP    = "mptcp"
	TransportFallback = "fallback" // MPTCP was requested, TCP is used
	TransportTCP      = "tcp"
	TransportUnix     = "unix"
)

// ID names an exchange: 32 hexadecimal digits. The zero value means that there is no ID.
type ID [32]byte

// NewID returns 128 random bits. They come from the runtime's ChaCha8 generator, seeded by the
// operating system: not guessable from other IDs, but not suitable as a secret.
func NewID() (id ID) {
	var raw [16]byte
	hi, lo := rand.Uint64(), rand.Uint64()
	for i := range 8 {
		raw[i], raw[8+i] = byte(hi>>(8*i)), byte(lo>>(8*i))
	}
	hex.Encode(id[:], raw[:])
	return id
}

// String allocates; on the hot path use id[:].
func (id ID) String() string {
	if id[0] == 0 {
		return ""
	}
	return string(id[:])
}

// Scheme is the scheme of the request.
type Scheme uint8

const (
	SchemeNone Scheme = iota
	SchemeHTTP
	SchemeHTTPS
)

func (s Scheme) String() string {
	switch s {
	case SchemeHTTP:
		return "http"
	case SchemeHTTPS:
		return "https"
	}
	return ""
}

// Proto is the protocol of the request.
type Proto uint8

const (
	ProtoNone Proto = iota
	ProtoHTTP10
	ProtoHTTP11
	ProtoHTTP2
	ProtoTLS // passed through by its server name
	ProtoTCP // of a listener without HTTP
)

func (p Proto) String() string {
	switch p {
	case ProtoHTTP10:
		return "HTTP/1.0"
	case ProtoHTTP11:
		return "HTTP/1.1"
	case ProtoHTTP2:
		return "HTTP/2.0"
	case ProtoTLS:
		return "TLS"
	case ProtoTCP:
		return "TCP"
	}
	return ""
}

// End is the reason why an exchange ended. The zero value is EndInternal: an exchange that ends
// without a reason is a bug in mpgate, and must not look like a success.
type End uint8

const (
	EndInternal End = iota
	EndOK
	EndClientGone
	EndClientTimeout
	EndBadRequest
	EndLimit
	EndNoRoute
	EndMisdirected
	EndMPTCPRequired
	EndBackendConnect
	EndBackendTimeout
	EndBackendReset
	EndBackendInvalid
	EndDrain
	EndDenied
	EndLimited
	EndUnauthorized
	EndBackendBusy
	endCount
)

// ends are the names of the reasons, and their meanings in docs/access-log.md.
var ends = [endCount]struct{ name, doc string }{
	EndOK:            {"ok", "the whole response was sent"},
	EndClientGone:    {"client_gone", "the client left before the response was complete"},
	EndClientTimeout: {"client_timeout", "the client sent or read too slowly"},
	EndBadRequest:    {"bad_request", "the request was invalid"},
	EndLimit: {"limit", "a limit of `[limits]` was exceeded, a request came back to the gateway (508), or the host lacks " +
		"a resource: [`mpgate_shed_total`](metrics.md) and mpgate's own log show which"},
	EndNoRoute:        {"no_route", "no route matches"},
	EndMisdirected:    {"misdirected", "the host has another TLS policy than the connection: 421"},
	EndMPTCPRequired:  {"mptcp_required", "MPTCP was required and is not available"},
	EndBackendConnect: {"backend_connect", "no server could be reached"},
	EndBackendBusy:    {"backend_busy", "every server had as many requests as its [limit](backends.md#queues-and-limits) allows, and there was no queue, it was full, or the request waited too long in it"},
	EndBackendTimeout: {"backend_timeout", "the server took too long"},
	EndBackendReset:   {"backend_reset", "the server closed the connection early"},
	EndBackendInvalid: {"backend_invalid", "the server's response was not valid HTTP"},
	EndDenied:         {"denied", "a filter of the route does not admit the client"},
	EndLimited:        {"limited", "a limit of the route, or of one of its filters, was exceeded"},
	EndUnauthorized: {"unauthorized", "a filter of the route requires credentials, and the request has none or invalid ones: " +
		"401, or the refusal of an authentication server"},
	EndDrain:    {"drain", "the exchange was ended after `shutdown.drain`, because of a shutdown or reload"},
	EndInternal: {"internal", "a [file](files.md) could not be read, or became shorter while it was sent; otherwise a bug in mpgate: please report it"},
}

func (e End) String() string {
	if e >= endCount {
		e = EndInternal
	}
	return ends[e].name
}
