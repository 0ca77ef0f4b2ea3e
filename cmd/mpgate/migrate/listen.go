package migrate

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"mpgate/internal/nginxconf"
)

// listen is one listen directive.
type listen struct {
	d         *nginxconf.Directive
	address   string // as mpgate writes it
	port      string
	ssl       bool
	h2        bool
	proxy     bool
	isDefault bool
	udp       bool
}

// parseListen reads a directive; d nil is the default of a server without one.
func (t *translator) parseListen(d *nginxconf.Directive) listen {
	l := listen{d: d}
	where := "80"
	if d != nil {
		where = d.Arg(0)
		for _, a := range d.Args[min(1, len(d.Args)):] {
			l.option(t, a)
		}
	}
	if strings.HasPrefix(where, "unix:") {
		l.address = where
		return l
	}
	host, port, err := net.SplitHostPort(where)
	switch {
	case err == nil:
	case strings.Trim(where, "0123456789-") == "":
		host, port = "", where
	default:
		host, port = strings.Trim(where, "[]"), "80"
	}
	l.port = port
	switch host {
	case "", "*", "0.0.0.0":
		host = "0.0.0.0"
	}
	l.address = net.JoinHostPort(host, port)
	return l
}

// option reads one parameter.
func (l *listen) option(t *translator, a string) {
	name, _, _ := strings.Cut(a, "=")
	switch name {
	case "ssl":
		l.ssl = true
	case "http2":
		l.h2 = true
	case "proxy_protocol":
		l.proxy = true
	case "default_server", "default":
		l.isDefault = true
	case "udp":
		l.udp = true
	case "reuseport", "backlog", "deferred", "ipv6only", "so_keepalive", "fastopen", "setfib", "bind", "rcvbuf", "sndbuf", "multipath":
		// mpgate and the kernel have good defaults.
	case "quic":
		t.say(l.d, "quic: left out: mpgate does not speak HTTP/3")
		l.udp = true
	default:
		t.say(l.d, "%s: left out: not a known parameter", a)
	}
}

// socket is one address with the servers that listen on it.
type socket struct {
	listen
	servers []*server
	def     *server
}

// group is sockets that become one listener: those with the same servers.
type group struct {
	name      string
	sockets   []*socket
	servers   []*server
	def       *server
	redirects bool // every request, to https
}

func (g *group) ssl() bool { return g.sockets[0].ssl }

// groups forms the listeners. Two sockets are of one listener if the same servers listen on them
// with the same parameters.
func (t *translator) groups(servers []*server) (out []*group) {
	var sockets []*socket
	for _, s := range servers {
		for _, l := range s.listens {
			i := slices.IndexFunc(sockets, func(k *socket) bool { return k.address == l.address })
			if i < 0 {
				sockets, i = append(sockets, &socket{listen: l}), len(sockets)
			}
			k := sockets[i]
			k.ssl, k.h2, k.proxy = k.ssl || l.ssl, k.h2 || l.h2, k.proxy || l.proxy
			if k.servers = append(k.servers, s); l.isDefault || k.def == nil {
				k.def = s
			}
		}
	}
	for _, k := range sockets {
		i := slices.IndexFunc(out, func(g *group) bool {
			o := g.sockets[0]
			return o.port == k.port && o.ssl == k.ssl && (o.ssl || o.h2 == k.h2) && o.proxy == k.proxy && g.def == k.def && slices.Equal(g.servers, k.servers)
		})
		if i < 0 {
			out, i = append(out, &group{servers: k.servers, def: k.def}), len(out)
		}
		out[i].sockets = append(out[i].sockets, k)
	}
	for _, g := range out {
		g.name = t.name("listener", listenerName(g.sockets[0]))
	}
	return out
}

func listenerName(k *socket) string {
	switch {
	case k.port == "":
		return "socket"
	case k.port == "80" && !k.ssl:
		return "http"
	case k.port == "443" && k.ssl:
		return "https"
	case k.ssl:
		return "https-" + k.port
	}
	return "http-" + k.port
}

// addresses returns the value of the key address: ":80" for all addresses of both families.
func (g *group) addresses() any {
	var v4, v6 bool
	var out []string
	for _, k := range g.sockets {
		host, _, _ := net.SplitHostPort(k.address)
		v4, v6 = v4 || host == "0.0.0.0", v6 || host == "::"
	}
	for _, k := range g.sockets {
		host, _, _ := net.SplitHostPort(k.address)
		switch {
		case v4 && v6 && host == "0.0.0.0":
			out = append(out, ":"+k.port)
		case v4 && v6 && host == "::":
		default:
			out = append(out, k.address)
		}
	}
	return list(out)
}

// listener writes the table of a group.
func (t *translator) listener(g *group) {
	first := g.sockets[0]
	l := &table{}
	l.set("name", g.name, first.d)
	l.set("address", g.addresses(), first.d)
	if first.h2 && !first.ssl {
		l.set("protocols", all([]string{"h1", "h2c"}), first.d)
	}
	t.forwarded(g, l)
	if g.redirects {
		l.set("redirect_https", true, nil)
	}
	if first.ssl {
		t.tls(g, l.child("tls", first.d))
	}
	t.listeners = append(t.listeners, l)
}

// forwarded writes from whom a listener takes the address of the client.
func (t *translator) forwarded(g *group, l *table) {
	var from []string
	var origin *nginxconf.Directive
	header := ""
	for _, s := range g.servers {
		for _, d := range s.scope.inherited("set_real_ip_from") {
			origin = d
			if a := realIPNetwork(d.Arg(0)); a == "" {
				t.say(d, "left out: %q is a name; write its address to trusted_proxies", d.Arg(0))
			} else if !slices.Contains(from, a) {
				from = append(from, a)
			}
		}
		if h := s.scope.one("real_ip_header"); h != nil {
			if header = strings.ToLower(h.Arg(0)); header != "x-forwarded-for" && header != "proxy_protocol" {
				t.say(h, "left out: mpgate takes the client's address from X-Forwarded-For or the PROXY protocol; make the proxy in front send one of them")
			}
		}
	}
	if len(from) > 0 && header != "proxy_protocol" {
		l.set("trusted_proxies", all(from), origin)
	}
	if g.sockets[0].proxy {
		l.set("proxy_protocol", "required", g.sockets[0].d)
		if header != "proxy_protocol" || len(from) == 0 {
			from = []string{"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"}
			t.say(g.sockets[0].d, "proxy_protocol: nginx takes the header from any peer; proxy_protocol_from names the private networks: write the addresses of the balancer there")
		}
		from = slices.DeleteFunc(slices.Clone(from), func(s string) bool { return s == "unix" })
		l.set("proxy_protocol_from", all(from), g.sockets[0].d)
	}
}

// realIPNetwork returns a network of set_real_ip_from, "" for a name.
func realIPNetwork(s string) string {
	if s == "unix:" {
		return "unix"
	}
	if _, _, err := net.ParseCIDR(s); err == nil {
		return s
	}
	ip := net.ParseIP(s)
	switch {
	case ip == nil:
		return ""
	case ip.To4() != nil:
		return fmt.Sprintf("%s/32", ip)
	}
	return fmt.Sprintf("%s/128", ip)
}
