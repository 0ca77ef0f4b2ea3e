package config

import (
	"cmp"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"mpgate/proxy/files"
	"mpgate/proxy/filter"
	"mpgate/proxy/target"
	"mpgate/proxy/template"
)

// checkRoute checks the action and the filters of a route.
func (l *loader) checkRoute(r *Route, n *node) {
	groups := 0
	if re, err := regexp.Compile(r.Match.PathRegex); err == nil {
		groups = re.NumSubexp()
	}
	c := routeCheck{l, groups}
	c.split(r, n)
	if r.Redirect != nil {
		to := n.get("redirect").get("to")
		c.variables(to, r.Redirect.To.Template(), beforeServer...)
	}
	if r.Answer != nil {
		c.answer(r.Answer, n.get("answer"))
	}
	for i, child := range n.get("limit").entries() {
		if i < len(r.Limits) {
			c.limit(&r.Limits[i], child)
		}
	}
	if r.Files != nil {
		c.files(r.Files, n.get("files"))
	}
	if r.Cookies != nil {
		c.cookies(r.Cookies, n.get("cookies"))
	}
	if r.Compress != nil {
		c.compress(r.Compress, n.get("compress"))
	}
	if r.CORS != nil {
		c.cors(r.CORS, n.get("cors"))
	}
	if r.JWT != nil {
		l.checkJWT(r.JWT, n.get("jwt"))
	}
	if r.ForwardAuth != nil {
		l.checkForwardAuth(r.ForwardAuth, n.get("forward_auth"))
	}
	if r.Rewrite != "" {
		c.rewrite(r, n.get("rewrite"))
	}
	c.requestHeaders(r.RequestHeaders, n.get("request_headers"))
	for name, child := range n.get("response_headers").keys {
		for i, t := range r.ResponseHeaders[name] {
			c.variables(child.item(i), &t)
		}
	}
	for name, child := range n.get("error_pages").keys {
		c.errorPage(name, child, r.ErrorPages)
	}
	if r.Match.SNI != "" {
		l.notOpened(n)
	}
}

// notOpened reports what a route that passes TLS through cannot have.
func (l *loader) notOpened(n *node) {
	all := append(slices.Clone(filterNames), "files", "redirect", "answer", "internal", "retry")
	for _, name := range all {
		if name == "log" { // connections have lines, too
			continue
		}
		if child := n.keys[name]; child != nil && (n.has(name) || len(child.keys) > 0 || child.leaf == true) {
			l.fault(child.at, "is for requests, and TLS for match.sni is passed through encrypted; remove it, or match by host")
		}
	}
}

// filterNames are the keys of Filters.
var filterNames = func() (list []string) {
	for _, k := range keysOf(reflect.TypeFor[Filters]()) {
		list = append(list, k.name)
	}
	return list
}()

// routeCheck checks values of one route.
type routeCheck struct {
	*loader
	groups int // in path_regex
}

// beforeServer are the variables that have no value before a server has answered.
var beforeServer = []template.Kind{template.Server, template.ServerHost, template.Status}

// variables reports variables of a template that have no value.
func (c routeCheck) variables(n *node, t *template.Template, without ...template.Kind) {
	for _, kind := range without {
		if t.Uses(kind) {
			c.fault(n.at, "uses {%s}, which has no value before a server has answered%s; leave it out", kind, n.got())
			return
		}
	}
	c.captures(n, t.Captures())
	c.foreignVariable(n)
}

// foreignVariables are variables of nginx and HAProxy, and what is right here. The groups of an
// expression have the same names.
var (
	foreignVariables = map[string]string{
		"$request_uri": "{uri}", "$uri": "{path}", "$args": "{query}", "$query_string": "{query}",
		"$host": "{host}", "$http_host": "{host}", "$server_port": "{port}", "$scheme": "{scheme}",
		"$remote_addr": "{client}", "$binary_remote_addr": "{client}", "$request_method": "{method}", "$request_id": "{id}",
		"%[src]": "{client}", "%[path]": "{path}", "%[query]": "{query}", "%[method]": "{method}",
	}
	foreignVariableRegexp = regexp.MustCompile(`\$([a-z_]+|[1-9])\b|%\[[a-z]+\]`)
)

// foreignVariable warns of a value with a variable of another proxy.
func (c routeCheck) foreignVariable(n *node) {
	s, ok := n.leaf.(string)
	if !ok {
		return
	}
	right := foreignVariableRegexp.ReplaceAllStringFunc(s, func(v string) string {
		if '1' <= v[1] && v[1] <= '9' {
			return "{" + v[1:] + "}"
		}
		return cmp.Or(foreignVariables[v], v)
	})
	if right != s {
		c.warn(n.at, "has a variable of another proxy, which is text here%s; write %q", n.got(), right)
	}
}

func (c routeCheck) captures(n *node, most int) {
	switch {
	case most <= c.groups:
	case c.groups == 0:
		c.fault(n.at, "uses {%d}, and match.path_regex has no group%s; write for example path_regex = \"^/v([0-9]+)/\"", most, n.got())
	default:
		c.fault(n.at, "uses {%d}, and match.path_regex has %d %s%s", most, c.groups, plural("group", c.groups), n.got())
	}
}

func plural(word string, n int) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

func (c routeCheck) cors(o *CORS, n *node) {
	if n.unset("origins", "credentials") || len(o.Origins) == 0 || slices.Contains(o.Origins, "") {
		return
	}
	if _, err := filter.NewCORS(o.Options()); err != nil {
		c.fault(n.get("origins").at, "%s", err)
	}
}

// Options are the options for package filter.
func (o *CORS) Options() filter.CORSOptions {
	return filter.CORSOptions{
		Origins: o.Origins, Methods: o.Methods, Headers: o.Headers, Expose: o.Expose, Credentials: o.Credentials, MaxAge: o.MaxAge,
	}
}

func (c routeCheck) rewrite(r *Route, n *node) {
	f, err := filter.NewRewrite(r.Rewrite, filter.RewriteOptions{KeepEncodedSlash: r.EncodedSlash == Keep})
	switch {
	case err != nil:
		c.wrong(n, err.Error())
	case strings.Contains(r.Rewrite, "*") && r.Match.PathRegex != "":
		c.fault(n.at, "has a *, which refers to the * of match.path, but the route has path_regex%s; write {1} for its first group", n.got())
	default:
		c.captures(n, f.Captures())
		c.foreignVariable(n)
		for _, kind := range beforeServer {
			if f.Uses(kind) {
				c.fault(n.at, "uses {%s}, which has no value before a server has answered%s; leave it out", kind, n.got())
			}
		}
	}
}

func (c routeCheck) requestHeaders(fields map[string][]template.Template, n *node) {
	for name, child := range n.keys {
		values := fields[name]
		isHost := strings.EqualFold(name, "Host")
		if isHost && len(values) != 1 && child.isArray() {
			c.fault(child.at, "has %d values; a request has exactly one Host", len(values))
			continue
		}
		for i, t := range values {
			at := child.item(i)
			if isHost && t.String() == "{server_host}" {
				continue
			}
			c.variables(at, &t, beforeServer...)
			if isHost {
				c.host(at, &t)
			}
		}
	}
}

// host checks a Host without variables.
func (c routeCheck) host(n *node, t *template.Template) {
	text, ok := t.Literal()
	var scratch []byte
	if !ok {
		return
	}
	if _, _, err := target.Host([]byte(text), &scratch); err != nil {
		c.wrong(n, fmt.Sprintf("is not a valid host (%s); must be for example \"app.internal\", \"app.internal:8080\" or \"{server_host}\"",
			strings.TrimPrefix(err.Error(), "host: ")))
	}
}

func (c routeCheck) answer(a *Answer, n *node) {
	body := a.Text != "" || a.File != ""
	switch {
	case n.unset("status", "text", "file", "type"):
	case a.Text != "" && a.File != "":
		c.fault(n.at, "has text and file; keep one of them")
	case body && (a.Status == 204 || a.Status == 205 || a.Status == 304):
		c.fault(n.get("status").at, "is %d, which has no body; remove text and file, or choose another status", a.Status)
	case a.Type != "" && !body:
		c.fault(n.get("type").at, "is the type of a body, and there is none; add text or file")
	case a.Status/100 == 3 && a.Status != 304:
		c.fault(n.get("status").at, "is %d, a redirect; write redirect = { to = \"…\" }", a.Status)
	default:
		c.typed(n, a.File, a.Type)
	}
}

// typed reports a file whose name does not say its type.
func (c routeCheck) typed(n *node, file, mediaType string) {
	if file != "" && mediaType == "" && files.MediaType(file) == "" {
		c.fault(n.get("file").at, "has a name that does not say what it is%s; add type, for example type = \"text/html; charset=utf-8\"", n.get("file").got())
	}
}

func (c routeCheck) errorPage(written string, n *node, pages map[StatusRange]*ErrorPage) {
	var r StatusRange
	for status := range pages {
		if first, last, ok := strings.Cut(written, "-"); status.String() == written || ok && first == last && status.String() == first {
			r = status
		}
	}
	p := pages[r]
	switch {
	case p == nil || n.unset("file", "text", "type"): // another fault says why
	case r.First < 400:
		c.fault(n.at, "is for the status %d, which is not an error; must be from 400 to 599", r.First)
	case p.Text != "" && p.File != "":
		c.fault(n.at, "has text and file; keep one of them")
	case p.Text == "" && p.File == "":
		c.fault(n.at, "has no page; add a file, for example file = \"down.html\", or text")
	default:
		c.typed(n, p.File, p.Type)
	}
}
