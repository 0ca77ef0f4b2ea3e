package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
)

// runSite asks for what each route of site.toml is there for.
func runSite(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "secret")
		if r.URL.Path == "/login" {
			http.SetCookie(w, &http.Cookie{Name: "a", Value: "b", Path: "/"})
			http.Redirect(w, r, "/home", http.StatusSeeOther)
			return
		}
		fmt.Fprintf(w, "%s for %s below %s", r.URL.Path, r.Host, r.Header.Get("X-Forwarded-Prefix"))
	}))
	t.Cleanup(server.Close)
	p := start(t, nil, "run", "-c", example(t, "site.toml",
		`":8080"`, `"127.0.0.1:0"`, "127.0.0.1:9000", server.Listener.Addr().String(), "127.0.0.1:9001", "127.0.0.1:1"))
	web := "http://" + p.ready("web")[0]
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(client.CloseIdleConnections)
	for _, tt := range []struct {
		method, path, host string
		fields             []string
		status             int
		body               string
		header             []string
	}{
		{"GET", "/x?y", "www.example.org", nil, 308, "", []string{"Location: https://example.org/x?y"}},
		{"GET", "/.git/config", "", nil, 404, "", nil},
		{"GET", "/app/x", "example.org", nil, 200, "/x for app.internal below /app", []string{"X-Frame-Options: SAMEORIGIN", "Server: "}},
		{"GET", "/app/login", "example.org", nil, 303, "", []string{"Location: /app/home", "Set-Cookie: a=b; Path=/app"}},
		{"OPTIONS", "/api/x", "", []string{"Origin: https://shop.example.net", "Access-Control-Request-Method: DELETE"}, 204, "",
			[]string{"Access-Control-Allow-Origin: https://shop.example.net", "Access-Control-Max-Age: 3600"}},
		{"GET", "/api/x", "", []string{"Origin: https://evil.example"}, 502, "could not be reached", []string{"Access-Control-Allow-Origin: "}},
		{"GET", "/admin/x", "", nil, 200, "/admin/x for", nil},
		{"GET", "/", "", nil, 503, "We are moving.", []string{"Retry-After: 3600"}},
	} {
		req, err := http.NewRequest(tt.method, web+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = tt.host
		for _, f := range tt.fields {
			name, value, _ := strings.Cut(f, ": ")
			req.Header.Set(name, value)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != tt.status || !strings.Contains(string(body), tt.body) {
			t.Errorf("%s %s: %d %q %v, want %d %q", tt.method, tt.path, resp.StatusCode, body, err, tt.status, tt.body)
		}
		for _, f := range tt.header {
			name, value, _ := strings.Cut(f, ": ")
			if got := resp.Header.Get(name); got != value {
				t.Errorf("%s %s: %s is %q, want %q", tt.method, tt.path, name, got, value)
			}
		}
	}
	client.CloseIdleConnections()
	p.signal(syscall.SIGTERM)
	p.exits(0)
}
