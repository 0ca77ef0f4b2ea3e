// Package limits declares the limits on a connection. The configuration, the proxy and both codecs
// share them; the tags are those of package config.
package limits

import "time"

// Limits are the limits on a client and its connections. A codec uses those of them that are about
// a connection, towards servers too. The packages say what a zero field means: in most it is the
// default.
type Limits struct {
	// HeaderBytes and HeaderFields bound a head, and the trailers.
	HeaderBytes  int `toml:"header_bytes" as:"size" min:"1KiB" max:"1MiB" help:"Maximum size of a request's head."`
	HeaderFields int `toml:"header_fields" min:"1" max:"100000" help:"Maximum number of header fields of a request."`
	// HeaderTime is from the first byte of a request, or the accept, to the end of its head.
	HeaderTime time.Duration `toml:"header_time" min:"10ms" help:"Longest time for the head of a request, TLS handshake included."`
	// IdleTime is the longest time between requests, and the longest pause in a body.
	IdleTime time.Duration `toml:"idle_time" min:"10ms" eg:"60s" help:"Longest pause between requests and inside a body."`
	// MinRate is in bytes per second of a body in transit, averaged over IdleTime.
	MinRate int64 `toml:"min_rate" as:"size" min:"0" max:"1GiB" help:"Lowest rate of a body per second; 0 for no minimum."`
	// Connections is 0 for a limit that follows from RLIMIT_NOFILE.
	Connections int `toml:"connections" min:"0" max:"1073741824" help:"Maximum number of client connections; 0: half of RLIMIT_NOFILE."`
	// PerClient is the limit for one IPv4 address or one IPv6 /64; 0 is no limit.
	PerClient int `toml:"connections_per_client" min:"0" max:"1073741824" help:"Maximum number of connections from one client address; 0 for no limit."`
}

const (
	headerTime = 10 * time.Second
	idleTime   = 60 * time.Second
)

// Default are the limits on clients if nothing else is configured.
var Default = Limits{
	HeaderBytes: 32 << 10, HeaderFields: 100, HeaderTime: headerTime, IdleTime: idleTime, MinRate: 256,
}

// Servers are the limits on the responses of servers, which commonly need larger heads.
var Servers = Limits{
	HeaderBytes: 64 << 10, HeaderFields: 256, HeaderTime: headerTime, IdleTime: idleTime,
}

// Or returns l with the values of d in its zero fields.
func (l Limits) Or(d Limits) Limits {
	or(&l.HeaderBytes, d.HeaderBytes)
	or(&l.HeaderFields, d.HeaderFields)
	or(&l.HeaderTime, d.HeaderTime)
	or(&l.IdleTime, d.IdleTime)
	or(&l.MinRate, d.MinRate)
	or(&l.Connections, d.Connections)
	or(&l.PerClient, d.PerClient)
	return l
}

func or[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}
