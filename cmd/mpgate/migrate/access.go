package migrate

import (
	"net/netip"
	"slices"
	"strings"

	"mpgate/internal/nginxconf"
)

// close makes a route answer 403 because a restriction could not be translated.
func (c *content) close(d *nginxconf.Directive, format string, args ...any) {
	c.t.say(d, format+"; the route answers 403 until you replace that", args...)
	c.t.shut(c.route, d)
}

// shut replaces what a route does by the answer 403.
func (t *translator) shut(r *table, d *nginxconf.Directive) {
	r.keys = slices.DeleteFunc(r.keys, func(e entry) bool { return e.name != "name" && e.name != "match" })
	r.child("answer", d).set("status", 403, d)
	t.closed[r] = true
}

// guard notes what restricts a route.
func (c *content) guard(d *nginxconf.Directive) {
	if c.t.guards[c.route] == nil {
		c.t.guards[c.route] = d
	}
}

// access translates allow and deny, of which nginx takes the first that matches.
func (c *content) access() {
	rules := c.scope.inherited("allow", "deny")
	if len(rules) == 0 {
		return
	}
	var allow, deny []string
	for i, d := range rules {
		a := d.Arg(0)
		switch {
		case a == "all" && d.Name == "allow":
			rules = rules[:i]
		case a == "all":
			if len(allow) == 0 {
				c.close(d, "denies all other clients, and no allow comes before it")
				return
			}
			c.admit(allow, deny, d)
			return
		case a == "unix:" || !isNetwork(a):
			c.close(d, "%q is not a network", a)
			return
		case d.Name == "allow":
			allow = append(allow, a)
		default:
			if len(allow) > 0 {
				c.close(d, "a deny after an allow is an exception, which mpgate has not: in it deny comes before allow")
				return
			}
			deny = append(deny, a)
		}
		if i >= len(rules) {
			break
		}
	}
	if len(deny) > 0 {
		c.admit(nil, deny, rules[0])
	}
}

func (c *content) admit(allow, deny []string, d *nginxconf.Directive) {
	c.guard(d)
	if satisfy := c.scope.one("satisfy"); satisfy != nil && satisfy.Arg(0) == "any" {
		c.t.say(satisfy, "left out: mpgate requires both: the address and the password")
	}
	if len(allow) > 0 {
		c.route.set("allow", all(allow), d)
	}
	if len(deny) > 0 {
		c.route.set("deny", all(deny), d)
	}
}

func isNetwork(s string) bool {
	_, notPrefix := netip.ParsePrefix(s)
	_, notAddress := netip.ParseAddr(s)
	return notPrefix == nil || notAddress == nil
}

func (c *content) basicAuth() {
	d, file := c.scope.one("auth_basic"), c.scope.one("auth_basic_user_file")
	if jwt := c.scope.inherited("auth_jwt"); len(jwt) > 0 && jwt[0].Arg(0) != "off" && !c.t.closed[c.route] {
		c.close(jwt[0], `left out: write jwt = { jwks = "https://…" }`)
		return
	}
	if d == nil || d.Arg(0) == "off" || c.t.closed[c.route] {
		return
	}
	if file == nil || strings.Contains(file.Arg(0), "$") {
		c.close(d, "left out: there is no file with the users")
		return
	}
	auth := &table{}
	auth.set("users", c.t.path(file.Arg(0)), file)
	if realm, ok := constant(d.Arg(0), c.scope); ok {
		auth.set("realm", realm, d)
	}
	c.guard(d)
	c.route.set("basic_auth", auth, d)
	c.t.say(file, "mpgate reads hashes of bcrypt and argon2id (htpasswd -B; mpgate hash-password); replace other hashes")
}

// forwardAuth translates auth_request, whose location is one of this server.
func (c *content) forwardAuth() {
	d := c.scope.one("auth_request")
	if d == nil || d.Arg(0) == "off" || c.t.closed[c.route] {
		return
	}
	i := slices.IndexFunc(c.site.locations, func(l *location) bool {
		return l.pattern == d.Arg(0) && l.kind != "~"
	})
	if i < 0 {
		c.close(d, "left out: there is no location %s", d.Arg(0))
		return
	}
	sc := c.site.locations[i].scope
	pass := sc.first("proxy_pass")
	if pass == nil {
		c.close(d, "left out: the location %s has no proxy_pass", d.Arg(0))
		return
	}
	url, ok := constant(pass.Arg(0), sc)
	scheme, rest, _ := strings.Cut(url, "://")
	authority, uri := splitURL(rest)
	if !ok || authority == "" || strings.HasPrefix(authority, "unix:") {
		c.close(d, "left out: mpgate needs a fixed URL to ask")
		return
	}
	auth := &table{}
	if uri == "" {
		uri = d.Arg(0)
	}
	if up := c.t.upstreams[authority]; up != nil {
		b := &table{}
		c.t.transport(b, sc, scheme == "https", pass)
		c.t.upstream(b, up, sc)
		auth.set("backend", c.t.backend(authority, b), pass)
		auth.set("path", uri, pass)
	} else {
		auth.set("url", scheme+"://"+authority+uri, pass)
	}
	if copied := c.copied(); len(copied) > 0 {
		auth.set("copy", all(copied), d)
	}
	c.guard(d)
	c.route.set("forward_auth", auth, d)
	for _, h := range sc.here("proxy_set_header") {
		if name := strings.ToLower(h.Arg(0)); name != "content-length" && !c.sentAnyway(name, h.Arg(1)) {
			c.t.say(h, "left out: forward_auth sends method, host and URI in X-Forwarded-Method, X-Forwarded-Host and X-Forwarded-Uri")
		}
	}
	for _, p := range c.scope.inherited("error_page") {
		if p.Arg(0) == "401" {
			c.t.say(p, "left out: the answer of the authentication server (401, or a redirect) goes to the client as it is")
		}
	}
}

// copied returns the header fields of the authentication server's answer that requests get.
func (c *content) copied() (names []string) {
	for _, set := range c.scope.inherited("auth_request_set") {
		field, ok := strings.CutPrefix(set.Arg(1), "$upstream_http_")
		if !ok {
			c.t.say(set, "left out: forward_auth copies header fields only")
			continue
		}
		for _, h := range c.headers.inherited("proxy_set_header") {
			if h.Arg(1) != set.Arg(0) {
				continue
			}
			c.t.done[h] = true
			if names = append(names, fieldName(field)); !strings.EqualFold(h.Arg(0), fieldName(field)) {
				c.t.say(h, "the field is copied under the name that the authentication server gives it, %s", fieldName(field))
			}
		}
	}
	return names
}

// asks reports whether a location of the site asks the one with this pattern by auth_request.
func (s *site) asks(pattern string) bool {
	asks := func(d *nginxconf.Directive) bool { return d.Arg(0) == pattern }
	return slices.ContainsFunc(s.scope.inherited("auth_request"), asks) ||
		slices.ContainsFunc(s.locations, func(l *location) bool { return slices.ContainsFunc(l.scope.here("auth_request"), asks) })
}
