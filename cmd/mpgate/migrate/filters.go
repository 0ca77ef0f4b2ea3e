package migrate

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"mpgate/internal/nginxconf"
)

// filter writes the filters of a route, in the order in which they act.
func (c *content) filter() {
	c.access()
	c.limit()
	c.basicAuth()
	c.forwardAuth()
	c.requestHeaders()
	c.responseHeaders()
	c.compress()
	c.errorPages()
	c.log()
}

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
	if len(rules) == 0 || c.route.get("answer") != nil && c.route.get("answer").(*table).get("status") == 403 {
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
		c.t.say(satisfy, "left out: mpgate demands all of them: the address and the password")
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

// limit translates the limits of bodies, rates and concurrency.
func (c *content) limit() {
	var limits []*table
	first := func() *table {
		if len(limits) == 0 {
			limits = append(limits, &table{})
		}
		return limits[0]
	}
	d := c.scope.one("client_max_body_size")
	v := "1MiB"
	if d != nil {
		var ok bool
		if v, ok = size(d.Arg(0)); !ok {
			c.t.say(d, "left out: the size has no variables")
			v = "1MiB"
		}
	}
	serves := c.route.get("backend") != nil || c.route.get("files") != nil && inlineHas(c.route.get("files"), "backend")
	for _, d := range c.scope.inherited("limit_req") {
		c.rate(&limits, d)
	}
	for _, d := range c.scope.inherited("limit_conn") {
		c.concurrency(first, d)
	}
	if dry := c.scope.one("limit_req_dry_run"); dry != nil && dry.Arg(0) == "on" && len(limits) > 0 {
		first().set("dry_run", true, dry)
	}
	if v != "0" && serves && (v != "1MiB" || len(limits) > 0) {
		f := first()
		f.keys = slices.Insert(f.keys, 0, entry{"body", v, d})
	}
	defaults := c.t.head.get("defaults") != nil
	if v == "0" && serves && defaults && len(limits) == 0 {
		first().set("body", "0", d)
	}
	switch len(limits) {
	case 0:
	case 1:
		c.route.set("limit", limits[0], d)
	default:
		var l []any
		for _, one := range limits {
			l = append(l, one)
		}
		c.route.set("limit", l, d)
	}
}

func inlineHas(v any, name string) bool {
	t, ok := v.(*table)
	if !ok {
		return false
	}
	f, ok := t.get("fallback").(*table)
	return ok && f.get(name) != nil
}

// param returns the value of name=value among the arguments of a directive.
func param(d *nginxconf.Directive, name string) string {
	for _, a := range d.Args {
		if v, ok := strings.CutPrefix(a, name+"="); ok {
			return v
		}
	}
	return ""
}

// rate translates one limit_req.
func (c *content) rate(limits *[]*table, d *nginxconf.Directive) {
	zone := c.t.zones["limit_req_zone "+param(d, "zone")]
	if zone == nil {
		c.t.say(d, "left out: there is no limit_req_zone %q", param(d, "zone"))
		return
	}
	key, why := template(zone.Arg(0), c.scope)
	rate := param(zone, "rate")
	if why != "" || zone.Arg(0) == "" || !strings.HasSuffix(rate, "r/s") && !strings.HasSuffix(rate, "r/m") {
		c.t.say(d, "left out: the key %q of the zone: %s", zone.Arg(0), why)
		return
	}
	l := &table{}
	l.set("rate", strings.Replace(rate, "r/", "/", 1), d)
	if burst := param(d, "burst"); burst != "" {
		if n, err := strconv.Atoi(burst); err == nil {
			l.set("burst", n+1, d)
		}
	} else {
		l.set("burst", 1, d)
	}
	if key != "{client}" {
		l.set("key", key, zone)
	}
	if !slices.Contains(d.Args, "nodelay") && param(d, "burst") != "" {
		c.t.say(d, "mpgate lets a burst through at once (nodelay) and answers 429 above it; nginx delays and answers 503")
	}
	*limits = append(*limits, l)
}

// concurrency translates one limit_conn.
func (c *content) concurrency(limit func() *table, d *nginxconf.Directive) {
	zone := c.t.zones["limit_conn_zone "+d.Arg(0)]
	n, err := strconv.Atoi(d.Arg(1))
	if zone == nil || err != nil || n < 1 {
		c.t.say(d, "left out: there is no limit_conn_zone %q", d.Arg(0))
		return
	}
	key, why := template(zone.Arg(0), c.scope)
	switch {
	case why != "":
		c.t.say(d, "left out: the key of the zone: %s", why)
	case zone.Arg(0) == "$server_name" || zone.Arg(0) == "$host":
		c.t.say(d, "mpgate counts the requests of a route, not of a server")
		limit().set("requests", n, d)
	default:
		l := limit()
		l.set("per_key", n, d)
		if key != "{client}" && l.get("key") == nil {
			l.set("key", key, zone)
		}
	}
}

func (c *content) basicAuth() {
	d, file := c.scope.one("auth_basic"), c.scope.one("auth_basic_user_file")
	if jwt := c.scope.inherited("auth_jwt"); len(jwt) > 0 && jwt[0].Arg(0) != "off" && !c.t.closed[c.route] {
		c.close(jwt[0], `left out: write jwt = { jwks = "https://…" }`)
		return
	}
	if d == nil || d.Arg(0) == "off" || c.t.closed[c.route] || c.answers4() {
		return
	}
	if file == nil || strings.Contains(file.Arg(0), "$") {
		c.close(d, "left out: there is no file with the users")
		return
	}
	auth := &table{}
	auth.set("users", c.t.path(file.Arg(0), file), file)
	if realm, ok := constant(d.Arg(0), c.scope); ok {
		auth.set("realm", realm, d)
	}
	c.guard(d)
	c.route.set("basic_auth", auth, d)
	c.t.say(file, "mpgate reads hashes of bcrypt and argon2id (htpasswd -B; mpgate hash-password); make those of others anew")
}

// answers4 reports whether the route only says no.
func (c *content) answers4() bool {
	a, ok := c.route.get("answer").(*table)
	if !ok {
		return false
	}
	code, _ := a.get("status").(int)
	return code >= 400
}

// forwardAuth translates auth_request, whose location is one of this server.
func (c *content) forwardAuth() {
	d := c.scope.one("auth_request")
	if d == nil || d.Arg(0) == "off" || c.t.closed[c.route] || c.answers4() {
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
			c.t.say(h, "left out: forward_auth tells method, host and URI in X-Forwarded-Method, X-Forwarded-Host and X-Forwarded-Uri")
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

// compress translates gzip, brotli and zstd.
func (c *content) compress() {
	var d *nginxconf.Directive
	kind := ""
	for _, k := range []string{"gzip", "brotli", "zstd"} {
		if c.scope.on(k) {
			d, kind = c.scope.one(k), k
			break
		}
	}
	if d == nil || c.route.get("redirect") != nil || c.route.get("answer") != nil {
		return
	}
	z := &table{}
	if types := c.scope.one(kind + "_types"); types != nil && !slices.Contains(types.Args, "*") {
		l := slices.Clone(types.Args)
		if !slices.Contains(l, "text/html") {
			l = append([]string{"text/html"}, l...)
		}
		z.set("types", all(l), types)
	}
	if least := c.scope.one(kind + "_min_length"); least != nil {
		if v, ok := size(least.Arg(0)); ok && v != "20B" && v != "0" {
			z.set("min", v, least)
		}
	}
	if len(z.keys) == 0 {
		c.route.set("compress", true, d)
		return
	}
	c.route.set("compress", z, d)
}

// errorPages translates error_page to files.
func (c *content) errorPages() {
	pages := &table{}
	for _, d := range c.scope.inherited("error_page") {
		if len(d.Args) < 2 {
			continue
		}
		to, codes := d.Args[len(d.Args)-1], d.Args[:len(d.Args)-1]
		if strings.HasPrefix(codes[len(codes)-1], "=") {
			if codes[0] != "401" {
				c.t.say(d, "%s: left out: the status of an answer stays", codes[len(codes)-1])
			}
			codes = codes[:len(codes)-1]
		}
		if !strings.HasPrefix(to, "/") || strings.Contains(to, "$") {
			if len(codes) > 0 && codes[0] != "401" {
				c.t.say(d, "left out: error_pages takes files: { \"404\" = \"404.html\" }")
			}
			continue
		}
		file := c.pageFile(to)
		if file == "" {
			c.t.say(d, "left out: %s is not a file", to)
			continue
		}
		for _, code := range spans(codes) {
			if !c.scope.on("proxy_intercept_errors") {
				pages.set(code, file, d)
				continue
			}
			page := &table{}
			page.set("file", file, d)
			page.set("servers", true, d)
			pages.set(code, page, d)
		}
	}
	if len(pages.keys) > 0 {
		c.route.set("error_pages", pages, pages.keys[0].origin)
	}
}

// pageFile returns the file of a path of this server, "" if the path is no file.
func (c *content) pageFile(uri string) string {
	sc := c.site.scope
	for _, l := range c.site.locations {
		if l.pattern == uri || slices.Contains(l.paths, uri) {
			sc = l.scope
		}
	}
	if sc.first("proxy_pass", "return") != nil {
		return ""
	}
	if a := sc.first("alias"); a != nil && !strings.Contains(a.Arg(0), "$") {
		return c.t.path(a.Arg(0), a)
	}
	if r := sc.one("root"); r != nil && !strings.Contains(r.Arg(0), "$") {
		return c.t.path(strings.TrimSuffix(r.Arg(0), "/")+uri, r)
	}
	return ""
}

// spans joins statuses that follow each other: 500 502 503 504 are 500 and 502-504.
func spans(codes []string) (out []string) {
	from, last := 0, -1
	flush := func() {
		switch {
		case last < 0:
		case from == last:
			out = append(out, strconv.Itoa(from))
		default:
			out = append(out, strconv.Itoa(from)+"-"+strconv.Itoa(last))
		}
	}
	numbers := make([]int, 0, len(codes))
	for _, code := range codes {
		if n, err := strconv.Atoi(code); err == nil && n >= 400 && n < 600 {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		if n != last+1 || last < 0 {
			flush()
			from = n
		}
		last = n
	}
	flush()
	return out
}

// log translates access_log off.
func (c *content) log() {
	if d := c.scope.one("access_log"); d != nil && d.Arg(0) == "off" {
		c.route.set("log", false, d)
	}
}
