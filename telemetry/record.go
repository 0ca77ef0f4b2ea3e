package telemetry

import (
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"time"
)

// Record is one exchange, with the fields of the access log. Filling and logging it allocates
// nothing: names come from the configuration or are constants, and what came off the wire are
// slices that the caller owns and must leave alone until AccessLog.Log has returned.
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
	BackendTime       time.Duration // from the choice of a server to its first byte; 0: no byte came
	Tries             int           // servers tried
	End               End
	Reason            string // of an error that we answered ourselves; a fixed text
	GRPCStatus        int    // -1: none
	DroppedFields     int    // header fields removed for their names

	ClientTransport, ServerTransport string // one of the Transport constants
	ClientSubflows, ServerSubflows   int    // logged for mptcp only; 0: not read

	TLSVersion, TLSCipher, TLSGroup string // TLSVersion "": no TLS of ours
	TLSResumed                      bool
	SNI                             string // also for passed-through connections
}

// IDText is the ID that the exchange is logged with.
func (r *Record) IDText() []byte {
	if r.GivenID != nil || r.ID[0] == 0 {
		return r.GivenID
	}
	return r.ID[:]
}

// Reset empties the record for the next exchange.
func (r *Record) Reset() { *r = Record{GRPCStatus: -1} }

// What a connection speaks, as in the access log and the metrics.
const (
	TransportMPTCP    = "mptcp"
	TransportFallback = "fallback" // MPTCP was asked for, TCP is spoken
	TransportTCP      = "tcp"
	TransportUnix     = "unix"
)

// ID names an exchange: 32 hexadecimal digits. The zero value is no ID.
type ID [32]byte

// NewID returns 128 random bits. They come from the runtime's ChaCha8 generator, seeded by the
// operating system: not guessable from other IDs, but no secret to build on either.
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

// Scheme is how the client spoke.
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

// Proto is the protocol that the client spoke.
type Proto uint8

const (
	ProtoNone Proto = iota
	ProtoHTTP10
	ProtoHTTP11
	ProtoHTTP2
	ProtoTLS // passed through
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
	}
	return ""
}

// End says why an exchange ended. The zero value is EndInternal: an exchange that ends without
// anybody having said why is a bug in mpgate, and must not look like a success.
type End uint8

const (
	EndInternal       End = iota // a bug in mpgate
	EndOK                        // the whole answer was sent
	EndClientGone                // the client left or reset before the answer was sent
	EndClientTimeout             // the client sent or read too slowly
	EndBadRequest                // not a valid request
	EndLimit                     // a configured limit
	EndNoRoute                   // nothing matches
	EndMisdirected               // the host has another TLS policy than the connection
	EndMPTCPRequired             // the listener or backend wants MPTCP and did not get it
	EndBackendConnect            // no server could be reached
	EndBackendTimeout            // the server was too slow
	EndBackendReset              // the server broke off
	EndBackendInvalid            // the server's answer is not valid
	EndDrain                     // cut by a shutdown or reload at its deadline
	EndDenied                    // the route does not admit the client: 403
	EndLimited                   // a limit of the route
	EndUnauthorized              // the route wants credentials, or other ones
	endCount
)

var endNames = [endCount]string{
	EndInternal: "internal", EndOK: "ok", EndClientGone: "client_gone", EndClientTimeout: "client_timeout",
	EndBadRequest: "bad_request", EndLimit: "limit", EndNoRoute: "no_route", EndMisdirected: "misdirected",
	EndMPTCPRequired: "mptcp_required", EndBackendConnect: "backend_connect", EndBackendTimeout: "backend_timeout",
	EndBackendReset: "backend_reset", EndBackendInvalid: "backend_invalid", EndDrain: "drain",
	EndDenied: "denied", EndLimited: "limited", EndUnauthorized: "unauthorized",
}

func (e End) String() string {
	if e >= endCount {
		e = EndInternal
	}
	return endNames[e]
}
