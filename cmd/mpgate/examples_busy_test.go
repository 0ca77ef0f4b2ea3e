package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// runBusy sends more requests than the servers may have. One of them fails each second request.
func runBusy(t *testing.T) {
	var most [2]atomic.Int64
	server := func(i int, fails bool) string {
		var now, asked atomic.Int64
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n := now.Add(1)
			defer now.Add(-1)
			for {
				old := most[i].Load()
				if n <= old || most[i].CompareAndSwap(old, n) {
					break
				}
			}
			if fails && asked.Add(1)%2 == 0 {
				w.WriteHeader(503)
				return
			}
			fmt.Fprint(w, r.URL.Path)
		}))
		t.Cleanup(s.Close)
		return strings.TrimPrefix(s.URL, "http://")
	}
	p := start(t, nil, "run", "-c", example(t, "busy.toml", "0.0.0.0:8080", "127.0.0.1:0",
		"127.0.0.1:9000", server(0, false), "127.0.0.1:9001", server(1, true), `"2s"`, `"60s"`))
	web := p.ready("web")[0]
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			path := []string{"/api/", "/"}[i%2] + fmt.Sprint(i)
			resp, err := http.Get("http://" + web + path)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if b, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || string(b) != path {
				t.Errorf("%s: %d %q, %v", path, resp.StatusCode, b, err)
			}
		})
	}
	wg.Wait()
	if a, b := most[0].Load(), most[1].Load(); a > 8 || b > 4 || a == 0 || b == 0 {
		t.Errorf("the servers had up to %d and %d requests at a time", a, b)
	}
	http.DefaultClient.CloseIdleConnections()
	p.signal(syscall.SIGTERM)
	p.exits(0)
}
