package migrate

import (
	"slices"
	"strings"

	"mpgate/internal/nginxconf"
)

// http translates an http block.
func (t *translator) http(sc *scope) {
	for _, d := range sc.here("upstream") {
		t.upstreams[d.Arg(0)] = d
	}
	for _, d := range sc.here("limit_req_zone", "limit_conn_zone") {
		for _, a := range d.Args {
			if zone, ok := strings.CutPrefix(a, "zone="); ok {
				name, _, _ := strings.Cut(zone, ":")
				t.zones[d.Name+" "+name] = d
			}
		}
	}
	for _, d := range sc.here("map", "geo", "split_clients") {
		variable := d.Arg(len(d.Args) - 1)
		t.maps[strings.TrimPrefix(variable, "$")] = d
	}
	t.limits(sc)
	var servers []*server
	for _, d := range sc.here("server") {
		if s := t.server(d, sc.inner(d)); s != nil {
			servers = append(servers, s)
		}
	}
	if locations := sc.here("location"); len(locations) > 0 { // a snippet
		d := &nginxconf.Directive{Name: "server", Block: sc.list, File: locations[0].File, Line: locations[0].Line}
		servers = append(servers, t.server(d, &scope{outer: sc.outer, list: sc.list}))
	}
	groups := t.groups(servers)
	for _, g := range groups {
		g.redirects = g.redirectsAll()
		t.listener(g)
	}
	for _, s := range servers {
		t.routesOf(s, groups)
	}
	if !slices.ContainsFunc(t.routes, func(r *table) bool { return r.get("backend") != nil && r.get("limit") == nil }) {
		t.head.remove("defaults")
	}
	t.mapsLeft(servers)
}

// mapsLeft says which maps were left out. The one of the WebSocket idiom is not needed.
func (t *translator) mapsLeft(servers []*server) {
	for name, d := range t.maps {
		switch {
		case d.Arg(0) == "$http_upgrade" || t.done[d]:
		case d.Name == "map":
			t.say(d, "left out: mpgate has no map; write a route for each value of %s, for example by match.header or match.host, instead of $%s", d.Arg(0), name)
		case d.Name == "geo":
			t.say(d, "left out: write a route with match.client for each group of networks instead of $%s", name)
		default:
			t.say(d, `left out: split by weight: backend = { a = 95, b = 5 } with split_by = "{client}"`)
		}
		for _, inner := range d.Block {
			t.done[inner] = true
		}
	}
}

// limits translates what is a property of connections, not of requests.
func (t *translator) limits(sc *scope) {
	limits := &table{}
	if d := sc.one("keepalive_timeout"); d != nil {
		if v, ok := duration(d.Arg(0)); ok && v != "75s" && v != "0s" {
			limits.set("idle_time", v, d)
		}
	}
	if d := sc.one("client_header_timeout"); d != nil {
		if v, ok := duration(d.Arg(0)); ok {
			limits.set("header_time", v, d)
		}
	}
	if d := sc.one("large_client_header_buffers"); d != nil {
		if v, ok := size(d.Arg(1)); ok {
			limits.set("header_bytes", v, d)
		}
	}
	if len(limits.keys) > 0 {
		t.head.set("limits", limits, nil)
	}
	body := &table{}
	body.set("body", "1MiB", nil)
	if sc.one("client_max_body_size") == nil && t.head.get("defaults") == nil {
		t.head.child("defaults", nil).child("route", nil).set("limit", body, nil)
	}
}

// redirectsAll reports whether the servers of a group do nothing but redirect to https.
func (g *group) redirectsAll() bool {
	if g.ssl() {
		return false
	}
	return !slices.ContainsFunc(g.servers, func(s *server) bool { return !s.redirectsOnly() })
}

// redirectsOnly reports whether a server redirects all that is not https to https under the same
// name and port 443.
func (s *server) redirectsOnly() bool {
	sc := s.scope
	if r := sc.first("return"); r != nil && len(sc.here("if")) == 0 {
		return s.toHTTPS(r)
	}
	if l := sc.here("location"); len(l) == 1 && l[0].Arg(0) == "/" && len(sc.here("if", "rewrite")) == 0 {
		inner := sc.inner(l[0])
		r := inner.first("return")
		return r != nil && len(inner.here("if", "rewrite")) == 0 && s.toHTTPS(r)
	}
	for _, d := range sc.here("if") {
		r := sc.inner(d).first("return")
		if schemeIs(d, "http") && r != nil && s.toHTTPS(r) {
			return true
		}
	}
	if d := sc.first("rewrite"); d != nil && len(sc.here("location", "if")) == 0 {
		to := d.Arg(1)
		return matchesAll(d.Arg(0)) && (to == "https://$host$request_uri" || to == "https://$host$1" && strings.Contains(d.Arg(0), "("))
	}
	return false
}

// toHTTPS reports whether a return redirects to the same name under https.
func (s *server) toHTTPS(r *nginxconf.Directive) bool {
	if len(r.Args) != 2 || !slices.Contains([]string{"301", "302", "307", "308"}, r.Arg(0)) {
		return false
	}
	host, ok := strings.CutPrefix(r.Arg(1), "https://")
	for _, uri := range []string{"$request_uri", "$uri$is_args$args"} {
		if h, cut := strings.CutSuffix(host, uri); ok && cut {
			return slices.Contains([]string{"$host", "$http_host", "${host}"}, h) ||
				len(s.names) == 1 && (h == s.names[0] || h == "$server_name")
		}
	}
	return false
}
