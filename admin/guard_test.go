package admin

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// Over a unix socket programs may change something, and so may the page, through a forwarding such
// as that of ssh -L; another site that a browser shows may not.
func TestBrowsersOverUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	start(t, Options{
		Address: "unix:" + path, Status: func() any { return Status{State: "ready"} },
		Handlers: map[string]http.Handler{"POST /api/order": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "done") })},
	})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	for _, c := range []struct {
		host, origin, site string
		want               int
	}{
		{"mpgate", "", "", 200}, // a program
		{"localhost:9080", "http://localhost:9080", "same-origin", 200},
		{"127.0.0.1:9080", "http://127.0.0.1:9080", "", 200},
		{"localhost:9080", "http://evil.example", "cross-site", 403},
		{"localhost:9080", "http://localhost:3000", "same-site", 403},
		{"localhost:9080", "null", "", 403},
		{"localhost:9080", "", "cross-site", 403},
		// The name resolves to this host.
		{"evil.example:9080", "http://evil.example:9080", "same-origin", 403},
	} {
		r, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+c.host+"/api/order", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		if c.site != "" {
			r.Header.Set("Sec-Fetch-Site", c.site)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%+v: status %d", c, resp.StatusCode)
		}
	}
	resp, err := client.Get("http://localhost/api/status")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); !strings.Contains(string(b), `"writable":true`) {
		t.Errorf("the status %s does not say that orders are taken", b)
	}
}
