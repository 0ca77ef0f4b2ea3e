package proxy_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/message"
	"mpgate/proxy/route"
)

var (
	nobody   []netip.Prefix
	loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	cdn      = append([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")},
		loopback...)
)

func TestForwardedFields(t *testing.T) {
	t.Parallel()
	type fields struct{ xff, realIP, proto, host, forwarded, client string }
	for name, e := range map[string]struct {
		trusted []netip.Prefix
		address string
		sent    string
		want    fields
	}{
		"nothing sent": {nobody, "", "", fields{"127.0.0.1", "127.0.0.1", "http", "a.example", "", "127.0.0.1"}},
		"from a stranger": {nobody, "", "X-Forwarded-For: 1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\n" +
			"X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=1.2.3.4\r\n",
			fields{"127.0.0.1", "127.0.0.1", "http", "a.example", "", "127.0.0.1"}},
		"twice, odd case": {nobody, "", "x-forwarded-for: 1.2.3.4\r\nX-FORWARDED-FOR: 5.6.7.8\r\n" +
			"x-real-ip: 1.2.3.4\r\nX-Real-Ip: 1.2.3.5\r\nx-forwarded-PROTO: https\r\nforwarded: for=1\r\n" +
			"FORWARDED: for=2\r\n", fields{"127.0.0.1", "127.0.0.1", "http", "a.example", "", "127.0.0.1"}},
		"from a proxy": {loopback, "", "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n" +
			"X-Forwarded-Host: b.example\r\nForwarded: for=1.2.3.4\r\nX-Real-IP: 9.9.9.9\r\n",
			fields{"1.2.3.4, 127.0.0.1", "1.2.3.4", "https", "b.example", "for=1.2.3.4", "1.2.3.4"}},
		"proxy, nothing": {loopback, "", "", fields{"127.0.0.1", "127.0.0.1", "http", "a.example", "", "127.0.0.1"}},
		"proxy, empty": {loopback, "", "X-Forwarded-For:\r\n",
			fields{"127.0.0.1", "127.0.0.1", "http", "a.example", "", "127.0.0.1"}},
		"a chain": {cdn, "", "X-Forwarded-For: 6.6.6.6, 1.2.3.4, 10.1.1.1\r\n" +
			"X-Forwarded-For: 10.2.2.2\r\n", fields{"6.6.6.6, 1.2.3.4, 10.1.1.1, 10.2.2.2, 127.0.0.1", "1.2.3.4",
			"http", "a.example", "", "1.2.3.4"}},
		"a chain of ours": {cdn, "", "X-Forwarded-For: 10.3.3.3,10.1.1.1 ,\t10.2.2.2\r\n",
			fields{"10.3.3.3,10.1.1.1 ,\t10.2.2.2, 127.0.0.1", "10.3.3.3", "http", "a.example", "", "10.3.3.3"}},
		"rubbish ends it": {cdn, "", "X-Forwarded-For: 1.2.3.4, unknown, 10.1.1.1\r\n",
			fields{"1.2.3.4, unknown, 10.1.1.1, 127.0.0.1", "10.1.1.1", "http", "a.example", "", "10.1.1.1"}},
		"IPv6 in it": {cdn, "", "X-Forwarded-For: 2001:db8::1, fd00::1\r\n",
			fields{"2001:db8::1, fd00::1, 127.0.0.1", "2001:db8::1", "http", "a.example", "", "2001:db8::1"}},
		"with ports": {cdn, "", "X-Forwarded-For: [2001:db8::1]:1234, 10.1.1.1:80\r\n",
			fields{"[2001:db8::1]:1234, 10.1.1.1:80, 127.0.0.1", "2001:db8::1", "http", "a.example", "",
				"2001:db8::1"}},
		"mapped": {cdn, "", "X-Forwarded-For: ::ffff:1.2.3.4, ::ffff:10.1.1.1\r\n",
			fields{"::ffff:1.2.3.4, ::ffff:10.1.1.1, 127.0.0.1", "1.2.3.4", "http", "a.example", "", "1.2.3.4"}},
		"IPv6 peer": {nobody, "[::1]:0", "X-Forwarded-For: 1.2.3.4\r\n",
			fields{"::1", "::1", "http", "a.example", "", "::1"}},
		"IPv6 proxy": {loopback, "[::1]:0", "X-Forwarded-For: 1.2.3.4\r\n",
			fields{"1.2.3.4, ::1", "1.2.3.4", "http", "a.example", "", "1.2.3.4"}},
		"unix peer": {loopback, "unix", "X-Forwarded-For: 1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\n" +
			"X-Forwarded-Proto: https\r\nForwarded: for=1\r\n", fields{"", "", "http", "a.example", "", ""}},
		"unix proxy": {nobody, "unix+", "X-Forwarded-For: 1.2.3.4\r\nX-Real-IP: 9.9.9.9\r\n" +
			"X-Forwarded-Proto: https\r\nX-Forwarded-Host: b.example\r\nForwarded: for=1\r\n",
			fields{"1.2.3.4", "1.2.3.4", "https", "b.example", "for=1", "1.2.3.4"}},
		"unix, a chain": {cdn, "unix+", "X-Forwarded-For: 6.6.6.6, 1.2.3.4, 10.1.1.1\r\n",
			fields{"6.6.6.6, 1.2.3.4, 10.1.1.1", "1.2.3.4", "http", "a.example", "", "1.2.3.4"}},
		"unix, nothing": {cdn, "unix+", "", fields{"", "", "http", "a.example", "", ""}},
		"not over unix": {nobody, "+", "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n",
			fields{"127.0.0.1", "127.0.0.1", "http", "a.example", "", "127.0.0.1"}},
		"empty at the end": {cdn, "", "X-Forwarded-For: 1.2.3.4,\r\n",
			fields{"1.2.3.4, 127.0.0.1", "1.2.3.4", "http", "a.example", "", "1.2.3.4"}},
		"empty within": {cdn, "", "X-Forwarded-For: 6.6.6.6, 1.2.3.4, ,\t,10.1.1.1\r\n",
			fields{"6.6.6.6, 1.2.3.4,10.1.1.1, 127.0.0.1", "1.2.3.4", "http", "a.example", "", "1.2.3.4"}},
		"empty in front": {cdn, "", "X-Forwarded-For: ,, 1.2.3.4\r\nX-Forwarded-For: ,\r\n" +
			"X-Forwarded-For: , 10.1.1.1 ,\r\n", fields{"1.2.3.4,  10.1.1.1 , 127.0.0.1", "1.2.3.4", "http",
			"a.example", "", "1.2.3.4"}},
		"nothing but empty": {cdn, "", "X-Forwarded-For: ,, ,\r\n",
			fields{"127.0.0.1", "127.0.0.1", "http", "a.example", "", "127.0.0.1"}},
		"trusted elsewhere": {[]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, "",
			"X-Forwarded-For: 1.2.3.4\r\n", fields{"127.0.0.1", "127.0.0.1", "http", "a.example", "", "127.0.0.1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := plain.origin(t, proxytest.Echo)
			address, unix := strings.CutSuffix(e.address, "+")
			g := start(t, setup{listener: proxy.ListenerOptions{Trusted: e.trusted, TrustUnix: unix},
				address: address}, o)
			c := g.client()
			c.Send("GET / HTTP/1.1\r\n" + host + e.sent + "\r\n")
			want(t, "status", c.Answer().Status, 200)
			l := g.log.Next()
			r := &proxytest.Request{Head: o.Raw()[0]}
			got := fields{r.Header("X-Forwarded-For"), r.Header("X-Real-IP"), r.Header("X-Forwarded-Proto"),
				r.Header("X-Forwarded-Host"), r.Header("Forwarded"), l.Client}
			want(t, "what the server and the log got", got, e.want)
			if address == "unix" {
				want(t, "peer", l.Peer, "")
				want(t, "transport", l.ClientTransport, "unix")
			} else {
				want(t, "peer", l.Peer, c.LocalAddr().String())
			}
		})
	}
}

func TestForwardedHostHasThePort(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, proxytest.Echo)
	g := start(t, setup{}, o)
	c := g.client()
	c.Send("GET / HTTP/1.1\r\nHost: A.Example.:8080\r\n\r\n")
	c.Answer()
	r := &proxytest.Request{Head: o.Raw()[0]}
	want(t, "Host", r.Header("Host"), "a.example:8080")
	want(t, "X-Forwarded-Host", r.Header("X-Forwarded-Host"), "a.example:8080")
}

func TestOtherForwardedFieldsOfUntrustedPeers(t *testing.T) {
	t.Parallel()
	const sent = "X-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /admin\r\nX-Forwarded-Server: evil\r\n" +
		"x-forwarded-SSL: on\r\nX-Forwarded: for=1\r\nX-Forwardedness: stays\r\n"
	for _, trusted := range []bool{false, true} {
		o := plain.origin(t, proxytest.Echo)
		s := setup{}
		if trusted {
			s.listener.Trusted = loopback
		}
		g := start(t, s, o)
		c := g.client()
		c.Send("GET / HTTP/1.1\r\n" + host + sent + "\r\n")
		c.Answer()
		r := &proxytest.Request{Head: o.Raw()[0]}
		for _, name := range []string{"X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Server",
			"X-Forwarded-SSL"} {
			want(t, name+" came", r.Has(name), trusted)
		}
		want(t, "X-Forwardedness", r.Header("X-Forwardedness"), "stays")
	}
}

func TestRequestIDIsTheGateways(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, proxytest.Echo)
		g := start(t, setup{mode: m, listener: proxy.ListenerOptions{Trusted: loopback}}, o)
		c := g.client()
		seen := map[string]bool{}
		for range 3 {
			c.Send("GET / HTTP/1.1\r\n" + host + "X-Request-ID: mine\r\nx-request-id: too\r\n\r\n")
			c.Answer()
			seen[g.log.Next().ID] = true
		}
		want(t, "number of ids", len(seen), 3)
		for _, head := range strings.SplitAfter(o.Raw()[0], "\r\n\r\n")[:3] {
			r := &proxytest.Request{Head: head}
			want(t, "an id is that of the log", seen[r.Header("X-Request-ID")], true)
		}
	})
}

// The ID of a trusted proxy is kept, so that its log and ours can be read together.
func TestRequestIDOfATrustedProxy(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, proxytest.Echo)
		g := start(t, setup{mode: m, listener: proxy.ListenerOptions{Trusted: loopback, HealthPath: "/ready"}}, o)
		for _, e := range []struct {
			sent string
			kept bool
		}{
			{"4bf92f3577b34da6", true}, {"a1b2_c-d.e:f", true}, {"7b3e/Zm9v+YmFy==", true},
			{strings.Repeat("a", 128), true},
			{"", false}, {strings.Repeat("a", 129), false}, {"a b", false}, {"a,b", false}, {"a\tb", false},
			{"a\"b", false}, {"<a>", false},
			{"a;b", false}, {"\xc3\xa4", false}, {"a\\", false}, {"a\r\nX-Request-ID: b", false},
		} {
			c := g.client()
			c.Send("GET /" + " HTTP/1.1\r\n" + host + "X-Request-ID: " + e.sent + "\r\n\r\n")
			want(t, "status", c.Answer().Status, 200)
			l := g.log.Next()
			want(t, fmt.Sprintf("%q was kept", e.sent), l.ID == e.sent, e.kept)
			if !e.kept {
				want(t, "length of the ID", len(l.ID), 32)
			}
			contains(t, "what the server got", o.AllRaw(), "X-Request-ID: "+l.ID+"\r\n")
			c.Close()
		}
		c := g.client()
		c.Send("GET /ready HTTP/1.1\r\n" + host + "X-Request-ID: mine-1\r\n\r\n")
		contains(t, "the gateway's own answer", c.Answer().Body, "id: mine-1\n")
		want(t, "logged ID", g.log.Next().ID, "mine-1")
		g.update(func(o *proxy.ListenerOptions) { o.Trusted = nobody })
		c.Send("GET / HTTP/1.1\r\n" + host + "X-Request-ID: mine-2\r\n\r\n")
		c.Answer()
		want(t, "length of the ID for a stranger", len(g.log.Next().ID), 32)
		lacks(t, "what the server got", o.AllRaw(), "mine-2")
	})
}

func TestCase12UnsafeNames(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, proxytest.Echo)
	g := start(t, setup{routes: func(b *backend.Backend) []proxy.Route {
		return []proxy.Route{{Name: "all", Action: &proxy.Forward{Backend: b}},
			{Name: "keep", Match: route.Match{Paths: []string{"/keep/*"}}, Action: &proxy.Forward{Backend: b},
				KeepUnsafeNames: true}}
	}}, o)
	sent := "Remote_User: admin\r\nX.Forwarded.For: 1.2.3.4\r\nx_forwarded_for: 1.2.3.4\r\n_: x\r\nX-Fine: yes\r\n" +
		"X_Real-IP: 1.2.3.4\r\n"
	c := g.client()
	c.Send("GET /a HTTP/1.1\r\n" + host + sent + "\r\n")
	want(t, "status", c.Answer().Status, 200)
	lacks(t, "the server's request", o.Raw()[0], "remote_user", "x.forwarded", "x_forwarded", "\n_:", "x_real")
	contains(t, "the server's request", o.Raw()[0], "X-Fine: yes\r\n")
	g.waitMetric(5, "mpgate_header_fields_dropped_total", "listener", "web", "route", "all")
	c.Send("GET /keep/a HTTP/1.1\r\n" + host + sent + "\r\n")
	want(t, "status", c.Answer().Status, 200)
	kept := o.Raw()[0][strings.Index(o.Raw()[0], "/keep/a"):]
	contains(t, "the server's request", kept, "Remote_User: admin\r\n", "X.Forwarded.For: 1.2.3.4\r\n",
		"X-Fine: yes\r\n", "_: x\r\n")
	want(t, "dropped of the route that keeps", g.metric("mpgate_header_fields_dropped_total", "route", "keep"), 0)
	g.bystander()
}

// Some servers make "_" of every byte of a name that is no letter or digit, as they do with "-".
func TestNamesWithOtherSeparators(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, proxytest.Echo)
		options := proxy.ListenerOptions{H2C: !m.tls}
		if m.tls {
			options.TLS = h2Policy(t, m)
		}
		g := start(t, setup{mode: m, listener: options}, o)
		var sent strings.Builder
		const separators = "!#$%&'*+.^_`|~"
		for _, s := range separators {
			fmt.Fprintf(&sent, "x%cclient%[1]csubject: CN=admin\r\n%[1]cx-real-ip: 1\r\nx-real-ip%[1]c: 1\r\n", s)
		}
		c := g.client()
		c.Send("POST / HTTP/1.1\r\n" + host + "X-Fine-2: yes\r\nTransfer-Encoding: chunked\r\n" + sent.String() + "\r\n0\r\n" + sent.String() + "X-Fine-3: yes\r\n\r\n")
		want(t, "status", c.Answer().Status, 200)
		want(t, "dropped", g.log.Next().DroppedFields, 2*3*len(separators))
		raw := o.AllRaw()
		contains(t, "the server's request", raw, "X-Fine-2: yes\r\n", "X-Fine-3: yes\r\n")
		lacks(t, "the server's request", raw, "admin", ": 1\r\n")
		if m.tls {
			return
		}
		r := &message.Request{Method: []byte("GET"), Scheme: "http", Host: []byte("h"), Path: []byte("/two")}
		for field := range strings.SplitSeq(strings.TrimSpace(sent.String()), "\r\n") {
			name, value, _ := strings.Cut(field, ": ")
			r.Header.AddName([]byte(name), []byte(value))
		}
		s, resp := askHead(t, multiplexed(t, g.addr), r)
		defer s.Release()
		want(t, "status", resp.Status, 200)
		want(t, "dropped in HTTP/2", g.log.Next().DroppedFields, 3*len(separators))
		lacks(t, "the server's request", o.AllRaw(), "admin", ": 1\r\n")
	})
}

func TestTrailersCarryNoUnsafeNames(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, proxytest.Echo)
	g := start(t, setup{}, o)
	c := g.client()
	c.Send("POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n" +
		"Remote_User: admin\r\nX-Fine: yes\r\nHost: b\r\nX-Forwarded-For: 1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\nX-Request-ID: x\r\nForwarded: for=1\r\nX-Forwarded-Proto: https\r\n\r\n")
	want(t, "body", c.AnswerTo("POST").Body, "POST / hi")
	want(t, "the trailers", o.Raw()[0][strings.Index(o.Raw()[0], "2\r\nhi"):], "2\r\nhi\r\n0\r\nX-Fine: yes\r\n\r\n")
}

func TestViaIsNotWritten(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, proxytest.Echo)
	g := start(t, setup{}, o)
	c := g.client()
	c.Send("GET / HTTP/1.1\r\n" + host + "Via: 1.1 before\r\n\r\n")
	a := c.Answer()
	lacks(t, "the response", a.Head, "via:")
	r := &proxytest.Request{Head: o.Raw()[0]}
	want(t, "Via at the server", r.Header("Via"), "1.1 before")
}
