package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"mpgate/internal/lab"
	"mpgate/internal/proxytest"
	"mpgate/proxy"
)

// A link-local peer's address has a zone, the name of an interface of this host. It must not keep
// the address from being found in a network, nor reach a server.
func TestLinkLocalPeers(t *testing.T) {
	t.Parallel()
	lab.NeedRoot(t)
	l := lab.Start(t, lab.Spec{Links: []lab.LinkSpec{{
		Name: "link", A: "client", B: "gateway",
		Addr6A: netip.MustParsePrefix("fe80::a/64"), Addr6B: netip.MustParsePrefix("fe80::b/64"),
	}}})
	ctx, cancel := context.WithTimeout(context.Background(), proxytest.Patience)
	defer cancel()
	front, err := l.Place("gateway").Listen(ctx, lab.TCP, "[::]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer front.Close()
	index := 0
	if err := l.Place("client").Do(func() error {
		i, err := net.InterfaceByName("link")
		if err == nil {
			index = i.Index
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	to := fmt.Sprintf("[fe80::b%%%d]:%d", index, front.Addr().(*net.TCPAddr).Port)

	o := plain.origin(t, proxytest.Echo)
	linkLocal := []netip.Prefix{netip.MustParsePrefix("fe80::/10")}
	const request = "GET / HTTP/1.1\r\n" + host + "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n\r\n"
	// serve has g take one connection from the client in the lab.
	serve := func(t *testing.T, g *gateway) *proxytest.Client {
		nc, err := l.Place("client").Dial(ctx, lab.TCP, netip.Addr{}, to)
		if err != nil {
			t.Fatal(err)
		}
		accepted, err := front.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		if a := accepted.RemoteAddr().(*net.TCPAddr); a.Zone == "" {
			t.Fatalf("the peer %v has no zone", a)
		}
		g.proxy.Accept(accepted, g.front, false)
		return proxytest.NewClient(t, nc)
	}
	for name, e := range map[string]struct {
		options proxy.ListenerOptions
		header  string
		fields  []string
		client  string
	}{
		"no trust": {proxy.ListenerOptions{}, "", []string{"X-Forwarded-For: fe80::a\r\n", "X-Real-IP: fe80::a\r\n",
			"X-Forwarded-Proto: http\r\n"}, "fe80::a"},
		"trusted": {proxy.ListenerOptions{Trusted: linkLocal}, "",
			[]string{"X-Forwarded-For: 203.0.113.9, fe80::a\r\n", "X-Real-IP: 203.0.113.9\r\n",
				"X-Forwarded-Proto: https\r\n"}, "203.0.113.9"},
		"PROXY header": {proxy.ListenerOptions{ProxyHeader: proxy.ProxyRequired, ProxyHeaderFrom: linkLocal},
			"PROXY TCP4 192.0.2.9 192.0.2.1 1111 80\r\n",
			[]string{"X-Forwarded-For: 192.0.2.9\r\n", "X-Real-IP: 192.0.2.9\r\n"}, "192.0.2.9"},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, setup{listener: e.options}, o)
			c := serve(t, g)
			c.Send(e.header + request)
			want(t, "status", c.Answer().Status, 200)
			line := g.log.Next()
			want(t, "client", line.Client, e.client)
			if !strings.HasPrefix(line.Peer, "[fe80::a%") {
				t.Errorf("the peer is %q, want it with its zone", line.Peer)
			}
			raw := o.Raw()
			contains(t, "what the server got", raw[len(raw)-1], e.fields...)
			lacks(t, "what the server got", raw[len(raw)-1], "%")
		})
	}
	t.Run("connections of one client", func(t *testing.T) {
		g := start(t, setup{options: proxy.Options{Limits: proxy.Limits{PerClient: 1}}}, o)
		first := serve(t, g)
		want(t, "status", first.Get("/").Status, 200)
		second := serve(t, g)
		if rest, err := io.ReadAll(second.R); len(rest) > 0 {
			t.Errorf("a second connection got %q, %v", rest, err)
		}
		want(t, "status", first.Get("/").Status, 200)
	})
}
