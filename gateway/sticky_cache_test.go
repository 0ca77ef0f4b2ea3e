package gateway

import (
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"mpgate/internal/proxytest"
)

// A response that shared caches may store does not give the cookie of one client to others.
func TestStickyCookieIsNotCached(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"Cache-Control", "Expires"} {
			if value := r.URL.Query().Get(name); value != "" {
				w.Header().Set(name, value)
			}
		}
		status, _ := strconv.Atoi(r.URL.Query().Get("status"))
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	web := proxytest.FreeAddress(t)
	startRig(t, balanceFile(t.TempDir(), web, `sticky = "srv"`, s.URL), nil)
	c := clientOf(t, false)
	cookie := ""
	for _, tt := range []struct{ method, query, want string }{
		{"GET", "status=200", "private"},
		{"HEAD", "status=404", "private"},
		{"GET", "status=200&Cache-Control=public,+max-age=60", "public, max-age=60, private"},
		{"GET", `status=200&Cache-Control=private="Set-Cookie"`, `private="Set-Cookie", private`},
		{"GET", "status=200&Cache-Control=max-age=60,+Private", "max-age=60, Private"},
		{"GET", "status=200&Cache-Control=no-store", "no-store"},
		{"GET", "status=500", ""},
		{"GET", "status=500&Expires=0", "private"},
		{"GET", "status=503&Cache-Control=max-age=1", "max-age=1, private"},
		{"POST", "status=200", ""},
	} {
		resp, _ := askWith(t, c, tt.method, "http://"+web+"/?"+tt.query)
		if cookie = resp.Header.Get("Set-Cookie"); cookie == "" {
			t.Fatalf("%s %s: no cookie", tt.method, tt.query)
		}
		if got := strings.Join(resp.Header.Values("Cache-Control"), ", "); got != tt.want {
			t.Errorf("%s %s: Cache-Control is %q, want %q", tt.method, tt.query, got, tt.want)
		}
	}
	value, _, _ := strings.Cut(cookie, ";")
	if resp, _ := askWith(t, c, "GET", "http://"+web+"/?status=200", "Cookie: "+value); resp.Header.Get("Cache-Control") != "" {
		t.Errorf("with its cookie, a client gets %v", resp.Header)
	}
}
