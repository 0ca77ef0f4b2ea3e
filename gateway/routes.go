package gateway

import (
	"errors"
	"reflect"

	"mpgate/config"
	"mpgate/proxy"
	"mpgate/proxy/route"
)

// builder makes the routes of a generation.
type builder struct {
	*generation
	gateway *Gateway    // nil with explain
	old     *generation // nil: none
	explain bool        // for an Explainer: no file is opened
}

// build makes the table of routes, that of server names which are passed through, and that of TCP
// listeners.
func (b *builder) build() error {
	cfg := b.config
	isTCP := cfg.TCPListeners()
	var list, passed, tcp []proxy.Route
	var faults config.Errors
	for i := range cfg.Routes {
		r := &cfg.Routes[i]
		one, err := b.route(r)
		switch faults = appendFaults(faults, cfg, "route."+r.Name, err); {
		case isTCP[r.Match.Listener]:
			one.Action = &proxy.TCP{Backend: b.backends[r.Backend].Backend}
			tcp = append(tcp, one)
		case r.Match.SNI == "":
			list = append(list, one)
		default:
			one.Action = &proxy.TCP{Backend: b.backends[r.Backend].Backend}
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
		Name: r.Name, Match: r.Match.Rule(), Lease: b.leaseOf(b.old, r),
		KeepEncodedSlash: r.EncodedSlash == config.Keep, KeepSlashes: r.DuplicateSlashes == config.Keep,
		KeepUnsafeNames: r.UnsafeHeaderNames == config.Keep,
	}
	if one.Action, err = b.action(r); err == nil {
		one.Filters, err = b.filters(r)
	}
	return one, err
}

// action makes what answers the requests of a route.
func (b *builder) action(r *config.Route) (proxy.Action, error) {
	switch {
	case r.Files != nil:
		return b.filesAction(r.Files)
	case r.Redirect != nil:
		return &proxy.Redirect{To: r.Redirect.To, Status: r.Redirect.Status}, nil
	case r.Answer != nil:
		a := r.Answer
		body, mediaType, err := b.content("answer.file", a.File, a.Text, a.Type)
		return &proxy.Fixed{
			Status: a.Status, Body: body, Type: mediaType, RetryAfter: a.RetryAfter, AnyMethod: len(r.Match.Methods) > 0,
		}, err
	}
	return &proxy.Forward{Backend: b.backends[r.Backend].Backend}, nil
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

// leaseOf returns the old lease of a route if the route and its backend are unchanged, otherwise a
// new one.
func (n *generation) leaseOf(old *generation, r *config.Route) *proxy.Lease {
	l := lease{Lease: new(proxy.Lease), route: *r, pool: n.backends[r.BackendName()]}
	if old != nil {
		if o, ok := old.leases[r.Name]; ok && reflect.DeepEqual(o.route, *r) && o.pool == l.pool {
			l.Lease = o.Lease
		}
	}
	n.leases[r.Name] = l
	return l.Lease
}
