package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"
)

// exampleClient asks a running example.
type exampleClient struct {
	t    *testing.T
	base string
	http http.Client
}

func newExampleClient(t *testing.T, address string) *exampleClient {
	c := &exampleClient{t: t, base: "http://" + address, http: http.Client{Transport: &http.Transport{}}}
	t.Cleanup(c.http.CloseIdleConnections)
	return c
}

func (c *exampleClient) ask(method, path, body string, fields ...string) *http.Response {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	resp, err := c.http.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		c.t.Fatal(err)
	}
	return resp
}

func runLimit(t *testing.T) {
	p := start(t, nil, "run", "-c", example(t, "limit.toml", `":8080"`, `"127.0.0.1:0"`, "127.0.0.1:9000", named(t, "app", nil)))
	c := newExampleClient(t, p.ready("web")[0])
	refused := 0
	for i := range 20 { // one comes back in 12 s
		resp := c.ask("POST", "/login", "password")
		switch {
		case resp.StatusCode == 429:
			refused++
		case resp.StatusCode != 200:
			t.Errorf("login %d: status %d", i, resp.StatusCode)
		}
		if got := resp.Header.Get("RateLimit-Policy"); got != `"limit";q=5;w=60` {
			t.Errorf("login %d: RateLimit-Policy is %q", i, got)
		}
		if i < 5 && refused > 0 {
			t.Errorf("login %d: refused", i)
		}
	}
	if refused < 5 {
		t.Errorf("%d of 20 logins were refused", refused)
	}
	for _, tt := range []struct {
		path   string
		length int
		want   int
	}{{"/", 1 << 20, 200}, {"/", 1<<20 + 1, 413}, {"/upload/x", 2 << 20, 200}, {"/api/x", 2 << 20, 200}} {
		if got := c.ask("PUT", tt.path, strings.Repeat("x", tt.length)).StatusCode; got != tt.want {
			t.Errorf("%d bytes to %s: status %d, want %d", tt.length, tt.path, got, tt.want)
		}
	}
	resp := c.ask("GET", "/api/x", "", "X-Api-Key", "a")
	if got := resp.Header.Values("RateLimit-Policy"); len(got) != 1 || got[0] != `"limit-2";q=1000;w=60` {
		t.Errorf("RateLimit-Policy is %q", got)
	}
	p.signal(syscall.SIGTERM)
	p.exits(0)
}

func runMirror(t *testing.T) {
	copies := make(chan string, 100)
	next := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		copies <- fmt.Sprintf("%s %s", r.Method, r.URL)
		http.Error(w, "the new version fails", http.StatusInternalServerError)
	}))
	t.Cleanup(next.Close)
	p := start(t, nil, "run", "-c", example(t, "mirror.toml", `":8080"`, `"127.0.0.1:0"`,
		"127.0.0.1:9000", named(t, "app", nil), "127.0.0.1:9001", next.Listener.Addr().String()))
	c := newExampleClient(t, p.ready("web")[0])
	for _, path := range []string{"/payments/1", "/search?q=a", "/search?q=b"} {
		if resp := c.ask("GET", path, ""); resp.StatusCode != 200 {
			t.Errorf("%s: status %d", path, resp.StatusCode)
		}
	}
	got := map[string]bool{}
	for range 2 {
		select {
		case one := <-copies:
			got[one] = true
		case <-time.After(patience):
			t.Fatalf("no further copy came, after %v", got)
		}
	}
	if !got["GET /search?q=a"] || !got["GET /search?q=b"] {
		t.Errorf("the copies are %v", got)
	}
	p.signal(syscall.SIGTERM)
	p.exits(0)
	if len(copies) > 0 {
		t.Errorf("a copy of %s", <-copies)
	}
}

func runLog(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Cache", "HIT")
		if r.URL.Path == "/assets/none" {
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	p := start(t, nil, "run", "-c", example(t, "log.toml", `":8080"`, `"127.0.0.1:0"`, "127.0.0.1:9000", server.Listener.Addr().String()))
	c := newExampleClient(t, p.ready("web")[0])
	for _, path := range []string{"/ping", "/assets/a.css", "/assets/none", "/last"} {
		c.ask("GET", path, "", "User-Agent", "test/1")
	}
	p.line(`"path":"/assets/none".*"status":404`)
	p.line(`"path":"/last".*"status":200`)
	p.signal(syscall.SIGTERM)
	p.exits(0)
	text := p.text()
	if strings.Contains(text, `"/ping"`) || strings.Contains(text, "a.css") {
		t.Errorf("too many lines:\n%s", text)
	}
	for _, part := range []string{`"user_agent":"test/1"`, `HIT`} {
		if strings.Count(text, part) != 2 {
			t.Errorf("%s is not in both lines:\n%s", part, text)
		}
	}
}
