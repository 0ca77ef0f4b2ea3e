package filter_test

import (
	"net/url"
	"strings"
	"testing"

	"mpgate/proxy/filter"
	"mpgate/telemetry"
)

func location(t testing.TB, to string) filter.Location {
	t.Helper()
	l, err := filter.NewLocation(to)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLocation(t *testing.T) {
	for _, tt := range []struct{ to, path, query, want string }{
		{"https://{host}{uri}", "/a", "b=c", "https://a.example/a?b=c"},
		{"https://{host}:8443{path}", "/a", "b=c", "https://a.example:8443/a"},
		{"{scheme}://www.{host}{uri}", "/", "", "https://www.a.example/"},
		{"https://example.org", "/a", "", "https://example.org"},
		{"https://example.org?from={host}", "/a", "", "https://example.org?from=a.example"},
		{"//{host}/x", "/a", "", "//a.example/x"},
		{"/remote.php/dav", "/.well-known/caldav", "", "/remote.php/dav"},
		{"{path}/", "/a", "", "/a/"},
		{"{uri}", "//evil.example/", "", "/evil.example/"},
		{"{path}", "///evil.example", "", "/evil.example"},
		{"/{1}", "/go/evil.example", "", "/evil.example"},
		{"/{query.next}", "/a", "next=/evil.example", "/%2Fevil.example"},
		{"/{query.next}", "/a", `next=\evil.example`, "/%5Cevil.example"},
		{"/{header.X-Next}", "/a", "", "/%5C%2Fevil.example"},
		{"https://example.org/?a={query.a}&b=1", "/a", "a=1%26b%3D2%23c+d", "https://example.org/?a=1%26b%3D2%23c%20d&b=1"},
		{"https://example.org/{1}", "/go/evil.example", "", "https://example.org//evil.example"},
	} {
		r := requestFor(tt.path)
		r.Record.Scheme = telemetry.SchemeHTTPS
		r.Matched.Query, r.Matched.HasQuery = []byte(tt.query), tt.query != ""
		r.Match = &matched{path: tt.path, groups: []int{0, len(tt.path), min(3, len(tt.path)), len(tt.path)}}
		header(&r.Header, `X-Next: \/evil.example`)
		l := location(t, tt.to)
		if got := string(r.AppendLocation([]byte("x"), &l)); got != "x"+tt.want {
			t.Errorf("%s for %s?%s is %s, want %s", tt.to, tt.path, tt.query, got, tt.want)
		}
	}
}

func TestLocationFaults(t *testing.T) {
	for to, want := range map[string]string{
		"":                                       "is neither a URL nor a path",
		"example.org":                            "is neither a URL nor a path",
		"ftp://example.org/":                     "is neither a URL nor a path",
		"javascript:alert(1)":                    "is neither a URL nor a path",
		"{query.next}":                           "is neither a URL nor a path",
		"{header.Referer}":                       "is neither a URL nor a path",
		"{host}{uri}":                            "is neither a URL nor a path",
		`/\evil.example`:                         "is neither a URL nor a path",
		"https://{query.to}/":                    "lets a client choose the host",
		"https://{header.X-Forwarded-Host}{uri}": "lets a client choose the host",
		"https://{1}.example.org/":               "lets a client choose the host",
		"{scheme}://{cookie.h}":                  "lets a client choose the host",
		"//{1}/":                                 "lets a client choose the host",
		"https://a.example{query.q}":             "lets a client choose the host", // .evil
		"https://{client}/":                      "lets a client choose the host",
		"https://a@b.example/":                   `has a "@"`,
		"https://{host}@b.example/":              `has a "@"`,
		`https://a.example\b/`:                   `has a "@"`,
		"https:///x":                             "has no host",
		"https://{uri}":                          "has no host",
		"https://":                               "has no host",
		"https://{hots}{uri}":                    "unknown variable {hots}",
		"/a\r\nSet-Cookie: x":                    "has a line break",
	} {
		if _, err := filter.NewLocation(to); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", to, err, want)
		}
	}
}

// Whatever a client sends, a redirect stays on the host that the configuration says.
func FuzzLocation(f *testing.F) {
	f.Add("{uri}", "//evil.example", "a=b")
	f.Add("/{1}{query.a}", `/\evil.example`, `a=\/evil`)
	f.Add("https://b.example/{query.a}?x={query.a}", "/", "a=%2F%0d@evil")
	f.Add("{scheme}://{host}:{port}{uri}", "/@evil", "")
	f.Fuzz(func(t *testing.T, to, path, query string) {
		l, err := filter.NewLocation(to)
		if err != nil || strings.ContainsAny(path+query, "\r\n\x00\t #\\?\"<>") || !strings.HasPrefix(path, "/") || strings.ContainsAny(to, "\t{%") && !strings.Contains(to, "}") {
			return
		}
		r := requestFor(path)
		r.Record.Scheme = telemetry.SchemeHTTPS
		r.Matched.Query, r.Matched.HasQuery = []byte(query), true
		r.Match = &matched{path: path, groups: []int{0, len(path), len(path) / 2, len(path)}}
		u, err := url.Parse(string(r.AppendLocation(nil, &l)))
		if err != nil {
			return
		}
		plain := requestFor("/")
		plain.Record.Scheme = telemetry.SchemeHTTPS
		want, err := url.Parse(string(plain.AppendLocation(nil, &l)))
		if err == nil && (u.Host != want.Host || u.Scheme != want.Scheme || u.User != nil && want.User == nil) {
			t.Errorf("%q for %q leads to %s, for / to %s", to, path+"?"+query, u, want)
		}
	})
}
