package gateway

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mpgate/config"
	"mpgate/internal/acmetest"
	"mpgate/internal/proxytest"
)

// ask returns the status, the header and the body of a response.
func ask(t *testing.T, method, url string, fields ...string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		req.Header.Set(name, value)
	}
	client := &http.Client{
		Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

// Files that are bodies of answers are read at start, and again when they change. One that cannot
// be used changes nothing.
func TestContentFollowsFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	page, down := filepath.Join(dir, "page.html"), filepath.Join(dir, "down.html")
	acmetest.Replace(t, page, []byte("first"))
	acmetest.Replace(t, down, []byte("down"))
	web := proxytest.FreeAddress(t)
	r := startRig(t, head+listenerTable("web", web, "")+
		fmt.Sprintf("[[route]]\nname = \"page\"\nmatch = { path = \"/page\" }\nanswer = { file = %q }\n", page)+
		routeTable("all", "", "app")+fmt.Sprintf("error_pages = { 502 = %q }\nresponse_headers = { X-Route = \"{route}\" }\n", down)+
		backendTable("app", "127.0.0.1:1", ""), nil)
	status, header, body := ask(t, "GET", "http://"+web+"/page")
	if status != 200 || body != "first" || header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("the page: %d %q %v", status, body, header)
	}
	status, header, body = ask(t, "GET", "http://"+web+"/x", "Accept: text/html")
	if status != 502 || body != "down" || header.Get("X-Route") != "all" {
		t.Errorf("the error page: %d %q %v", status, body, header)
	}
	acmetest.Replace(t, page, []byte("second"))
	r.logs("files of a route reloaded.*page.html")
	if _, _, body := ask(t, "GET", "http://"+web+"/page"); body != "second" {
		t.Errorf("after a change the page is %q", body)
	}
	acmetest.Replace(t, page, make([]byte, maxContent+1))
	r.logs("changed files of a route cannot be used.*larger than 1048576 bytes")
	if _, _, body := ask(t, "GET", "http://"+web+"/page"); body != "second" {
		t.Errorf("after a change that cannot be used the page is %.20q", body)
	}
	acmetest.Replace(t, page, []byte("third"))
	if !proxytest.Within(patience, func() bool { _, _, body := ask(t, "GET", "http://"+web+"/page"); return body == "third" }) {
		t.Error("a later change is not seen")
	}
}

// What a start refuses about such files, check reports, with the place.
func TestCheckContent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	large, fifo, good := filepath.Join(dir, "large.html"), filepath.Join(dir, "fifo.html"), filepath.Join(dir, "good.html")
	acmetest.Replace(t, large, make([]byte, maxContent+1))
	acmetest.Replace(t, good, make([]byte, maxContent))
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	text := head + listenerTable("web", "127.0.0.1:0", "") +
		fmt.Sprintf("[[route]]\nname = \"page\"\nmatch = { path = \"/page\" }\nanswer = { file = %q }\n", filepath.Join(dir, "gone.html")) +
		routeTable("all", "", "app") + fmt.Sprintf("error_pages = { 404 = %q, 500 = %q, 503 = %q }\n", large, good, fifo) +
		backendTable("app", "127.0.0.1:1", "")
	file := filepath.Join(dir, "mpgate.toml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(file, config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range CheckFiles(cfg) {
		got = append(got, f.String())
	}
	all := strings.Join(got, "\n")
	for _, want := range []string{"route.page.answer.file: stat ", "route.all.error_pages.404: " + large + " is larger than", "route.all.error_pages.503: " + fifo + " is not a regular file"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is missing in\n%s", want, all)
		}
	}
	if len(got) != 3 {
		t.Errorf("%d faults, want 3:\n%s", len(got), all)
	}
	_, err = Open(t.Context(), cfg, Options{Version: "test", Load: func() (*config.Config, error) { return cfg, nil }})
	if err == nil {
		t.Error("it is opened")
	}
}

// The filters of a route act in their order, whatever the order in the file, and with actions that
// need no backend.
func TestFiltersOfRoutes(t *testing.T) {
	t.Parallel()
	web := proxytest.FreeAddress(t)
	server := named(t, "app")
	startRig(t, head+listenerTable("web", web, "")+`
[[route]]
name = "api"
match = { path = "/api/*" }
backend = "app"
response_headers = { X-Allowed = "{header.Origin}" }
rewrite = "/*"
cors = { origins = "https://a.example" }
allow = "127.0.0.0/8"
[[route]]
name = "closed"
match = { path = "/closed/*" }
backend = "app"
deny = "127.0.0.0/8"
cors = { origins = "https://a.example" }
[[route]]
name = "www"
match = { host = "www.example.org" }
redirect = "https://example.org{uri}"
response_headers = { X-Frame-Options = "DENY" }
`+backendTable("app", server, ""), nil)
	status, header, _ := ask(t, "GET", "http://"+web+"/api/x", "Origin: https://a.example")
	if status != 200 || header.Get("X-Allowed") != "https://a.example" || header.Get("Access-Control-Allow-Origin") != "https://a.example" {
		t.Errorf("api: %d %v", status, header)
	}
	status, header, _ = ask(t, "OPTIONS", "http://"+web+"/closed/x", "Origin: https://a.example", "Access-Control-Request-Method: PUT")
	if status != 403 || header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("closed: %d %v", status, header)
	}
	req, err := http.NewRequest("GET", "http://"+web+"//evil.example/x?a=b", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "www.example.org"
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 308 || resp.Header.Get("Location") != "https://example.org/evil.example/x?a=b" || resp.Header.Get("X-Frame-Options") != "DENY" {
		t.Errorf("www: %d %v", resp.StatusCode, resp.Header)
	}
}
