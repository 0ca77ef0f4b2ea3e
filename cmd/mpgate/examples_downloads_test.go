package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// runDownloads gets a file that the application hands out, and no other.
func runDownloads(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"mine.txt", "yours.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/mine.txt" {
			http.Error(w, "that is not yours", http.StatusForbidden)
			return
		}
		w.Header().Set("Content-Disposition", "attachment")
		w.Header().Set("X-Accel-Redirect", "/protected"+r.URL.Path)
	}))
	t.Cleanup(app.Close)
	file := example(t, "downloads.toml", "0.0.0.0:8080", "127.0.0.1:0", "127.0.0.1:9000", strings.TrimPrefix(app.URL, "http://"), "/srv/files", dir)
	p := start(t, nil, "run", "-c", file)
	web := p.ready("web")[0]
	for path, want := range map[string]string{"/mine.txt": "mine.txt", "/yours.txt": "that is not yours\n", "/protected/mine.txt": ""} {
		resp, err := http.Get("http://" + web + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case want == "" && resp.StatusCode != 404:
			t.Errorf("%s: status %d", path, resp.StatusCode)
		case want != "" && string(b) != want:
			t.Errorf("%s: %q", path, b)
		case want == "mine.txt" && resp.Header.Get("Content-Disposition") != "attachment":
			t.Errorf("%s: the header is %v", path, resp.Header)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	p.signal(syscall.SIGTERM)
	p.exits(0)
}
