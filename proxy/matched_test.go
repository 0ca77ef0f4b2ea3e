package proxy_test

import (
	"fmt"
	"strings"
	"testing"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/filter"
	"mpgate/proxy/route"
)

// tellMatch adds what filters are told about the match to the response.
type tellMatch struct{}

func (tellMatch) Name() string { return "tell" }

func (tellMatch) FilterRequest(r *filter.Request) bool {
	path := r.Match.Path()
	from, to := r.Match.Star()
	told := fmt.Sprintf("%s star=%s", path, path[from:to])
	for groups := r.Match.Groups(); len(groups) > 0; groups = groups[2:] {
		told += fmt.Sprintf(" group=%s", path[groups[0]:groups[1]])
	}
	r.Fields.AddName([]byte("X-Match"), []byte(told))
	return false
}

// Filters are told what the star of the route's path matched, and the groups of its path_regex.
func TestFiltersKnowTheMatch(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		s := setup{mode: m}
		s.routes = func(b *backend.Backend) (list []proxy.Route) {
			for i, match := range []route.Match{
				{Paths: []string{"/api/*", "/*/objects/*.json"}},
				{PathRegex: "^/v([0-9]+)/([a-z]+)"},
				{Paths: []string{"/exact"}},
				{},
			} {
				list = append(list, proxy.Route{Name: fmt.Sprint(i), Match: match, Action: &proxy.Forward{Backend: b},
					KeepSlashes: true, Filters: filter.Compile(tellMatch{})})
			}
			return list
		}
		g := start(t, s, m.origin(t, proxytest.Always(proxytest.Response("200 OK", ""))))
		for path, want := range map[string]string{
			"/api/users/7":      "/api/users/7 star=users/7",
			"/api":              "/api star=",
			"/api//users//7":    "/api/users/7 star=users/7",
			"/a/objects/x.json": "/a/objects/x.json star=x",
			"/v12/abc/d":        "/v12/abc/d star= group=/v12/abc group=12 group=abc",
			"/exact":            "/exact star=",
			"/other/x":          "/other/x star=other/x",
		} {
			c := g.client()
			c.Send("GET " + path + " HTTP/1.1\r\n" + host + "\r\n")
			a := c.Answer()
			c.Close()
			if got := strings.TrimSpace(a.Header("X-Match")); got != strings.TrimSpace(want) {
				t.Errorf("%s: got %q, want %q", path, got, want)
			}
		}
	})
}
