package config

import (
	"slices"
	"time"
)

// Retry says when a request is sent to a server again.
type Retry struct {
	Tries   int          `toml:"tries" default:"3" min:"1" max:"10" help:"Maximum number of tries of a request; 1: it is not sent again."`
	On      []RetryCause `toml:"on" default:"connect,reset" help:"Failures after which a request is sent again."`
	Methods RetryMethods `toml:"methods" default:"idempotent" help:"Which requests may be sent again after a server may have processed them."`
	Body    int          `toml:"body" as:"size" default:"64KiB" min:"0" max:"64KiB" help:"Longest body of a request that is sent again."`
	// TryTimeout is 0 for an equal part of the response timeout.
	TryTimeout time.Duration `toml:"try_timeout" min:"1ms" eg:"5s" help:"Time for each try until the head of the response; default: response_timeout divided by tries."`
	Budget     Percent       `toml:"budget" default:"20%" help:"Maximum of retries, as a share of the requests; 10 a second are always allowed."`
}

// RetryCause is a failure after which a request is sent again.
type RetryCause string

const (
	RetryConnect RetryCause = "connect"
	RetryReset   RetryCause = "reset"
	RetryTimeout RetryCause = "timeout"
	Retry429     RetryCause = "429"
	Retry500     RetryCause = "500"
	Retry502     RetryCause = "502"
	Retry503     RetryCause = "503"
	Retry504     RetryCause = "504"
)

// Values are the texts of all causes.
func (RetryCause) Values() []string {
	return texts(RetryConnect, RetryReset, RetryTimeout, Retry429, Retry500, Retry502, Retry503, Retry504)
}

// RetryMethods are the methods of requests that may be processed twice.
type RetryMethods string

const (
	RetryIdempotent RetryMethods = "idempotent" // RFC 9110 section 9.2.2
	RetryAll        RetryMethods = "all"
)

// Values are the texts of all values.
func (RetryMethods) Values() []string { return texts(RetryIdempotent, RetryAll) }

// Queue says how requests wait for a server that may take one more.
type Queue struct {
	Requests int           `toml:"requests" default:"100" min:"1" max:"1000000" help:"Maximum number of waiting requests."`
	Time     time.Duration `toml:"time" default:"5s" min:"1ms" help:"Longest wait of a request."`
}

// KeepConns says how long connections to servers are kept for further requests.
type KeepConns struct {
	Idle     int           `toml:"idle" default:"64" min:"0" max:"1024" help:"Idle connections to one server that are kept; further ones are closed after a second."`
	Requests int           `toml:"requests" default:"0" min:"0" max:"1000000000" help:"Maximum number of requests on one connection; 0 for no limit."`
	Age      time.Duration `toml:"age" default:"0s" min:"0s" help:"Longest time for which a connection gets requests; 0s for no limit."`
}

// checkRetry checks rules. timeout is the shortest response timeout to which they apply; 0: it is
// not known.
func (l *loader) checkRetry(r *Retry, timeout time.Duration, n *node) {
	switch limit := n.get("try_timeout"); {
	case !n.has("try_timeout") || n.unset("try_timeout", "on"):
	case !slices.Contains(r.On, RetryTimeout):
		l.fault(limit.at, `is for "timeout" in on, which is not there; add it, or leave this out`)
	case timeout > 0 && r.TryTimeout >= timeout:
		l.fault(limit.at, "is not shorter than response_timeout, which is %s%s; leave it out for a part of that", duration(timeout), limit.got())
	}
	if r.Tries == 1 && n.written("tries") && n.written("on") && len(r.On) > 0 {
		l.fault(n.get("on").at, "has no effect with tries = 1, which sends no request again; leave one of them out")
	}
}

// retries checks the rules of routes.
func (l *loader) retries(c *Config, t tables, backends names) {
	for i := range c.Routes {
		r, n := &c.Routes[i], t.routes[i].get("retry")
		if r.Retry == nil || r.Match.SNI != "" {
			continue
		}
		used := r.BackendNames()
		if len(used) == 0 && n.at.in == t.routes[i].at {
			l.fault(n.at, "is for requests that servers get, and the route has no backend; leave it out")
		}
		var shortest time.Duration
		for _, name := range used {
			if j, ok := backends.at[name]; ok && (shortest == 0 || c.Backends[j].ResponseTimeout < shortest) {
				shortest = c.Backends[j].ResponseTimeout
			}
		}
		l.checkRetry(r.Retry, shortest, n)
	}
}

// checkQueue reports a queue in which no request would ever wait. n is the table of the backend.
func (l *loader) checkQueue(b *Backend, n *node) {
	limited := b.MaxRequests > 0 || b.MaxConnections > 0 || n.unset("max_requests", "max_connections")
	for i, server := range n.get("servers").entries() {
		limited = limited || b.Servers[i].MaxRequests > 0 || server.unset("max_requests")
	}
	if b.Queue != nil && !limited {
		l.fault(n.get("queue").at, "has no effect without a limit; add for example max_requests = 100, or leave it out")
	}
}
