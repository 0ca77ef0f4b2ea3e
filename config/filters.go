package config

// Filters are what a route does to its requests and responses on their way, in the order in which
// they act. Each key is nil or empty if the route has no such filter.
type Filters struct {
	BasicAuth   *BasicAuth   `toml:"basic_auth,inline" help:"Users with passwords, from an htpasswd file."`
	JWT         *JWT         `toml:"jwt,inline" help:"JSON Web Tokens, as OpenID Connect and OAuth use them."`
	ForwardAuth *ForwardAuth `toml:"forward_auth,inline" help:"Another server that decides on each request."`
}

// checkFilters reports keys of filters that do not fit together.
func (l *loader) checkFilters(f *Filters, n *node) {
	for _, key := range []string{"basic_auth", "jwt", "forward_auth"} {
		if n.keys[key] != nil && n.get("match").has("sni") {
			l.fault(n.get(key).at, "cannot act on connections that are passed through by sni; leave it out")
		}
	}
	if f.JWT != nil {
		l.checkJWT(f.JWT, n.get("jwt"))
	}
	if f.ForwardAuth != nil {
		l.checkForwardAuth(f.ForwardAuth, n.get("forward_auth"))
	}
}
