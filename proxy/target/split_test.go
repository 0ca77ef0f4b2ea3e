package target

import (
	"bufio"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestSplit(t *testing.T) {
	for _, tt := range []struct {
		method, target string
		form           Form
		scheme         string
		authority      string
		path           string
		query          string
		hasQuery       bool
		err            string
	}{
		{method: "GET", target: "/", path: "/"},
		{method: "GET", target: "/a?b?c", path: "/a", query: "b?c", hasQuery: true},
		{method: "GET", target: "/a?", path: "/a", hasQuery: true},
		{method: "GET", target: "//host/a", path: "//host/a"},
		{method: "OPTIONS", target: "/a", path: "/a"},
		{method: "GET", target: "http://h/a?b", form: Absolute, scheme: "http", authority: "h", path: "/a", query: "b", hasQuery: true},
		{method: "GET", target: "HTTPS://H:8443/", form: Absolute, scheme: "https", authority: "H:8443", path: "/"},
		{method: "GET", target: "http://h", form: Absolute, scheme: "http", authority: "h", path: "/"},
		{method: "GET", target: "http://[::1]:80?q", form: Absolute, scheme: "http", authority: "[::1]:80", path: "/", query: "q", hasQuery: true},
		{method: "OPTIONS", target: "*", form: Asterisk, path: "*"},
		{method: "OPTIONS", target: "http://h:8001", form: Asterisk, scheme: "http", authority: "h:8001", path: "*"},
		{method: "OPTIONS", target: "http://h/", form: Absolute, scheme: "http", authority: "h", path: "/"},
		{method: "OPTIONS", target: "http://h?", form: Absolute, scheme: "http", authority: "h", path: "/", hasQuery: true},
		{method: "CONNECT", target: "h:443", form: Authority, authority: "h:443"},
		{method: "CONNECT", target: "[::1]:443", form: Authority, authority: "[::1]:443"},

		{method: "GET", target: "", err: "request target: empty"},
		{method: "CONNECT", target: "", err: "request target: empty"},
		{method: "GET", target: "*", err: `request target: "*" is for OPTIONS only`},
		{method: "OPTIONS", target: "*x", err: `request target: neither a path, nor an http or https URL, nor "*"`},
		{method: "GET", target: "a", err: `request target: neither a path, nor an http or https URL, nor "*"`},
		{method: "GET", target: "h:443", err: `request target: neither a path, nor an http or https URL, nor "*"`},
		{method: "GET", target: "?q", err: `request target: neither a path, nor an http or https URL, nor "*"`},
		{method: "GET", target: "\\\\h\\a", err: `request target: neither a path, nor an http or https URL, nor "*"`},
		{method: "GET", target: "ftp://h/", err: `request target: neither a path, nor an http or https URL, nor "*"`},
		{method: "GET", target: "http:/h/", err: `request target: neither a path, nor an http or https URL, nor "*"`},
		{method: "GET", target: "http:", err: `request target: neither a path, nor an http or https URL, nor "*"`},
		{method: "GET", target: "http://", err: "request target: the URL has no host, or has a user"},
		{method: "GET", target: "http:///a", err: "request target: the URL has no host, or has a user"},
		{method: "GET", target: "http://u@h/", err: "request target: the URL has no host, or has a user"},
		{method: "GET", target: "http://h#f", err: "request target: the URL has no host, or has a user"},
		{method: "CONNECT", target: "/", err: "request target: CONNECT requires host:port"},
		{method: "CONNECT", target: "h", err: "request target: CONNECT requires host:port"},
		{method: "CONNECT", target: "h:", err: "request target: CONNECT requires host:port"},
		{method: "CONNECT", target: ":443", err: "request target: CONNECT requires host:port"},
		{method: "CONNECT", target: "u@h:443", err: "request target: CONNECT requires host:port"},
		{method: "CONNECT", target: "http://h:80", err: "request target: CONNECT requires host:port"},
		{method: "CONNECT", target: "h:x", err: "request target: CONNECT requires host:port"},
		{method: "CONNECT", target: "*", err: "request target: CONNECT requires host:port"},
	} {
		p, err := Split([]byte(tt.method), []byte(tt.target))
		if err != nil || tt.err != "" {
			if err == nil || err.Error() != tt.err {
				t.Errorf("Split(%s, %q): got error %v, want %q", tt.method, tt.target, err, tt.err)
			}
			continue
		}
		if p.Form != tt.form || p.Scheme != tt.scheme || string(p.Authority) != tt.authority || string(p.Path) != tt.path ||
			string(p.Query) != tt.query || (p.Query != nil) != tt.hasQuery {
			t.Errorf("Split(%s, %q) = %v %q %q %q %q", tt.method, tt.target, p.Form, p.Scheme, p.Authority, p.Path, p.Query)
		}
	}
}

// What Split, Host, Path and Query accept, net/http accepts too, and finds the same host, path and
// query in it.
func FuzzSplit(f *testing.F) {
	for _, s := range []string{"/", "/a%2fb?c=d", "http://H:80/x", "*", "h:443", "//a", "http://[::1]?q"} {
		for _, m := range []string{"GET", "OPTIONS", "CONNECT"} {
			f.Add(m, s)
		}
	}
	f.Fuzz(func(t *testing.T, method, target string) {
		if method != "OPTIONS" && method != "CONNECT" {
			method = "GET"
		}
		var scratch []byte
		p, err := Split([]byte(method), []byte(target))
		if err != nil || p.Form == Authority {
			return
		}
		var host []byte
		if p.Authority != nil {
			if host, _, err = Host(p.Authority, &scratch); err != nil {
				return
			}
		}
		if p.Form != Asterisk {
			if _, _, err = Path(p.Path, &scratch); err != nil {
				return
			}
		}
		if _, err = Query(p.Query, &scratch); err != nil {
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(method + " " + target + " HTTP/1.1\r\nHost: x\r\n\r\n")))
		if err != nil {
			t.Fatalf("net/http refuses %s %q, which was accepted: %v", method, target, err)
		}
		if p.Form == Absolute && !strings.EqualFold(r.Host, string(p.Authority)) {
			t.Fatalf("%s %q: host %q (canonical %q), net/http says %q", method, target, p.Authority, host, r.Host)
		}
		if decoded, _ := url.PathUnescape(string(p.Path)); p.Form == Origin && (r.URL.Path != decoded || r.URL.RawQuery != string(p.Query)) {
			t.Fatalf("%s %q: path %q query %q, net/http says %q %q", method, target, decoded, p.Query, r.URL.Path, r.URL.RawQuery)
		}
	})
}

func TestNoAllocation(t *testing.T) {
	scratch := make([]byte, 0, 512)
	method := []byte("GET")
	for _, s := range []string{
		"/a/b/c?d=e", "http://EXAMPLE.org:80/a//b/%2e%2E/%c3%a9?x=|", "http://[2001:DB8::1]/", "/a/..%2fb", "/%3a",
		"http://[2001:db8:1111:2222:3333:4444:192.168.100.228]:443/", "http://[zz]/", "x", "http://a..b/",
	} {
		raw := []byte(s)
		n := testing.AllocsPerRun(100, func() {
			scratch = scratch[:0]
			p, err := Split(method, raw)
			if err != nil {
				return
			}
			if p.Authority != nil {
				_, _, _ = Host(p.Authority, &scratch)
			}
			canonical, flags, err := Path(p.Path, &scratch)
			if err == nil && flags != 0 {
				Decoded(canonical, &scratch)
			}
			_, _ = Query(p.Query, &scratch)
		})
		// The error of netip is the one exception: a refused IPv6 address.
		if want := map[bool]float64{true: 1}[strings.Contains(s, "[zz]")]; n != want {
			t.Errorf("%q: %v allocations, want %v", s, n, want)
		}
	}
}

func BenchmarkPath(b *testing.B) {
	for _, bb := range []struct{ name, path string }{
		{"canonical", "/api/v1/users/12345/orders"},
		{"escaped", "/api/v1/caf%C3%A9/orders/a%20b"},
		{"dots", "/api/./v1//users/../users/%31"},
	} {
		b.Run(bb.name, func(b *testing.B) {
			raw, scratch := []byte(bb.path), make([]byte, 0, 256)
			b.ReportAllocs()
			for b.Loop() {
				scratch = scratch[:0]
				_, _, _ = Path(raw, &scratch)
			}
		})
	}
}

func BenchmarkHost(b *testing.B) {
	for _, host := range []string{"www.example.org:8080", "WWW.example.org.", "[2001:DB8::1]:443"} {
		b.Run(host, func(b *testing.B) {
			raw, scratch := []byte(host), make([]byte, 0, 256)
			b.ReportAllocs()
			for b.Loop() {
				scratch = scratch[:0]
				_, _, _ = Host(raw, &scratch)
			}
		})
	}
}

func BenchmarkSplit(b *testing.B) {
	method, raw := []byte("GET"), []byte("/api/v1/users/12345/orders?limit=10")
	b.ReportAllocs()
	for b.Loop() {
		_, _ = Split(method, raw)
	}
}
