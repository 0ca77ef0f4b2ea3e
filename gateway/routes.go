package gateway

import (
	"errors"
	"reflect"

	"mpgate/config"
	"mpgate/proxy"
	"mpgate/proxy/route"
	"mpgate/proxy/split"
	"mpgate/proxy/template"
)

// builder makes the routes of a generation.
type builder struct {
	*generation
	gateway *Gateway        // nil with explain
	old     *generation     // nil: none
	isTCP   map[string]bool // listeners by name
	explain bool            // for an Explainer: no file is opened
}

// build makes the table of routes, that of server names which are passed through, and that of TCP
// listeners.
func (b *builder) build() error {
	cfg := b.config
	b.isTCP = cfg.TCPListeners()
	var list, passed, tcp []proxy.Route
	var faults config.Errors
	for i := range cfg.Routes {
		r := &cfg.Routes[i]
		one, err := b.route(r)
		switch faults = appendFaults(faults, cfg, "route."+r.Name, err); {
		case b.isTCP[r.Match.Listener]:
			tcp = append(tcp, one)
		case r.Match.SNI == "":
			list = append(list, one)
		default:
			b.passedAt[r.Match.Listener] = true
			passed = append(passed, one)
		}
	}
	if faults != nil {
		return faults
	}
	var err error
	if b.routes, err = proxy.NewRoutes(list); err != nil {
		return routeFault(cfg, err)
	}
	if len(passed) > 0 {
		if b.passed, err = proxy.NewPassthroughs(passed); err != nil {
			return routeFault(cfg, err)
		}
	}
	if len(tcp) > 0 {
		if b.tcp, err = proxy.NewPassthroughs(tcp); err != nil {
			return routeFault(cfg, err)
		}
	}
	return nil
}

func (b *builder) route(r *config.Route) (one proxy.Route, err error) {
	one = proxy.Route{
		Name: r.Name, Match: r.Match.Rule(),
		KeepEncodedSlash: r.EncodedSlash == config.Keep, KeepSlashes: r.DuplicateSlashes == config.Keep,
		Internal: r.Internal, AccelRedirect: r.AccelRedirect,
		KeepUnsafeNames: r.UnsafeHeaderNames == config.Keep, Logged: r.Logged,
	}
	if one.Action, one.Lease, err = b.action(r); err == nil {
		one.Filters, err = b.chain(r)
	}
	return one, err
}

// action makes what answers the requests of a route, and the lease of the exchanges on it.
func (b *builder) action(r *config.Route) (proxy.Action, *proxy.Lease, error) {
	switch {
	case r.Files != nil:
		a, err := b.filesAction(r)
		return a, b.lease(r, r.Backend()), err
	case r.Redirect != nil:
		return &proxy.Redirect{To: r.Redirect.To, Status: r.Redirect.Status}, b.lease(r, ""), nil
	case r.Answer != nil:
		a := r.Answer
		body, mediaType, err := b.content("answer.file", a.File, a.Text, a.Type)
		return &proxy.Fixed{
			Status: a.Status, Body: body, Type: mediaType, RetryAfter: a.RetryAfter, AnyMethod: len(r.Match.Methods) > 0,
		}, b.lease(r, ""), err
	}
	if name := r.Backend(); name != "" {
		return b.forward(r, name), b.lease(r, name), nil
	}
	s := &proxy.Split{By: r.SplitBy}
	var weights []split.Choice
	for _, name := range r.BackendNames() {
		s.Choices = append(s.Choices, proxy.Choice{Action: b.forward(r, name), Lease: b.lease(r, name)})
		weights = append(weights, split.Choice{Name: name, Weight: float64(r.Backends[name])})
	}
	var err error
	s.Weights, err = split.New(weights)
	return s, nil, err
}

// forward makes the action that forwards to a backend.
func (b *builder) forward(r *config.Route, backend string) proxy.Action {
	p := b.backends[backend]
	if r.Match.SNI != "" || b.isTCP[r.Match.Listener] {
		return &proxy.TCP{Backend: p.Backend, Key: p.options.Hash}
	}
	return &proxy.Forward{Backend: p.Backend, Key: p.options.Hash, Retry: retryRules(r.Retry)}
}

func routeFault(cfg *config.Config, err error) error {
	var dead *route.UnreachableError
	if errors.As(err, &dead) {
		return placed(cfg, "route."+dead.Name, err)
	}
	var tie *route.TieError
	if errors.As(err, &tie) {
		return placed(cfg, "route."+tie.Second, err)
	}
	return placed(cfg, "route", err)
}

// lease returns the old lease of a route and a backend of it if both are unchanged, otherwise a new
// one. A route that answers itself has the backend "".
func (b *builder) lease(r *config.Route, backend string) *proxy.Lease {
	l := lease{Lease: new(proxy.Lease), route: *r, pool: b.backends[backend]}
	l.route.Backends, l.route.SplitBy = nil, template.Template{}
	key := leaseKey{r.Name, backend}
	if b.old != nil {
		if o, ok := b.old.leases[key]; ok && reflect.DeepEqual(o.route, l.route) && o.pool == l.pool {
			l.Lease = o.Lease
		}
	}
	b.leases[key] = l
	return l.Lease
}
