package gateway

import (
	"fmt"
	"strings"
	"testing"

	"mpgate/internal/proxytest"
)

// Every kind of condition, and the precedence of routes, on real requests.
func TestMatch(t *testing.T) {
	web, other := proxytest.FreeAddress(t), proxytest.FreeAddress(t)
	file := head
	for name, address := range map[string]string{"web": web, "other": other} {
		file += listenerTable(name, address, "protocols = [\"h1\", \"h2c\"]\ntrusted_proxies = [\"127.0.0.1\"]")
	}
	for name, match := range map[string]string{
		"exact-host": `host = "a.example"`,
		"wildcard":   `host = "*.a.example"`,
		"tail":       `host = ["cloud.*", "b.example"]`,
		"literal":    `path = "/api/users/me"`,
		"prefix":     `path = ["/api/*", "/v0/*"]`,
		"longer":     `path = "/api/users/*"`,
		"glob":       `path = "/*/objects/*.json"`,
		"star":       `path = "/*/objects/*"`,
		"deep":       `path = "/**/.git/*"`,
		"ending":     `path = "*.js"`,
		"regexp":     `path_regex = "^/v([0-9]+)/"`,
		"listener":   `path = "/api/*", listener = "other"`,
		"methods":    `path = "/c/*", method = ["POST", "PUT"]`,
		"header":     `path = "/c/*", header = { X-Kind = "one" }`,
		"has-header": `path = "/d/*", header = { X-Any = "*" }`,
		"no-header":  `path = "/e/*", header = { X-Old = "" }`,
		"query":      `path = "/c/*", query = { v = "2 3" }`,
		"cookie":     `path = "/c/*", cookie = { beta = "*" }`,
		"client":     `path = "/c/*", client = ["192.0.2.0/24", "2001:db8::/32"]`,
		"unspecific": `path = "/c/*"`,
		"several":    `path = "/f/*", method = "GET", query = { a = "*" }, cookie = { c = "1" }`,
		"rest":       ``,
	} {
		file += fmt.Sprintf("[[route]]\nname = %q\nmatch = { %s }\nanswer = {}\nresponse_headers = { X-Route = %q }\n", name, match, name)
	}
	startRig(t, file, nil)
	for _, two := range []bool{false, true} {
		c := clientOf(t, two)
		for _, tt := range []struct{ request, fields, want string }{
			{"GET /api/x", "Host: a.example", "exact-host"},
			{"GET /api/x", "Host: A.EXAMPLE:80", "exact-host"},
			{"GET /api/x", "Host: x.a.example", "wildcard"},
			{"GET /api/x", "Host: x.y.a.example", "prefix"}, // one label
			{"GET /api/x", "Host: cloud.example.org", "tail"},
			{"GET /api/x", "Host: b.example", "tail"},
			{"GET /api/x", "Host: xcloud.example.org", "prefix"},
			{"GET /api/users/me", "", "literal"},
			{"GET /api/users/%6de", "", "literal"},
			{"GET /api/users/me/x", "", "longer"},
			{"GET /api", "", "prefix"},
			{"GET /apiary", "", "rest"},
			{"GET /v0", "", "prefix"},
			{"GET /x/objects/a.json", "", "glob"},
			{"GET /x/objects/a.xml", "", "star"},
			{"GET /x/y/objects/a.json", "", "rest"},
			{"GET /api/objects/a.json", "", "prefix"}, // a literal segment comes before a star
			{"GET /a/b/.git/config", "", "deep"},
			{"GET /.git/config", "", "deep"},
			{"GET /a/b/main.js", "", "ending"},
			{"GET /a/b/main.jsx", "", "rest"},
			{"GET /v12/x", "", "regexp"},
			{"GET /v12/main.js", "", "ending"}, // paths come before expressions
			{"GET /vx/x", "", "rest"},
			{"POST /c/x", "", "methods"},
			{"PATCH /c/x", "", "unspecific"},
			{"GET /c/x", "X-Kind: one", "header"},
			{"GET /c/x", "X-Kind: two", "unspecific"},
			{"GET /c/x", "X-Kind: two|X-Kind: one", "header"},
			{"GET /d/x", "x-any: 1", "has-header"},
			{"GET /d/x", "", "rest"},
			{"GET /e/x", "", "no-header"},
			{"GET /e/x", "X-Old: 1", "rest"},
			{"GET /c/x?v=2+3", "", "query"},
			{"GET /c/x?a&v=2%203", "", "query"},
			{"GET /c/x?v=2", "", "unspecific"},
			{"GET /c/x", "Cookie: a=1; beta=", "cookie"},
			{"GET /c/x", "Cookie: alphabeta=1", "unspecific"},
			{"GET /c/x", "X-Forwarded-For: 192.0.2.7", "client"},
			{"GET /c/x", "X-Forwarded-For: 2001:db8::7", "client"},
			{"GET /c/x", "X-Forwarded-For: 192.0.3.7", "unspecific"},
			{"GET /f/x?a=1", "Cookie: c=1", "several"},
			{"GET /f/x?a=1", "Cookie: c=2", "rest"},
			{"GET /f/x", "Cookie: c=1", "rest"},
			{"POST /f/x?a=1", "Cookie: c=1", "rest"},
		} {
			method, path, _ := strings.Cut(tt.request, " ")
			var fields []string
			if tt.fields != "" {
				fields = strings.Split(tt.fields, "|")
			}
			resp, _ := askWith(t, c, method, "http://"+web+path, fields...)
			if got := resp.Header.Get("X-Route"); got != tt.want {
				t.Errorf("h2 %v: %s with %q: got %q, want %s", two, tt.request, tt.fields, got, tt.want)
			}
		}
		if resp, _ := askWith(t, c, "GET", "http://"+other+"/api/x"); resp.Header.Get("X-Route") != "listener" {
			t.Errorf("h2 %v: at the other listener: got %v", two, resp.Header)
		}
	}
}
