// Package load generates the requests: with wrk if it is installed, otherwise with a generator of
// its own. The latter is also used for what wrk cannot do: a fixed rate, idle connections, and
// large bodies (wrk does not count a body that is incomplete at the end of a round).
package load

import (
	"context"
	"net"
	"time"

	"mpgate/bench/figures"
	"mpgate/bench/result"
)

// Job is one stretch of load against one proxy.
type Job struct {
	Address     string        `json:"address"` // host:port
	TLS         bool          `json:"tls"`
	Body        int64         `json:"body"`
	Connections int           `json:"connections"`
	Streams     int           `json:"streams,omitempty"` // of each connection at once (HTTP/2)
	Threads     int           `json:"threads"`
	Duration    time.Duration `json:"duration"`
	Close       bool          `json:"close"` // one connection a request
	MPTCP       bool          `json:"mptcp"`
	Rate        float64       `json:"rate"` // requests a second in all; 0: as many as go

	Prefix  string        `json:"prefix,omitempty"`  // of the path
	Path    string        `json:"path,omitempty"`    // "": /bytes/N
	Fields  []string      `json:"fields,omitempty"`  // further ones of each request, "Name: value"
	Timeout time.Duration `json:"timeout,omitempty"` // of a request; 0: 10 s, as wrk is told
	// Hosts: each request is for one of r0.example … at random (builtin only).
	Hosts int `json:"hosts,omitempty"`
	// Paths: each request's path begins with one of /r0 … at random (builtin only).
	Paths int `json:"paths,omitempty"`
	// Warm: each connection is made, and one request on it answered, before the clock starts.
	Warm bool `json:"warm,omitempty"`
	// Begun is called once all is warm; the clock starts when it returns (builtin only, in this
	// process).
	Begun func() `json:"-"`
	// Dial makes the connections, if it is set (builtin only, in this process).
	Dial func(context.Context) (net.Conn, error) `json:"-"`
}

// Outcome is what the generator saw.
type Outcome struct {
	Requests int64         `json:"requests"`
	Bytes    int64         `json:"bytes"`
	Wall     time.Duration `json:"wall"`
	Errors   result.Errors `json:"errors"`
	// Missed counts requests that were due at a fixed rate and never sent, because their connection
	// waited for an answer.
	Missed  int64 `json:"missed"`
	Latency result.Latency
	// MPTCP counts connections that were MPTCP when they were last looked at, Opened all of them.
	// -1: this generator cannot say.
	MPTCP  int64 `json:"mptcp"`
	Opened int64 `json:"opened"`
}

func latency(h *figures.Histogram, curve bool) result.Latency {
	us := func(p float64) int64 { return h.Percentile(p).Microseconds() }
	l := result.Latency{P50: us(50), P90: us(90), P99: us(99), P999: us(99.9), Max: h.Max}
	if curve {
		for _, p := range []float64{0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 100} {
			l.Curve = append(l.Curve, [2]float64{p, float64(us(p))})
		}
	}
	return l
}
