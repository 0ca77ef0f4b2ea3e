package proxy

import (
	"time"

	"mpgate/proxy/http1"
	"mpgate/proxy/http2"
)

// Limits hold for the connections that are accepted while they are set. What is zero gets its
// default.
type Limits struct {
	HeaderBytes  int // of a request's head; 32 KiB
	HeaderFields int // 100
	// From a request's first byte, or the accept, to the end of its head; 10 s.
	HeaderTime time.Duration
	IdleTime   time.Duration // between requests, and the longest silence in a body; 60 s
	// Bytes a second of a body in transit, averaged over IdleTime; 256; below 0: none.
	MinRate   int64
	PerClient int // connections from one address (IPv6: one /64); 0 is no limit
}

// limits are those of a connection.
type limits struct {
	http      http1.ServerOptions
	http2     http2.ServerOptions
	perClient int
}

// SetLimits changes the limits for connections that are accepted from now on.
func (p *Proxy) SetLimits(l Limits) {
	setDefault(&l.HeaderBytes, 32<<10)
	setDefault(&l.HeaderFields, 100)
	setDefault(&l.HeaderTime, 10*time.Second)
	setDefault(&l.IdleTime, 60*time.Second)
	setDefault(&l.MinRate, 256)
	l.MinRate = max(0, l.MinRate)
	p.limits.Store(&limits{
		http2: http2.ServerOptions{
			Limits:     http2.Limits{HeaderBytes: l.HeaderBytes, HeaderFields: l.HeaderFields},
			HeaderTime: l.HeaderTime, IdleTime: l.IdleTime, MinRate: l.MinRate, Memory: &p.memory,
		},
		http: http1.ServerOptions{
			Limits:     http1.Limits{HeaderBytes: l.HeaderBytes, HeaderFields: l.HeaderFields},
			HeaderTime: l.HeaderTime, IdleTime: l.IdleTime, MinRate: l.MinRate,
		},
		perClient: l.PerClient,
	})
}

func setDefault[T int | int64 | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}
