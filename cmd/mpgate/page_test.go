package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mpgate/internal/need"
)

// clicks is a script that clicks the buttons of the page as an operator does: each when its label
// is there, and the next one when the page shows the state.
const clicks = `
let clicked = 0, steps = ["drain", "down", "up"];
setInterval(async () => {
  const row = document.querySelector("#backends tbody tr"), state = steps[clicked];
  if (!row || !state) return;
  if (!window.asked) {
    const button = [...row.querySelectorAll("button")].find((b) => b.textContent === state);
    if (button) { window.asked = true; button.click(); button.blur(); }
  } else if (row.querySelector(".badge").textContent === state) {
    clicked++;
    await fetch("shown?" + state);
    window.asked = false;
  }
}, 100);
`

// TestPageButtons clicks the buttons of the page in a real browser, which reaches the unix socket
// of the admin address by a forwarding. The page and mpgate server show each state.
func TestPageButtons(t *testing.T) {
	needsLinux(t)
	if testing.Short() {
		t.Skip("starts a browser")
	}
	browser := need.Program(t, "chromium", "chromium")
	file := write(t, "mpgate.toml", plainConfig(named(t, "app", nil)))
	p := start(t, nil, "run", "-c", file)
	p.ready("web")
	var mu sync.Mutex
	var shown []string // what the page has shown, with what mpgate server says then
	socket := filepath.Join(filepath.Dir(file), "admin.sock")
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", r.In.Host },
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}},
		ModifyResponse: func(r *http.Response) error {
			if r.Request.URL.Path != "/" {
				return nil
			}
			page, err := io.ReadAll(r.Body)
			r.Body = io.NopCloser(strings.NewReader(strings.Replace(string(page), "</head>", `<script src="clicks.js" defer></script></head>`, 1)))
			r.ContentLength = -1
			r.Header.Del("Content-Length")
			return err
		},
	}
	mux := http.NewServeMux()
	mux.Handle("/", forward)
	mux.HandleFunc("/clicks.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		_, _ = io.WriteString(w, clicks)
	})
	mux.HandleFunc("/shown", func(_ http.ResponseWriter, r *http.Request) {
		out, _ := command("server", "-c", file, "--json")
		var list []struct{ Servers []struct{ Asked string } }
		if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 || len(list[0].Servers) != 1 {
			t.Errorf("mpgate server: %v: %s", err, out)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		shown = append(shown, fmt.Sprintf("%s %q", r.URL.RawQuery, list[0].Servers[0].Asked))
	})
	front := httptest.NewServer(mux)
	defer front.Close()

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--user-data-dir="+t.TempDir(), "--enable-logging=stderr", "--virtual-time-budget=20000", "--dump-dom", front.URL+"/")
	var complaints strings.Builder
	cmd.Stderr = &complaints
	dom, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, complaints.String())
	}
	mu.Lock()
	defer mu.Unlock()
	if got, want := strings.Join(shown, ", "), `drain "drain", down "down", up ""`; got != want {
		t.Errorf("the page and mpgate server show %s; want %s\n%s\n%s", got, want, complaints.String(), dom)
	}
	p.line(`"state":"drain","before":"up"`)
	p.line(`"state":"up","before":"down"`)
	p.signal(syscall.SIGTERM)
	p.exits(0)
}
