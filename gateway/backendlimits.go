package gateway

import (
	"mpgate/config"
	"mpgate/proxy/backend"
)

// retryCauses are the causes of package backend by their names in the configuration.
var retryCauses = map[config.RetryCause]backend.Cause{
	config.RetryConnect: backend.OnConnect, config.RetryReset: backend.OnReset, config.RetryTimeout: backend.OnTimeout,
	config.Retry429: backend.On429, config.Retry500: backend.On500,
	config.Retry502: backend.On502, config.Retry503: backend.On503, config.Retry504: backend.On504,
}

// retryRules returns the rules of a backend or a route; nil: the route has none.
func retryRules(r *config.Retry) *backend.Retry {
	if r == nil {
		return nil
	}
	rules := &backend.Retry{
		Tries: r.Tries, AnyMethod: r.Methods == config.RetryAll, Body: r.Body, TryTimeout: r.TryTimeout, Budget: r.Budget.Ratio(),
	}
	for _, c := range r.On {
		rules.On |= retryCauses[c]
	}
	return rules
}

// setLimits sets when requests to a backend are sent again, how many of them wait, and how long its
// connections are kept.
func setLimits(o *backend.Options, b *config.Backend) {
	o.Retry = retryRules(&b.Retry)
	if h := b.Hedge; h != nil {
		o.Hedge = &backend.Hedge{After: h.After.Time, Quantile: float64(h.After.Percent) / 100, Budget: h.Budget.Ratio()}
	}
	o.MaxConnections = b.MaxConnections
	if b.Queue != nil {
		o.Queue = backend.Queue{Requests: b.Queue.Requests, Time: b.Queue.Time}
	}
	o.Keep = backend.Keep{Idle: b.Keep.Idle, Requests: b.Keep.Requests, Age: b.Keep.Age}
	if b.Keep.Idle == 0 {
		o.Keep.Idle = -1 // none, not the default
	}
}
