package proxy

import (
	"bytes"
	"errors"

	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/proxy/route"
	"mpgate/proxy/target"
	"mpgate/telemetry"
)

// steps may end an exchange before the action of its route, in this order. Each answers and returns
// true, or returns false. Explain runs the same steps.
var steps = [...]struct {
	name string
	ends func(*exchange) bool
}{
	{"request", (*exchange).unreadable},
	{"tls policy", (*exchange).misdirected},
	{"acme challenge", (*exchange).challenge},
	{"health_path", (*exchange).health},
	{"redirect_https", (*exchange).redirectHTTPS},
	{"route", (*exchange).unrouted},
	{"path", (*exchange).pathRefused},
	{"filter", (*exchange).filtered},
}

// step runs the steps and returns the name of the one that ended the exchange, "" if none did.
func (x *exchange) step() (name string) {
	for i := range steps {
		if steps[i].ends(x) {
			return steps[i].name
		}
	}
	return ""
}

// unreadable answers a head that was not a request.
func (x *exchange) unreadable() bool {
	if x.fault == nil {
		return false
	}
	x.refused = true
	var fault *message.Error
	if errors.As(x.fault, &fault) {
		x.answer(requestAnswer(fault))
		return true
	}
	x.rec.End = clientEnd(x.fault)
	x.down.SetClose()
	return true
}

// misdirected refuses a request whose host has another TLS policy than its connection, or whose
// policy no longer exists: the checks of the handshake do not apply to it (RFC 9110 section
// 15.5.20).
func (x *exchange) misdirected() bool {
	s, policies := x.client.tls, x.view.TLS
	if s == nil && policies == nil {
		return false
	}
	if s == nil { // a reload has added TLS to the listener since this connection was accepted
		x.down.SetClose()
		x.answer(errorAnswer(421, telemetry.EndMisdirected, "this port requires TLS; use https"))
		return true
	}
	if policies == nil { // a plain listener accepts at least the clients of a TLS one
		x.down.SetClose()
		return false
	}
	if policies.Has(s.policy) && (policies.Single() || policies.PolicyFor(x.req.Host) == s.policy) {
		return false
	}
	if !policies.Has(s.policy) {
		x.down.SetClose()
	}
	x.answer(errorAnswer(421, telemetry.EndMisdirected, "this host is not served on this connection"))
	return true
}

// challenge answers a CA that validates a name (RFC 8555 section 8.3). An unknown challenge is an
// ordinary request.
func (x *exchange) challenge() bool {
	if x.view.Challenge == nil || !bytes.HasPrefix(x.req.Path, challengePath) || string(x.req.Method) != "GET" {
		return false
	}
	body, ours := x.view.Challenge(x.req.Host, x.req.Path)
	if ours {
		x.answer(filter.Answer{Status: 200, End: telemetry.EndOK, Body: []byte(body), Type: "text/plain"})
	}
	return ours
}

var challengePath = []byte("/.well-known/acme-challenge/")

// health answers the listener's health path.
func (x *exchange) health() bool {
	if x.view.HealthPath == "" || string(x.req.Path) != x.view.HealthPath {
		return false
	}
	if x.proxy.draining.Load() || x.proxy.options.Ready != nil && !x.proxy.options.Ready() {
		x.answer(errorAnswer(503, telemetry.EndOK, "not ready"))
	} else {
		x.answer(errorAnswer(200, telemetry.EndOK, "ready"))
	}
	return true
}

// redirectHTTPS sends the client to the same target by https, on the default port.
func (x *exchange) redirectHTTPS() bool {
	if !x.view.RedirectHTTPS || x.client.tls != nil {
		return false
	}
	if len(x.req.Host) == 0 {
		x.answer(errorAnswer(400, telemetry.EndBadRequest, "a request without Host cannot be redirected to https"))
		return true
	}
	location := append(append(x.scratch[:0], "https://"...), x.req.Host...)
	if string(x.req.Path) != "*" {
		path := x.req.Path
		if kept, ok := target.KeepSlashes(x.req.RawPath, path, &x.req.Scratch); ok {
			path = kept // they matter if the route of the https listener says so
		}
		location = append(location, path...)
	}
	if x.req.HasQuery {
		location = append(append(location, '?'), x.req.Query...)
	}
	x.scratch = location
	x.redirect(308, "use https", location)
	return true
}

// unrouted answers a request that no route matches. From here on, the filters of the route see the
// response.
func (x *exchange) unrouted() bool {
	if x.route == nil {
		x.answer(errorAnswer(404, telemetry.EndNoRoute, "nothing is served here"))
		return true
	}
	x.chain = &x.route.Filters
	return false
}

// pathRefused refuses paths that a server might interpret as paths of another route.
func (x *exchange) pathRefused() bool {
	if x.req.EncodedSlash && !x.route.KeepEncodedSlash {
		x.answer(errorAnswer(400, telemetry.EndBadRequest, "the path contains an encoded slash"))
		return true
	}
	if x.req.Ambiguous {
		why := x.view.Routes.table.Misread(&x.asked)
		if why != route.AsRead {
			x.answer(errorAnswer(400, telemetry.EndBadRequest, why.Fault()))
			return true
		}
	}
	if x.req.RawPath != nil && x.route.KeepSlashes {
		path, ok := target.KeepSlashes(x.req.RawPath, x.req.Path, &x.req.Scratch)
		if !ok {
			x.answer(errorAnswer(400, telemetry.EndBadRequest, "the path matches another route once its slashes are merged"))
			return true
		}
		x.req.Path = path
	}
	return false
}

// filtered runs the filters of the route, after the fields about the origin of the request are set.
func (x *exchange) filtered() bool {
	x.setForwarded()
	f := &x.filter
	f.Matched = x.target()
	f.Match = &x.matched
	f.Context, f.Client = x.proxy.ctx, x
	if x.rec.Filter = x.chain.Request(f); x.rec.Filter == "" {
		return false
	}
	x.answer(f.Answer)
	return true
}

// target is the target of the request as it is now.
func (x *exchange) target() filter.Target {
	r := &x.req
	return filter.Target{Host: r.Host, Port: r.Port, Path: r.Path, Query: r.Query, HasQuery: r.HasQuery}
}
