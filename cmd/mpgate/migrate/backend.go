package migrate

import (
	"net"
	"path"
	"slices"
	"strconv"
	"strings"

	"mpgate/internal/nginxconf"
)

// proxy translates proxy_pass.
func (c *content) proxy(sc *scope, d *nginxconf.Directive) {
	to := d.Arg(0)
	uriless := false
	for _, suffix := range []string{"$request_uri", "$uri$is_args$args"} {
		if cut, ok := strings.CutSuffix(to, suffix); ok {
			to, uriless = cut, true
		}
	}
	url, ok := constant(to, sc)
	if !ok && c.splits(sc, d, to) {
		c.rewrites(sc)
		return
	}
	var groups string // a path of the request, at a server that is not of the request
	if !ok && c.location.regex != "" {
		var base string
		base, groups = splitPath(to)
		url, ok = constant(base, sc)
	}
	if base, uri := splitPath(to); !ok && uri != "" {
		if _, known := constant(base, sc); known {
			c.t.say(d, "left out: write a route with match.path_regex and, for the path, rewrite = \"/{1}\". The route answers 501")
			c.answer(501, d)
			return
		}
	}
	if !ok {
		c.t.say(d, "left out: the server is taken from the request, which mpgate does not do; write a route with a backend for each server. The route answers 501")
		c.answer(501, d)
		return
	}
	scheme, rest, _ := strings.Cut(url, "://")
	authority, uri := splitURL(rest)
	if authority == "" || scheme != "http" && scheme != "https" {
		c.t.say(d, "left out: %q is not a URL of http or https; the route answers 501", to)
		c.answer(501, d)
		return
	}
	b := &table{}
	c.t.transport(b, sc, scheme == "https", d)
	if !c.pool(b, authority, sc, d, scheme == "https") {
		return
	}
	switch {
	case groups != "":
		c.rewriteByGroups(groups, sc, d)
	case uri != "" && !uriless:
		c.rewriteTo(uri, d, strings.Contains(to, "$"))
	}
	c.rewrites(sc)
}

// splitPath splits a URL before its path.
func splitPath(url string) (base, uri string) {
	if i := strings.Index(url, "://"); i >= 0 {
		if j := strings.IndexByte(url[i+3:], '/'); j >= 0 {
			return url[:i+3+j], url[i+3+j:]
		}
	}
	return url, ""
}

// rewriteByGroups sets the path of a proxy_pass with variables in a location with an expression.
func (c *content) rewriteByGroups(uri string, sc *scope, d *nginxconf.Directive) {
	for _, query := range []string{"$is_args$args", "?$args", "?$query_string"} {
		uri = strings.TrimSuffix(uri, query)
	}
	value, why := template(uri, sc)
	if strings.Contains(uri, "?") {
		why = "a rewrite is of the path only"
	}
	if why != "" {
		c.t.say(d, "%s: left out: %s", uri, why)
		return
	}
	c.route.set("rewrite", value, d)
}

// grpc translates grpc_pass.
func (c *content) grpc(sc *scope, d *nginxconf.Directive) {
	url, ok := constant(d.Arg(0), sc)
	scheme, authority, cut := strings.Cut(url, "://")
	if !cut {
		scheme, authority = "grpc", url
	}
	if !ok || authority == "" {
		c.t.say(d, "left out: the server is taken from the request, which mpgate does not do; the route answers 501")
		c.answer(501, d)
		return
	}
	b := &table{}
	if b.set("protocol", "h2c", d); scheme == "grpcs" {
		b.set("protocol", "h2", d)
	}
	c.t.transport(b, sc, scheme == "grpcs", d)
	c.pool(b, authority, sc, d, scheme == "grpcs")
}

// splitURL splits what follows the scheme into the authority and the path.
func splitURL(s string) (authority, uri string) {
	if p, ok := strings.CutPrefix(s, "unix:"); ok {
		sock, uri, _ := strings.Cut(p, ":")
		return "unix:" + sock, uri
	}
	i := strings.IndexAny(s, "/?")
	if i < 0 {
		return s, ""
	}
	return s[:i], s[i:]
}

// pool completes a backend by its servers, and names it in the route.
func (c *content) pool(b *table, authority string, sc *scope, d *nginxconf.Directive, secure bool) bool {
	c.upstream = authority
	label := authority
	if up := c.t.upstreams[authority]; up != nil {
		c.t.upstream(b, up, sc)
	} else {
		b.set("servers", []any{newServer(serverAddress(authority, secure), d)}, d)
		if host, _, err := net.SplitHostPort(authority); err == nil && strings.Trim(host, "0123456789.:") != "" && host != "localhost" {
			label = host
		} else if port := authority[strings.LastIndexByte(authority, ':')+1:]; err == nil && (host == "localhost" || strings.HasPrefix(host, "127.")) {
			label = "local-" + port
		}
	}
	if servers, _ := b.get("servers").([]any); len(servers) == 0 {
		c.t.say(d, "left out: the upstream %q has no server; the route answers 503", authority)
		c.answer(503, d)
		return false
	}
	c.route.set("backend", c.t.backend(label, b), d)
	return true
}

func newServer(address string, d *nginxconf.Directive) *table {
	s := &table{}
	s.set("address", address, d)
	return s
}

// serverAddress adds the port.
func serverAddress(a string, secure bool) string {
	if strings.HasPrefix(a, "unix:") {
		return a
	}
	if _, _, err := net.SplitHostPort(a); err == nil {
		return a
	}
	port := "80"
	if secure {
		port = "443"
	}
	return net.JoinHostPort(strings.Trim(a, "[]"), port)
}

// backend returns the name of a backend with these keys, which it adds if there is none.
func (t *translator) backend(label string, b *table) string {
	for _, old := range t.backends {
		if inline(&table{keys: old.keys[1:]}) == inline(b) {
			return old.text("name")
		}
	}
	name := t.name("backend", strings.TrimPrefix(label, "unix:"))
	b.keys = slices.Insert(b.keys, 0, entry{"name", name, nil})
	t.backends = append(t.backends, b)
	return name
}

// transport writes timeouts and TLS of a backend.
func (t *translator) transport(b *table, sc *scope, secure bool, d *nginxconf.Directive) {
	prefix := "proxy_"
	if d.Name == "grpc_pass" {
		prefix = "grpc_"
	}
	for _, k := range []struct{ from, to, def string }{
		{"connect_timeout", "connect_timeout", "5s"}, {"read_timeout", "response_timeout", "60s"}, {"read_timeout", "idle_timeout", "60s"},
	} {
		from := sc.one(prefix + k.from)
		if from == nil {
			continue
		}
		if v, ok := duration(from.Arg(0)); ok && v != k.def && v != "0s" && !(v == "1m" && k.def == "60s") {
			b.set(k.to, v, from)
		}
	}
	if bind := sc.one(prefix + "bind"); bind != nil && net.ParseIP(bind.Arg(0)) != nil {
		b.set("source", bind.Arg(0), bind)
	}
	if !secure {
		return
	}
	tls := b.child("tls", d)
	if verify := sc.one(prefix + "ssl_verify"); verify == nil || verify.Arg(0) != "on" {
		tls.set("verify", false, d)
		t.say(d, "nginx does not verify the server's certificate, so that tls.verify is false here; better remove it, and name the CA as tls.ca")
	} else if ca := sc.one(prefix + "ssl_trusted_certificate"); ca != nil {
		tls.set("ca", t.path(ca.Arg(0)), ca)
	}
	if n := sc.one(prefix + "ssl_name"); n != nil {
		if name, ok := constant(n.Arg(0), sc); ok {
			tls.set("server_name", name, n)
		} else {
			t.say(n, "left out: the name for TLS has no variables here; it is the host of the server's address")
		}
	}
	cert, key := sc.one(prefix+"ssl_certificate"), sc.one(prefix+"ssl_certificate_key")
	if cert != nil && key != nil {
		tls.set("cert", t.path(cert.Arg(0)), cert)
		tls.set("key", t.path(key.Arg(0)), key)
	}
}

// upstream writes balance and servers.
func (t *translator) upstream(b *table, up *nginxconf.Directive, sc *scope) {
	secure := b.get("tls") != nil
	var servers []any
	for _, d := range up.Block {
		switch d.Name {
		case "server":
			if s := t.upstreamServer(b, d, secure); s != nil {
				servers = append(servers, s)
			}
		case "least_conn", "random":
			b.set("balance", "least", d)
		case "least_time":
			b.set("balance", "latency", d)
		case "ip_hash":
			b.set("balance", "hash", d)
			b.set("hash", "{client}", d)
		case "hash":
			if v, why := template(d.Arg(0), sc); why == "" {
				b.set("balance", "hash", d)
				b.set("hash", v, d)
			} else {
				t.say(d, "left out: %s", why)
			}
		case "sticky":
			t.sticky(b, d)
		case "keepalive", "zone", "ntlm", "keepalive_timeout", "keepalive_requests", "keepalive_time", "resolver", "resolver_timeout":
			// mpgate keeps connections, tells NTLM, and resolves names, by itself.
		case "queue":
			t.queue(b, d)
		default:
			t.say(d, "left out: mpgate has nothing like it")
		}
		t.done[d] = true
	}
	if d := sc.one("proxy_next_upstream"); d != nil && d.Arg(0) != "off" && len(servers) > 1 {
		t.retry(b, d, sc)
	}
	b.set("servers", servers, up)
}

// upstreamServer translates one server; nil if it gets no requests.
func (t *translator) upstreamServer(b *table, d *nginxconf.Directive, secure bool) *table {
	s := newServer(serverAddress(d.Arg(0), secure), d)
	for _, a := range d.Args[min(1, len(d.Args)):] {
		name, value, _ := strings.Cut(a, "=")
		n, _ := strconv.Atoi(value)
		switch name {
		case "weight":
			if n != 1 {
				s.set("weight", n, d)
			}
		case "backup":
			s.set("backup", true, d)
		case "down":
			s.set("weight", 0, d)
		case "max_conns":
			if n > 0 {
				s.set("max_requests", n, d)
				t.sayOf(d, name, "it is max_requests = %d here, for all of mpgate: nginx counts for each worker process, unless the upstream has a zone", n)
			} else if value != "0" {
				t.sayOf(d, name, "left out: %q is not a number", value)
			}
		case "max_fails":
			if n > 1 {
				b.child("eject", d).set("errors", n, d)
			}
		case "fail_timeout":
			if v, ok := duration(value); ok && v != "10s" && v != "0s" {
				b.child("eject", d).set("rest", v, d)
			}
		case "slow_start":
			if v, ok := duration(value); ok && v != "0s" {
				b.set("slow_start", v, d)
			}
		case "resolve":
			// names are resolved again by themselves
		case "service":
			t.say(d, "left out: write { srv = … } for SRV records")
			return nil
		default:
			t.say(d, "%s: left out: mpgate has nothing like it", a)
		}
	}
	return s
}

// queue translates the queue of an upstream, whose servers have max_conns.
func (t *translator) queue(b *table, d *nginxconf.Directive) {
	q := b.child("queue", d)
	if n, _ := strconv.Atoi(d.Arg(0)); n > 0 {
		q.set("requests", n, d)
	}
	v, ok := duration(strings.TrimPrefix(d.Arg(1), "timeout="))
	if !ok {
		v = "60s" // nginx's default
	}
	q.set("time", v, d)
}

func (t *translator) sticky(b *table, d *nginxconf.Directive) {
	name := "srv"
	for _, a := range d.Args {
		if n, ok := strings.CutPrefix(a, "name="); ok {
			name = n
		}
	}
	if d.Arg(0) == "cookie" && len(d.Args) > 1 {
		name = d.Arg(1)
		for _, a := range d.Args[2:] {
			if a != "path=/" && !strings.EqualFold(a, "httponly") && !strings.EqualFold(a, "samesite=lax") {
				t.say(d, "%s: left out: the cookie lasts as long as the browser's session, and has Path=/, HttpOnly, SameSite=Lax and, over TLS, Secure", a)
			}
		}
	}
	b.child("sticky", d).set("cookie", name, d)
}

// retry translates proxy_next_upstream where it asks for more than the default.
func (t *translator) retry(b *table, d *nginxconf.Directive, sc *scope) {
	var on []string
	anyMethod := false
	for _, a := range d.Args {
		v, ok := map[string]string{"error": "connect", "timeout": "timeout", "http_429": "429", "http_500": "500", "http_502": "502", "http_503": "503", "http_504": "504"}[a]
		switch {
		case ok:
			if on = append(on, v); v == "connect" {
				on = append(on, "reset")
			}
		case a == "non_idempotent":
			anyMethod = true
		default:
			t.say(d, "%s: left out: mpgate does not try again for it", a)
		}
	}
	if anyMethod || slices.ContainsFunc(on, func(s string) bool { return s[0] == '4' || s[0] == '5' }) {
		r := b.child("retry", d)
		r.set("on", all(on), d)
		if anyMethod {
			r.set("methods", "all", d)
		}
		if n, _ := strconv.Atoi(sc.arg("proxy_next_upstream_tries")); n > 0 {
			r.set("tries", min(n, 10), sc.one("proxy_next_upstream_tries"))
		}
	}
}

// rewriteTo writes the rewrite that the path of proxy_pass asks for.
func (c *content) rewriteTo(uri string, d *nginxconf.Directive, variable bool) {
	if i := strings.IndexByte(uri, '?'); i >= 0 {
		c.t.say(d, "%s: left out: a rewrite is of the path only", uri[i:])
		uri = uri[:i]
	}
	slash := strings.HasSuffix(uri, "/")
	if uri = path.Clean("/" + uri); slash && uri != "/" {
		uri += "/"
	}
	switch {
	case c.location.kind == "=" || variable:
		c.route.set("rewrite", uri, d)
	case c.location.regex != "" || c.location.kind == "~":
		c.t.say(d, "%s: left out: the location has an expression", uri)
	case c.location.pattern == "" || uri == c.location.pattern || uri == "/" && c.location.pattern == "/":
	case len(c.location.paths) == 1 && !strings.Contains(c.location.paths[0], "*"):
		c.route.set("rewrite", strings.TrimSuffix(uri, "/"), d)
	default:
		c.route.set("rewrite", strings.TrimSuffix(uri, "/")+"/*", d)
	}
}

// below returns what the path of the location has beyond the prefix that an expression matches;
// within is false if the location is not below it.
func (c *content) below(globs []string) (rest string, within bool) {
	if len(globs) != 1 || len(c.location.paths) != 1 || c.location.regex != "" {
		return "", false
	}
	prefix, ok := strings.CutSuffix(globs[0], "/*")
	p, isPrefix := strings.CutSuffix(c.location.paths[0], "/*")
	if !ok || !isPrefix || strings.Contains(prefix, "*") || p != prefix && !strings.HasPrefix(p, prefix+"/") {
		return "", false
	}
	return p[len(prefix):], true
}

// rewrites translates rewrite … break beside proxy_pass.
func (c *content) rewrites(sc *scope) {
	for _, d := range sc.here("rewrite") {
		from, to := d.Arg(0), d.Arg(1)
		re, err := parseExpression(from, false)
		if err != nil || strings.HasPrefix(to, "http") {
			continue // redirected has a message about it
		}
		target, captures := strings.CutSuffix(to, "$1")
		captures = captures && !strings.Contains(target, "$")
		below, within := c.below(globs(re))
		switch {
		case captures && within && !matchesAll(from):
			c.route.set("rewrite", path.Join("/", target, below)+"*", d)
			if rewrite := path.Join("/", target, below); rewrite != "/" {
				c.route.set("rewrite", rewrite+"/*", d)
			}
		case captures && matchesAll(from) && c.location.pattern != "" && len(c.location.paths) == 1 && c.location.regex == "":
			added := strings.TrimSuffix(target, "/") + strings.TrimSuffix(c.location.pattern, "/")
			c.route.set("rewrite", added+"/*", d)
		case !strings.Contains(to, "$") && !strings.Contains(to, "?") && strings.HasPrefix(to, "/") && c.location.kind == "=":
			c.route.set("rewrite", to, d)
		default:
			value, why := template(strings.TrimSuffix(to, "?"), sc)
			if c.location.regex != from || why != "" {
				c.t.say(d, "left out: write a route with match.path_regex = '%s' and rewrite = %s for it", from, inline(strings.NewReplacer("$1", "{1}", "$2", "{2}").Replace(to)))
				continue
			}
			c.route.set("rewrite", value, d)
		}
	}
}
