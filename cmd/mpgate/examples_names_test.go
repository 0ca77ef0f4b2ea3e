package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"mpgate/admin"
	"mpgate/internal/dnstest"
	"mpgate/internal/proxytest"
)

// runNames runs the example with a DNS server of the test's own. One of the servers moves.
func runNames(t *testing.T) {
	dns := dnstest.New(t)
	port := func(name string) string {
		_, port, err := net.SplitHostPort(named(t, name, nil))
		if err != nil {
			t.Fatal(err)
		}
		return port
	}
	app, api, shop, moved := port("app"), port("api"), port("shop"), port("moved")
	record := func(port string) string {
		return fmt.Sprintf("_http._tcp.shop.service.consul. 1 IN SRV 1 1 %s node.example.", port)
	}
	local := []string{"app.internal.example. 1 IN A 127.0.0.1", "api.internal.example. 1 IN A 127.0.0.1", "node.example. 1 IN A 127.0.0.1"}
	dns.Set(append(local, record(shop))...)
	own := fmt.Sprintf("resolve = { servers = [%q] }\n", dns.Addr)
	file := example(t, "names.toml", "0.0.0.0:8080", "127.0.0.1:0", ".example:9000", ".example:"+app, ".example:9001", ".example:"+api,
		`resolve = { every = "30s", servers = ["127.0.0.1:8600"] }`+"\n", "",
		`name    = "app"`, own+`name    = "app"`, `name    = "api"`+"\nservers", own+`name    = "api"`+"\nservers", `name    = "shop"`+"\nservers", own+`name    = "shop"`+"\nservers")
	p := start(t, nil, "run", "-c", file)
	web := p.ready("web")[0]
	ask := func(path string) string {
		a := <-get("http://" + web + path)
		if a.err != nil {
			t.Fatal(a.err)
		}
		return strings.TrimSpace(a.body)
	}
	for path, want := range map[string]string{"/": "app", "/api/x": "api", "/shop/x": "shop"} {
		if got := ask(path); got != want {
			t.Errorf("%s: %q answers, want %q", path, got, want)
		}
	}
	var s admin.Status
	if out, err := exec.Command(binary, "status", "--json", "-c", file).Output(); err != nil || json.Unmarshal(out, &s) != nil {
		t.Fatalf("status: %v\n%s", err, out)
	}
	found := map[string]string{}
	for _, b := range s.Backends {
		for _, n := range b.Names {
			found[n.Kind] += fmt.Sprint(b.Name, n.Found)
		}
	}
	want := map[string]string{
		"all": "api[127.0.0.1]", "srv": "shop[node.example:" + shop + " priority 1 weight 1]",
	}
	for kind, text := range want {
		if found[kind] != text {
			t.Errorf("status: %s is %q, want %q", kind, found[kind], text)
		}
	}
	if !strings.Contains(found["address"], "app[127.0.0.1]") {
		t.Errorf("status: addresses are %q", found["address"])
	}
	for _, c := range []struct{ args, want string }{
		{"status", "node.example:" + shop + " priority 1 weight 1"},
		{"explain http://example.org/shop/x", "_http._tcp.shop.service.consul is node.example:" + shop + " priority 1 weight 1 at present"},
	} {
		out, err := exec.Command(binary, append(strings.Fields(c.args), "-c", file)...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %v, no %q in\n%s", c.args, err, c.want, out)
		}
	}
	dns.Set(append(local, record(moved))...)
	if !proxytest.Within(proxytest.Patience, func() bool { return ask("/shop/x") == "moved" }) {
		t.Error("the server that has moved is not followed")
	}
	dns.Behave(dnstest.Silent)
	p.signal(syscall.SIGHUP) // nothing has changed; the names are kept
	if got := ask("/shop/x") + ask("/api/x") + ask("/"); got != "movedapiapp" {
		t.Errorf("%q answer while the resolver is silent", got)
	}
	p.signal(syscall.SIGTERM)
	p.exits(0)
}
