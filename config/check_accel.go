package config

// accel warns of internal routes, and of routes whose servers may redirect to them, if there are
// none of the other kind.
func (l *loader) accel(c *Config, t tables) {
	var internal, redirecting *node
	for i := range c.Routes {
		n := t.routes[i]
		if n.unset("internal", "accel_redirect") {
			return
		}
		if c.Routes[i].Internal && internal == nil {
			internal = n.get("internal")
		}
		if c.Routes[i].AccelRedirect && redirecting == nil {
			redirecting = n.get("accel_redirect")
		}
	}
	switch {
	case internal != nil && redirecting == nil:
		l.warn(internal.at, "is for redirects of servers, and no route follows them; add accel_redirect = true to the route of the server")
	case redirecting != nil && internal == nil:
		l.warn(redirecting.at, "follows redirects of servers to internal routes, and there is none; add a [[route]] with internal = true")
	}
}
