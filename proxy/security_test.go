package proxy_test

import (
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/files"
	"mpgate/proxy/filter"
	"mpgate/proxy/filter/auth"
	"mpgate/proxy/filter/limit"
	"mpgate/proxy/route"
	"mpgate/telemetry"
)

// What broke the filters and actions of other proxies, in both versions of HTTP. Cases with tests
// elsewhere: fields that clients send in place of forward_auth (forwardauth_test.go), paths before
// and after rewrite and redirects to other hosts (filters_test.go), spoofed X-Forwarded-For and
// rates (limit_test.go), filters of a single route (auth_test.go).

// issuer signs tokens.
type issuer struct {
	keys   *auth.Keys
	signer jose.Signer
}

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "1", Algorithm: "ES256", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, set, 0o600); err != nil {
		t.Fatal(err)
	}
	i := new(issuer)
	if i.keys, err = auth.NewKeys(auth.KeysOptions{Name: "keys", File: file}); err != nil {
		t.Fatal(err)
	}
	i.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func (i *issuer) token(t testing.TB, claims map[string]any) string {
	t.Helper()
	text, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := i.signer.Sign(text)
	if err != nil {
		t.Fatal(err)
	}
	s, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The fields of claims come from the token only, and no token but a signed one is valid.
func TestTokenCannotBeForged(t *testing.T) {
	eachVersion(t, func(t *testing.T, ask func(*gateway, wish) reply) {
		from := newIssuer(t)
		f, err := auth.NewJWT(auth.JWTOptions{
			Keys: from.keys, Memory: auth.NewMemory(), Audience: []string{"api"},
			Claims: []auth.Claim{{Field: "X-User", Name: "sub"}, {Field: "X-Role", Name: "role"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		g := guarded(t, plain.origin(t, echoHeads), proxy.Route{KeepUnsafeNames: true}, f)
		later := time.Now().Add(time.Hour).Unix()
		good := from.token(t, map[string]any{"sub": "alice", "aud": "api", "exp": later})
		for range 2 { // the second is remembered
			r := ask(g, wish{
				method: "POST", body: "x",
				fields:  []string{"Authorization: Bearer " + good, "X-User: root", "x_user: root", "X.Role: root", "X-Role: root"},
				trailer: []string{"X-User: root", "X-Role: root", "X_Role: root", "X-Sum: 1"},
			})
			want(t, "status", r.status, 200)
			sent := strings.ToLower(r.body)
			contains(t, "the server gets", sent, "x-user: alice\r\n", "x-sum: 1")
			lacks(t, "the server gets", sent, "root")
		}
		part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
		pieces := strings.Split(good, ".")
		for what, token := range map[string]string{
			"no token":         "x",
			"alg none":         part(`{"alg":"none"}`) + "." + pieces[1] + ".",
			"alg None":         part(`{"alg":"None"}`) + "." + pieces[1] + "." + pieces[2],
			"alg HS256":        part(`{"alg":"HS256","kid":"1"}`) + "." + pieces[1] + "." + pieces[2],
			"no signature":     pieces[0] + "." + pieces[1] + ".",
			"other claims":     pieces[0] + "." + part(`{"sub":"root","aud":"api"}`) + "." + pieces[2],
			"another issuer":   newIssuer(t).token(t, map[string]any{"sub": "root", "aud": "api", "exp": later}),
			"another audience": from.token(t, map[string]any{"sub": "alice", "aud": "other", "exp": later}),
			"expired":          from.token(t, map[string]any{"sub": "alice", "aud": "api", "exp": later - 7200}),
			"not yet":          from.token(t, map[string]any{"sub": "alice", "aud": "api", "exp": later, "nbf": later - 10}),
			"a key in the token": part(`{"alg":"ES256","jwk":{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}}`) + "." +
				pieces[1] + "." + pieces[2],
		} {
			for _, method := range []string{"GET", "OPTIONS", "POST"} {
				r := ask(g, wish{method: method, fields: []string{"Authorization: Bearer " + token, "X-User: root"}})
				want(t, what+": status of "+method, r.status, 401)
				contains(t, what, r.head, "www-authenticate: bearer")
			}
		}
	})
}

// A route with a filter beside one without: no spelling of the path, the host or the method of a
// request that a server would serve as the first comes to it by the second.
func TestGuardedRouteBesideAnOpenOne(t *testing.T) {
	eachVersion(t, func(t *testing.T, ask func(*gateway, wish) reply) {
		origin := plain.origin(t, echoHeads)
		s := setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}
		s.routes = func(b *backend.Backend) []proxy.Route {
			to := &proxy.Forward{Backend: b}
			return []proxy.Route{
				{Name: "open", Action: to},
				{Name: "admin", Match: route.Match{Paths: []string{"/admin/*", "/**/*.secret"}}, Action: to, Filters: filter.Compile(basicFilter(t))},
				{Name: "write", Match: route.Match{Paths: []string{"/write/*"}, Methods: []string{"POST"}}, Action: to, Filters: filter.Compile(basicFilter(t))},
			}
		}
		g := start(t, s, origin)
		for path, status := range map[string]int{
			"/admin": 401, "/admin/": 401, "/admin/x": 401, "//admin/x": 401, "/./admin": 401, "/x/../admin": 401, "/%61dmin": 401,
			"/ad%6Din/x": 401, "/admin?x=1": 401, "/x/%2e%2e/admin": 401, "/a/b.secret": 401, "/a/b%2Esecret": 401, "/b.secret?/": 401,
			"/admin%2fx": 400, "/x%2f..%2fadmin": 400, "/;/admin": 400, "/admin;x": 400, "/x/..;/admin": 400, "/admin%00": 400,
			`/x/..%5cadmin`: 400, "/b.secret;x": 400, "/%2561dmin": 200, "/x/y": 200,
		} {
			r := ask(g, wish{path: path})
			if r.status != status && (status == 200 || r.status != 400 && r.status != 401) {
				t.Errorf("%s: status %d, want %d", path, r.status, status)
			}
		}
		for method, status := range map[string]int{"POST": 401, "GET": 200, "PUT": 200} {
			want(t, method+" /write/x", ask(g, wish{method: method, path: "/write/x"}).status, status)
			w := wish{method: method, path: "/write/x", fields: []string{"X-HTTP-Method-Override: POST", "X-Method-Override: POST", "X-HTTP-Method: POST"}}
			want(t, method+" /write/x with another method in a field", ask(g, w).status, status)
		}
		lacks(t, "the server gets", origin.AllRaw(), "/admin", "secret", "POST /write")
	})
}

// No path leads out of the directory of files, and links do not either.
func TestFilesStayInTheirDirectory(t *testing.T) {
	outside := tree(t, map[string]string{"secret": "outside", "www/index.html": "home", "www/a/b.txt": "inside", "www/.env": "hidden", "wwwx/secret": "outside"})
	root := filepath.Join(outside, "www")
	for link, to := range map[string]string{"up": "..", "secret": "../secret", "abs": filepath.Join(outside, "secret"), "a/up": "../../wwwx", "in": "a"} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	eachVersion(t, func(t *testing.T, ask func(*gateway, wish) reply) {
		for _, keep := range []bool{false, true} {
			r, err := files.New(files.Options{Root: root, Index: "index.html"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(r.Close)
			s := setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}
			s.routes = func(*backend.Backend) []proxy.Route {
				return []proxy.Route{{Name: "all", Action: &proxy.Files{Root: r}, KeepEncodedSlash: keep, KeepSlashes: keep}}
			}
			g := startBefore(t, s, nowhere)
			for path, body := range map[string]string{"/": "home", "/a/b.txt": "inside", "/a/../a/b.txt": "inside", "/in/b.txt": "inside"} {
				if got := ask(g, wish{path: path}); got.status != 200 || got.body != body {
					t.Errorf("%s: %d %q, want %q", path, got.status, got.body, body)
				}
			}
			for _, path := range []string{
				"/../secret", "/a/../../secret", "/%2e%2e/secret", "/..%2fsecret", "/a%2f..%2f..%2fsecret", "/..%5csecret", `/..\secret`,
				"/..;/secret", "/a/..;/..;/secret", "/up/secret", "/secret", "/abs", "/a/up/secret", "/../wwwx/secret", "//secret/../../secret",
				"/%00/../secret", "/a/b.txt%00.html", "/%c0%ae%c0%ae/secret", "/%252e%252e/secret", "/.env", "/a/.%2e/.env", "/proc/self/environ",
				"//" + outside + "/secret", "/" + strings.Repeat("../", 40) + "etc/passwd", "/a/b.txt/", "/a/b.txt/..%2f..%2f..%2fsecret",
			} {
				got := ask(g, wish{path: path})
				if got.status != 404 && got.status != 400 {
					t.Errorf("%s: status %d", path, got.status)
				}
				lacks(t, path, got.head+got.body, "outside", "hidden", "inside", "root:")
			}
		}
	})
}

// What is compressed is never decoded here: a body that would become large stays small, on its way
// to the server, to a mirror and back.
func TestCompressedBodiesStayCompressed(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	for range 64 {
		if _, err := z.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	eachVersion(t, func(t *testing.T, ask func(*gateway, wish) reply) {
		origin := plain.origin(t, func(c *proxytest.Conn) {
			for r := c.Request(); r != nil; r = c.Request() {
				c.Send(proxytest.Response("200 OK", r.Body, "Content-Type: text/html", "Content-Encoding: gzip", "X-Got: "+r.Header("Content-Encoding")))
			}
		})
		copies := make(chan string, 1)
		shadow := plain.origin(t, func(c *proxytest.Conn) {
			for r := c.Request(); r != nil; r = c.Request() {
				copies <- r.Body
				c.Send(proxytest.Response("200 OK", ""))
			}
		})
		in := telemetry.NewInstruments("test")
		g := guarded(t, origin, proxy.Route{}, limit.New(limit.Options{Body: 100 << 10}), filter.NewCompress(filter.CompressOptions{}), mirrorTo(t, in, shadow))
		r := ask(g, wish{method: "POST", body: bomb.String()[:50<<10], fields: []string{"Content-Encoding: gzip", "Accept-Encoding: zstd, gzip"}})
		want(t, "status", r.status, 200)
		contains(t, "the head", r.head, "content-encoding: gzip", "x-got: gzip")
		if r.body != bomb.String()[:50<<10] {
			t.Errorf("%d bytes came back, want %d", len(r.body), 50<<10)
		}
		select {
		case body := <-copies:
			want(t, "bytes of the copy", len(body), 50<<10)
		case <-time.After(proxytest.Patience):
			t.Error("no copy came")
		}
	})
}

// An expression that takes exponential time in other engines takes none here (RE2).
func TestPathRegexTakesLinearTime(t *testing.T) {
	eachVersion(t, func(t *testing.T, ask func(*gateway, wish) reply) {
		s := setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}
		s.routes = func(b *backend.Backend) (list []proxy.Route) {
			for name, expression := range map[string]string{
				"nested": "^/(a+)+$", "or": "^/(a|aa)+$", "stars": "^/(.*)*x$", "mail": "^/([a-z]+)*@[a-z]+$", "many": "^/a?a?a?a?a?a?a?a?a?a?aaaaaaaaaa$", "count": "^/(a{1,50}){1,10}!$",
			} {
				list = append(list, proxy.Route{Name: name, Match: route.Match{PathRegex: expression}, Action: &proxy.Forward{Backend: b}})
			}
			return list
		}
		g := start(t, s, plain.origin(t, proxytest.Echo))
		want(t, "status of what matches", ask(g, wish{path: "/aaaa"}).status, 200)
		for range 10 {
			want(t, "status", ask(g, wish{path: "/" + strings.Repeat("a", 8_000) + "0"}).status, 404)
		}
	})
}
