package proxy

import (
	"mpgate/proxy/route"
	"mpgate/proxy/target"
	"mpgate/telemetry"
)

// pathAllowed refuses paths that the server might take for those of another route.
func (x *exchange) pathAllowed() bool {
	if x.req.EncodedSlash && !x.route.KeepEncodedSlash {
		x.answer(outcome{status: 400, end: telemetry.EndBadRequest, text: "the path contains an encoded slash"})
		return false
	}
	if x.req.Ambiguous {
		why := x.view.Routes.table.Misread(x.req.Host, x.req.Path, x.conn.listener.name, &x.req.Scratch)
		if why != route.AsRead {
			x.answer(outcome{status: 400, end: telemetry.EndBadRequest, text: why.Fault()})
			return false
		}
	}
	if x.req.RawPath != nil && x.route.KeepSlashes {
		path, ok := target.KeepSlashes(x.req.RawPath, x.req.Path, &x.req.Scratch)
		if !ok {
			x.answer(outcome{status: 400, end: telemetry.EndBadRequest, text: "the path matches another route once its slashes are merged"})
			return false
		}
		x.req.Path = path
	}
	return true
}

// redirectHTTPS sends the client to the same target by https, on the default port.
func (x *exchange) redirectHTTPS() bool {
	if !x.view.RedirectHTTPS || x.conn.tls != nil {
		return false
	}
	if len(x.req.Host) == 0 {
		x.answer(outcome{status: 400, end: telemetry.EndBadRequest, text: "a request without Host cannot be redirected to https"})
		return true
	}
	x.location = append(append(x.location[:0], "https://"...), x.req.Host...)
	if string(x.req.Path) != "*" {
		path := x.req.Path
		if kept, ok := target.KeepSlashes(x.req.RawPath, path, &x.req.Scratch); ok {
			path = kept // whether they count is for the route over there to say
		}
		x.location = append(x.location, path...)
	}
	if x.req.HasQuery {
		x.location = append(append(x.location, '?'), x.req.Query...)
	}
	x.answer(outcome{status: 308, end: telemetry.EndOK, text: "use https"})
	return true
}
