package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

const explainedFile = `state_dir = "state"
[log]
access = "off"
[admin]
address = "off"
[[listener]]
name        = "web"
address     = "127.0.0.1:0"
health_path = "/ready"
[[listener]]
name           = "redirects"
address        = "127.0.0.1:0"
redirect_https = true
[[listener]]
name    = "secure"
address = "127.0.0.1:0"
[listener.tls]
local = true
[[listener.tls.policy]]
hosts       = ["strict.test", "*.strict.test"]
min_version = "1.3"
[[route]]
name    = "rest"
backend = "app"
match   = { host = "a.test" }
[[route]]
name    = "guarded"
backend = "app"
match   = { host = "a.test", path = "/admin/*" }
[[route]]
name    = "keeps"
backend = "app"
encoded_slash = "keep"
match   = { host = "a.test", path = "/files/*" }
[[route]]
name    = "slashes"
backend = "app"
duplicate_slashes = "keep"
match   = { host = "a.test", path = "/slashes/*" }
[[route]]
name    = "strict"
backend = "app"
match   = { host = "*.strict.test" }
[[route]]
name    = "anybody"
backend = "app"
match   = { path = "/open" }
[[backend]]
name    = "app"
servers = [ { address = %q } ]
`

// What explain says is what the gateway does: both are asked the same.
func TestExplainIsTrue(t *testing.T) {
	t.Parallel()
	app := proxytest.NewOrigin(t, mptcp.Off, proxytest.Always(proxytest.Response("200 OK", "", "Served-By: app"))).Address()
	file := write(t, "mpgate.toml", fmt.Sprintf(explainedFile, app))
	p := start(t, nil, "run", "-c", file)
	addresses := map[string]string{}
	names := []string{"web", "redirects", "secure"}
	for i, a := range p.ready(names...) {
		addresses[names[i]] = a
	}
	for _, tt := range []struct{ listener, method, host, target, sni string }{
		{"web", "GET", "a.test", "/", ""},
		{"web", "GET", "A.TEST:8080", "/x/../y?q", ""},
		{"web", "GET", "a.test", "/ready", ""},
		{"web", "POST", "b.test", "/ready", ""},
		{"web", "GET", "b.test", "/", ""},
		{"web", "GET", "b.test", "/open", ""},
		{"web", "GET", "", "/open", ""},
		{"web", "GET", "", "/", ""},
		{"web", "GET", "a.test", "/admin%2fx", ""},
		{"web", "GET", "a.test", "/files/a%2fb", ""},
		{"web", "GET", "a.test", "/files/..%2fadmin/x", ""},
		{"web", "GET", "a.test", "/files%2f..%2fadmin", ""},
		{"web", "GET", "a.test", "/%2561dmin", ""},
		{"web", "GET", "a.test", "/admin;x", ""},
		{"web", "GET", "a.test", "/;/admin/y", ""},
		{"web", "GET", "a.test", "/%3bx/admin/y", ""},
		{"web", "GET", "a.test", "/shop;jsessionid=1", ""},
		{"web", "GET", "a.test", "/slashes//a//b", ""},
		{"web", "GET", "a.test", "//slashes/a", ""},
		{"web", "GET", "a.test", "/slashes/a//../b", ""},
		{"web", "GET", "a.test", "//admin", ""},
		{"web", "GET", "a.test", "/x%zz", ""},
		{"web", "GET", "a.test", "/../x", ""},
		{"web", "GET", "", "*", ""},
		{"web", "OPTIONS", "", "*", ""},
		{"web", "CONNECT", "a.test", "a.test:443", ""},
		{"web", "G(T", "a.test", "/", ""},
		{"web", "GET", "a_b.test", "/", ""},
		{"web", "GET", "a b.test", "/", ""},
		{"web", "GET", "a.test:x", "/", ""},
		{"web", strings.Repeat("M", 40), "a.test", "/", ""},
		{"redirects", "GET", "a.test", "/x?y", ""},
		{"redirects", "GET", "b.test", "/admin%2fx", ""},
		{"redirects", "GET", "", "/", ""},
		{"secure", "GET", "a.test", "/", "a.test"},
		{"secure", "GET", "in.strict.test", "/", "in.strict.test"},
		{"secure", "GET", "in.strict.test", "/", "a.test"},
		{"secure", "GET", "in.strict.test", "/", "x.strict.test"}, // the same policy
		{"secure", "GET", "strict.test", "/", "strict.test"},
		{"secure", "GET", "b.test", "/", "a.test"},
		{"secure", "GET", "a.test", "/", "strict.test"},
		{"secure", "GET", "a.test", "/", ""},
	} {
		got := explainedAs(t, file, tt.listener, tt.method, tt.host, tt.target, tt.sni)
		c := proxytest.Dial(t, addresses[tt.listener], mptcp.Off)
		if tt.listener == "secure" {
			c.Secure(&tls.Config{ServerName: tt.sni, InsecureSkipVerify: true})
		}
		if tt.host == "" {
			c.Send(tt.method + " " + tt.target + " HTTP/1.0\r\n\r\n")
		} else {
			c.Send(tt.method + " " + tt.target + " HTTP/1.1\r\nHost: " + tt.host + "\r\n\r\n")
		}
		a := c.AnswerTo(tt.method)
		c.Close()
		want := fmt.Sprintf("%d of mpgate", a.Status)
		if a.Header("Served-By") == "app" {
			want = "of a server"
		}
		if got != want {
			t.Errorf("%s %s of %q at %s, connected for %q: explain says %s, the answer is %s", tt.method, tt.target, tt.host, tt.listener, tt.sni, got, want)
		}
	}
}

// explainedAs is who answers, and with which status, as explain says.
func explainedAs(t *testing.T, file, listener, method, host, target, sni string) string {
	t.Helper()
	scheme := "http://"
	if listener == "secure" {
		scheme = "https://"
	}
	url := scheme + host + target
	switch {
	case host == "" || target == "*":
		url = target
	case method == "CONNECT":
		url = scheme + target
	}
	args := []string{"explain", "-c", file, "-l", listener, "-X", method, "--json", "--", url}
	if sni != "" {
		args = append([]string{"explain", "--sni", sni}, args[1:]...)
	}
	var out, fault bytes.Buffer
	code := execute(args, &program{stdout: &out, stderr: &fault})
	var list []explained
	if err := json.Unmarshal(out.Bytes(), &list); err != nil || len(list) != 1 {
		t.Fatalf("%q: exit code %d, %v: %s%s", args, code, err, &out, &fault)
	}
	if list[0].Backend != "" {
		return "of a server"
	}
	return fmt.Sprintf("%d of mpgate", list[0].Status)
}
