package gateway

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"mpgate/internal/proxytest"
)

// The rules of a route replace those of its backend, as a whole; other routes keep those.
func TestRouteRetry(t *testing.T) {
	var mu sync.Mutex
	got := map[string]int{} // requests to the server that fails, by path
	bad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		got[r.URL.Path]++
		mu.Unlock()
		w.WriteHeader(503)
	}))
	t.Cleanup(bad.Close)
	good := named(t, "good")
	web := proxytest.FreeAddress(t)
	file := balanceFile(t.TempDir(), web, "balance = \"first\"\nretry = { on = [\"503\"] }", bad.URL, good) +
		routeTable("post", `path = "/post"`, "app") + "retry = { on = [\"503\"], methods = \"all\" }\n" +
		routeTable("once", `path = "/once"`, "app") + "retry = { tries = 1 }\n" +
		routeTable("default", `path = "/default"`, "app") + "retry = {}\n" +
		"[[route]]\nname = \"files\"\nmatch.path = \"/files/*\"\nretry = { tries = 1 }\nfiles = { root = \"" + t.TempDir() + "\", fallback = { backend = \"app\" } }\n"
	startRig(t, file, nil)
	c := clientOf(t, false)
	for _, tt := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/", 200},
		{"POST", "/", 503},
		{"POST", "/post", 200},
		{"GET", "/once", 503},
		{"GET", "/default", 503},
		{"GET", "/files/x", 503},
	} {
		resp, body := askWith(t, c, tt.method, "http://"+web+tt.path)
		if resp.StatusCode != tt.status || tt.status == 200 && !strings.Contains(body, "good") {
			t.Errorf("%s %s: status %d, want %d: %s", tt.method, tt.path, resp.StatusCode, tt.status, body)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for path, n := range map[string]int{"/": 2, "/post": 1, "/once": 1, "/default": 1, "/files/x": 1} {
		if got[path] != n {
			t.Errorf("%s: the first server got %d requests, want %d", path, got[path], n)
		}
	}
}
