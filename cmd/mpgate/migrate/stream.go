package migrate

import (
	"slices"
	"strings"

	"mpgate/internal/nginxconf"
)

// stream translates a stream block: each server becomes a listener of its own.
func (t *translator) stream(sc *scope) {
	outer := t.upstreams
	t.upstreams = map[string]*nginxconf.Directive{}
	defer func() { t.upstreams = outer }()
	maps := map[string]*nginxconf.Directive{}
	for _, d := range sc.here("upstream") {
		t.upstreams[d.Arg(0)] = d
	}
	for _, d := range sc.here("map") {
		maps[d.Arg(1)] = d
	}
	for _, d := range sc.here("server") {
		t.streamServer(d, sc.inner(d), maps)
	}
	for _, d := range sc.here("map", "geo", "split_clients") {
		if !t.done[d] {
			t.say(d, "left out: mpgate chooses by the TLS name (match.sni) or the listener only")
		}
		for _, inner := range d.Block {
			t.done[inner] = true
		}
	}
}

func (t *translator) streamServer(d *nginxconf.Directive, sc *scope, maps map[string]*nginxconf.Directive) {
	var listens []listen
	for _, one := range sc.here("listen") {
		l := t.parseListen(one)
		if l.udp {
			t.say(one, "left out: mpgate forwards TCP only")
			continue
		}
		l.ssl = l.ssl || sc.on("ssl")
		listens = append(listens, l)
	}
	pass := sc.first("proxy_pass")
	if len(listens) == 0 {
		return
	}
	if pass == nil {
		t.say(d, "left out: it has no proxy_pass")
		return
	}
	byServerName := maps[pass.Arg(0)]
	byName := sc.on("ssl_preread") && byServerName != nil && byServerName.Arg(0) == "$ssl_preread_server_name"
	if strings.Contains(pass.Arg(0), "$") && !byName {
		t.say(pass, "left out: the server is taken from the connection, which mpgate does only by the TLS name")
		return
	}
	l := t.streamListener(d, sc, listens, !byName)
	if byName {
		t.byName(l, sc, pass, byServerName)
		return
	}
	t.streamRoute(l, "", t.streamBackend(sc, pass, pass.Arg(0)), pass)
	if deny := sc.inherited("deny"); len(deny) > 0 {
		t.streamAccess(sc, deny[0])
	}
}

// streamAccess writes allow and deny to the last route.
func (t *translator) streamAccess(sc *scope, d *nginxconf.Directive) {
	r := t.routes[len(t.routes)-1]
	c := &content{t: t, site: &site{server: &server{}}, location: &location{d: d}, scope: sc, route: r}
	c.access()
}

// streamListener writes the listener of a server; raw: the bytes are not looked at.
func (t *translator) streamListener(d *nginxconf.Directive, sc *scope, listens []listen, raw bool) string {
	g := &group{def: &server{d: d, scope: sc}}
	g.servers = []*server{g.def}
	for i := range listens {
		g.sockets = append(g.sockets, &socket{listen: listens[i], def: g.def, servers: g.servers})
	}
	first := listens[0]
	name := t.name("listener", "tcp-"+first.port)
	l := &table{}
	l.set("name", name, first.d)
	l.set("address", g.addresses(), first.d)
	if raw {
		l.set("protocols", all([]string{"tcp"}), first.d)
	}
	t.forwarded(g, l)
	if first.ssl {
		t.tls(g, l.child("tls", first.d))
	}
	t.listeners = append(t.listeners, l)
	return name
}

func (t *translator) streamRoute(listener, sni, backend string, d *nginxconf.Directive) {
	if backend == "" {
		return
	}
	r, match := &table{}, &table{}
	name := listener
	if sni != "" {
		if match.set("sni", sni, d); sni == "*" {
			name += " other"
		} else {
			name = strings.ReplaceAll(sni, "*", "any")
		}
	}
	match.set("listener", listener, d)
	r.set("name", t.name("route", name), d)
	r.set("match", match, d)
	r.set("backend", backend, d)
	t.routes = append(t.routes, r)
}

// byName writes a route for each name of a map.
func (t *translator) byName(listener string, sc *scope, pass, names *nginxconf.Directive) {
	t.done[names] = true
	for _, d := range names.Block {
		t.done[d] = true
		to := d.Arg(0)
		if strings.Contains(to, "$") {
			t.say(d, "left out: the server is taken from the connection")
			continue
		}
		sni := strings.ToLower(d.Name)
		hosts := []string{sni}
		switch {
		case sni == "default":
			hosts = []string{"*"}
		case sni == "hostnames" || sni == "volatile" || sni == "include" || sni == "":
			continue
		case strings.HasPrefix(sni, "~"):
			re, err := parseExpression(strings.TrimPrefix(strings.TrimPrefix(d.Name, "~"), "*"), true)
			if err != nil {
				hosts = nil
			} else {
				hosts = literals(re)
			}
		case strings.HasPrefix(sni, "."):
			hosts = []string{sni[1:], "*" + sni}
		}
		if hosts == nil {
			t.say(d, "left out: match.sni is a name, or *.name for one label before it")
			continue
		}
		backend := t.streamBackend(sc, d, to)
		for _, h := range hosts {
			t.streamRoute(listener, h, backend, d)
		}
	}
}

// streamBackend returns the backend of a stream; "" if it has no server.
func (t *translator) streamBackend(sc *scope, d *nginxconf.Directive, to string) string {
	b := &table{}
	if from := sc.one("proxy_connect_timeout"); from != nil {
		if v, ok := duration(from.Arg(0)); ok && v != "5s" {
			b.set("connect_timeout", v, from)
		}
	}
	if from := sc.one("proxy_timeout"); from != nil {
		if v, ok := duration(from.Arg(0)); ok {
			b.set("idle_timeout", v, from)
		}
	} else {
		b.set("idle_timeout", "10m", d) // nginx's default
	}
	if p := sc.one("proxy_protocol"); p != nil && p.Arg(0) == "on" {
		b.set("send_proxy", "v1", p)
	}
	if sc.on("proxy_ssl") {
		t.transport(b, sc, true, d)
	}
	if up := t.upstreams[to]; up != nil {
		t.upstream(b, up, sc)
	} else {
		b.set("servers", []any{newServer(to, d)}, d)
	}
	if servers, _ := b.get("servers").([]any); len(servers) == 0 {
		t.say(d, "left out: the upstream %q has no server", to)
		return ""
	}
	if i := slices.IndexFunc(b.keys, func(e entry) bool { return e.name == "retry" }); i >= 0 {
		b.remove("retry")
	}
	return t.backend(to, b)
}
