package migrate

import (
	"strconv"
	"strings"

	"mpgate/internal/nginxconf"
)

// route writes the route of a location, or of an if in one.
func (t *translator) route(s *site, l *location, further []refinement) {
	r := &table{}
	label := s.label()
	if l.pattern != "" && l.pattern != "/" {
		label += " " + strings.Trim(l.pattern, "^$")
	}
	for _, f := range further {
		label += " " + f.name + " " + strings.Join(f.values, " ")
	}
	r.set("name", t.name("route", label), l.d)
	match := t.matchOf(s, l, further)
	if len(match.keys) > 0 {
		r.set("match", match, l.d)
	}
	c := &content{t: t, site: s, location: l, scope: l.scope, route: r}
	c.act()
	c.filter()
	c.accel()
	t.routes = append(t.routes, r)
}

func (t *translator) matchOf(s *site, l *location, further []refinement) *table {
	match := &table{}
	if len(s.place.hosts) > 0 {
		match.set("host", list(s.place.hosts), s.scope.first("server_name"))
	}
	if l.regex != "" {
		match.set("path_regex", l.regex, l.d)
	} else if len(l.paths) > 0 && !(len(l.paths) == 1 && l.paths[0] == "/*") {
		paths := make([]string, len(l.paths))
		for i, p := range l.paths {
			if paths[i] = p; !strings.Contains(p, "*") {
				paths[i] = canonical(p)
			}
		}
		match.set("path", list(paths), l.d)
	}
	if s.place.listener != "" {
		match.set("listener", s.place.listener, s.d)
	}
	for _, f := range further {
		f.apply(match, l.d)
	}
	return match
}

// content writes what a route does.
type content struct {
	t        *translator
	site     *site
	location *location
	scope    *scope
	route    *table
	// headers are the scope of proxy_set_header: that of a named location for a fallback.
	headers *scope
	// upstream is the authority of proxy_pass.
	upstream string
}

// act writes the action.
func (c *content) act() {
	c.headers = c.scope
	switch {
	case c.scope.first("return") != nil:
		c.answers(c.scope.first("return"))
	case c.scope.first("internal") != nil && !c.internal():
		c.answer(404, c.scope.first("internal"))
	case c.redirected():
	case c.tries():
	case c.scope.first("deny") != nil && c.scope.first("deny").Arg(0) == "all" && len(c.scope.here("allow")) == 0 && c.scope.arg("satisfy") != "any":
		c.answer(403, c.scope.first("deny"))
	case c.handler(c.scope):
	default:
		c.files()
	}
}

// handlers are the directives that nginx takes from the location itself only.
var handlers = map[string]string{
	"fastcgi_pass": "FastCGI", "uwsgi_pass": "uwsgi", "scgi_pass": "SCGI", "memcached_pass": "memcached",
	"content_by_lua_block": "Lua", "content_by_lua_file": "Lua", "content_by_lua": "Lua", "perl": "Perl", "js_content": "JavaScript",
	"stub_status": "stub_status", "flv": "FLV", "mp4": "MP4", "dav_methods": "WebDAV", "empty_gif": "empty_gif", "autoindex_format": "listing",
}

// handler writes an action that sends the request on; false if the block has none.
func (c *content) handler(sc *scope) bool {
	if d := sc.first("proxy_pass"); d != nil {
		c.proxy(sc, d)
		return true
	}
	if d := sc.first("grpc_pass"); d != nil {
		c.grpc(sc, d)
		return true
	}
	for name, what := range handlers {
		d := sc.first(name)
		switch {
		case d == nil:
		case name == "stub_status":
			c.t.say(d, "left out: mpgate has its metrics at the admin address, /metrics; the route answers 404")
			c.answer(404, d)
			return true
		case name == "empty_gif" || name == "autoindex_format":
			continue
		default:
			c.t.say(d, "left out: mpgate does not speak %s; put a server that does in front of the program, and name that server in the backend. The route answers 501", what)
			c.answer(501, d)
			return true
		}
	}
	if sc == c.scope && c.location.block && sc.outer != c.site.scope {
		return c.handler(sc.outer)
	}
	return false
}

// answers translates return.
func (c *content) answers(d *nginxconf.Directive) {
	code, err := strconv.Atoi(d.Arg(0))
	if err != nil { // return URL
		c.redirect(302, d.Arg(0), d)
		return
	}
	if code/100 == 3 && code != 304 && len(d.Args) > 1 {
		c.redirect(code, d.Arg(1), d)
		return
	}
	if code == 444 {
		c.t.say(d, "mpgate answers every request; the route answers 403 instead of closing the connection")
		code = 403
	}
	c.answer(code, d)
	if text := d.Arg(1); text != "" {
		a := c.route.child("answer", d)
		plain, ok := constant(text, c.scope)
		if !ok {
			c.t.say(d, "the text is left out: an answer has no variables")
			return
		}
		a.set("text", plain, d)
		if kind := c.contentType(); kind != "" {
			a.set("type", kind, d)
		}
	}
}

// contentType returns the type of a fixed answer.
func (c *content) contentType() string {
	for _, d := range c.scope.inherited("add_header") {
		if strings.EqualFold(d.Arg(0), "Content-Type") {
			return d.Arg(1)
		}
	}
	if kind := c.scope.arg("default_type"); kind != "application/octet-stream" {
		return kind
	}
	return ""
}

func (c *content) answer(code int, d *nginxconf.Directive) {
	c.clearAction()
	c.route.child("answer", d).set("status", code, d)
}

// clearAction removes the action.
func (c *content) clearAction() {
	for _, k := range []string{"backend", "files", "redirect", "answer", "rewrite", "split_by"} {
		c.route.remove(k)
	}
}

// redirect writes the action redirect.
func (c *content) redirect(code int, to string, d *nginxconf.Directive) {
	v, why := template(to, c.scope)
	if why != "" {
		c.t.say(d, "left out: %s; the route answers 404", why)
		c.answer(404, d)
		return
	}
	if !strings.HasPrefix(v, "http") && !strings.HasPrefix(v, "/") && strings.HasPrefix(v, "{scheme}") {
		v = c.scheme() + strings.TrimPrefix(v, "{scheme}")
	}
	if code < 301 || code > 308 || code > 303 && code < 307 {
		c.answer(code, d)
		return
	}
	r := c.route.child("redirect", d)
	r.set("to", v, d)
	r.set("status", code, d)
}

// scheme is that of the listener.
func (c *content) scheme() string {
	if c.site.place.ssl {
		return "https"
	}
	return "http"
}

// redirected translates a rewrite that redirects everything.
func (c *content) redirected() bool {
	for _, d := range c.scope.here("rewrite") {
		flag, to := d.Arg(2), d.Arg(1)
		if flag != "permanent" && flag != "redirect" && !strings.HasPrefix(to, "http") {
			continue
		}
		code := 302
		if flag == "permanent" {
			code = 301
		}
		switch {
		case matchesAll(d.Arg(0)):
			for _, path := range []string{"$request_uri", "$uri", "/$1", "$1"} {
				if strings.HasSuffix(to, path) {
					to = strings.TrimSuffix(to, path) + "$request_uri"
					break
				}
			}
		case c.location.regex == "" && strings.Contains(to, "$1"):
			if !c.prefixRedirect(d, code) {
				c.t.say(d, "left out: write a route with match.path_regex = '%s' and a redirect for it", d.Arg(0))
				continue
			}
			return true
		}
		to = strings.TrimSuffix(to, "?")
		c.redirect(code, to, d)
		return true
	}
	return false
}

// prefixRedirect turns the route into one with path_regex, which has captures, if it is for what
// the expression matches.
func (c *content) prefixRedirect(d *nginxconf.Directive, code int) bool {
	match, ok := c.route.get("match").(*table)
	re, err := parseExpression(d.Arg(0), false)
	if !ok || err != nil {
		return false
	}
	g := globs(re)
	if len(g) != 1 || len(c.location.paths) != 1 || g[0] != c.location.paths[0] {
		return false
	}
	i := match.index("path")
	if i < 0 {
		return false
	}
	match.keys[i] = entry{"path_regex", d.Arg(0), d}
	c.t.say(d, "in mpgate paths come before expressions: routes with match.path take their requests first")
	c.redirect(code, strings.TrimSuffix(d.Arg(1), "?"), d)
	return true
}
