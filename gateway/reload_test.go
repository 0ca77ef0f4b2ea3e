package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

// TestReloads: a hundred reloads under load, each of which changes listeners, routes and backends,
// fail no request and leave nothing behind.
func TestReloads(t *testing.T) {
	a, b := named(t, "a"), named(t, "b")
	front, second := proxytest.FreeAddress(t), proxytest.FreeAddress(t)
	files := [2]string{
		head + listenerTable("web", front, "") + routeTable("all", "", "app") + routeTable("x", `path = "/x/*"`, "app") +
			backendTable("app", a, ""),
		head + listenerTable("web", front, "address = [ \""+front+"\", \""+second+"\" ]") + routeTable("all", "", "app") +
			routeTable("y", `path = "/y/*"`, "other") + backendTable("app", b, `idle_timeout = "30s"`) + backendTable("other", a, ""),
	}
	files[1] = strings.Replace(files[1], fmt.Sprintf("address = %q\n", front), "", 1)
	r := startRig(t, files[0], nil)
	tr := &http.Transport{MaxIdleConnsPerHost: 8}
	client := &http.Client{Transport: tr, Timeout: patience}
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var requests atomic.Int64
	for i := range 8 {
		load.Go(func() {
			for ctx.Err() == nil {
				resp, err := client.Get("http://" + front + []string{"/", "/x/1", "/y/1"}[i%3])
				if err != nil {
					t.Errorf("request failed: %v", err)
					return
				}
				_ = resp.Body.Close()
				if resp.StatusCode != 200 {
					t.Errorf("status %d", resp.StatusCode)
					return
				}
				if i%2 == 0 {
					tr.CloseIdleConnections() // new connections too
				}
				requests.Add(1)
			}
		})
	}
	round := func(n int) {
		for i := range n {
			before := requests.Load()
			r.swap(files[(i+1)%2])
			if !proxytest.Within(patience, func() bool { return requests.Load() > before+8 || t.Failed() }) {
				t.Fatal("no request goes through")
			}
		}
	}
	round(10) // what is made once is made
	settled := func() (goroutines, fds int, heap uint64) {
		proxytest.Within(patience, func() bool { return r.draining.Load() == 0 })
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		d, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return runtime.NumGoroutine(), len(d), m.HeapAlloc
	}
	g0, f0, h0 := settled()
	round(100)
	g1, f1, h1 := settled()
	stop()
	load.Wait()
	t.Logf("%d requests; goroutines %d -> %d, descriptors %d -> %d, heap %d -> %d KiB", requests.Load(), g0, g1, f0, f1, h0>>10, h1>>10)
	// Load makes them vary; a leak of one a reload would be 100.
	if g1 > g0+50 || f1 > f0+50 || h1 > h0+(3<<20) {
		t.Errorf("leaked: goroutines %d -> %d, descriptors %d -> %d, heap %d -> %d", g0, g1, f0, f1, h0, h1)
	}
	tr.CloseIdleConnections()
	if n := r.Status().Generation; n != 111 {
		t.Errorf("generation %d, want 111", n)
	}
}

// TestReloadEndsOnlyWhatChanged: a tunnel on a route that stays continues; those on a route that
// leads elsewhere, and on a listener that is gone, have until the deadline.
func TestReloadEndsOnlyWhatChanged(t *testing.T) {
	server, other := echoes(t), echoes(t)
	web, gone := proxytest.FreeAddress(t), proxytest.FreeAddress(t)
	log := filepath.Join(t.TempDir(), "access.log")
	base := strings.Replace(head, `access = "off"`, fmt.Sprintf("access = %q", log), 1) + "[shutdown]\ndrain = \"%s\"\n" +
		listenerTable("web", web, "") + routeTable("stays", `path = "/stays"`, "app") +
		backendTable("app", server, "") + backendTable("other", other, "")
	r := startRig(t, fmt.Sprintf(base, "30s")+listenerTable("gone", gone, "")+routeTable("moves", `path = "/moves"`, "app"), nil)
	stays, moves, left := upgraded(t, web, "/stays"), upgraded(t, web, "/moves"), upgraded(t, gone, "/stays")

	r.swap(fmt.Sprintf(base, "500ms") + routeTable("moves", `path = "/moves"`, "other"))
	if s := r.Status(); s.Draining != 1 || s.Generation != 2 {
		t.Errorf("draining %d, generation %d; want 1 and 2", s.Draining, s.Generation)
	}
	if v := proxytest.Metric(t, r.metrics.Registry(), "mpgate_config_generations_draining"); v != 1 {
		t.Errorf("mpgate_config_generations_draining is %v, want 1", v)
	}
	carries(t, moves) // until the deadline
	carries(t, left)
	if _, err := moves.Rest(); err == nil {
		t.Error("the tunnel on a route that moved ends in order, though it was cut")
	}
	left.Rest()
	if !proxytest.Within(patience, func() bool { return r.Status().Draining == 0 }) {
		t.Error("the old generation does not end")
	}
	carries(t, stays)
	r.logs(`connections aborted.*generation=1 connections=2 after=500ms`)
	stays.Close()
	r.end()
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`route=moves .*end=drain`, `listener=gone .*end=drain`, `route=stays .*end=ok`} {
		if !regexp.MustCompile(want).Match(text) {
			t.Errorf("the access log has nothing like %s:\n%s", want, text)
		}
	}
}

// TestReloadBesideAnEndlessStream: a reload that takes a backend away does not wait for what still
// comes from there, on a connection that many share either. That is cut at the deadline.
func TestReloadBesideAnEndlessStream(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "a")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	file := func(more string) string {
		return head + "[shutdown]\ndrain = \"500ms\"\n" + listenerTable("web", "127.0.0.1:0", "") + routeTable("all", "", "app") +
			backendTable("app", server.URL, "protocol = \"h2c\"\n"+more)
	}
	r := startRig(t, file(""), nil)
	resp, err := http.Get("http://" + r.address("web"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	r.write(file(`idle_timeout = "30s"`))
	reloaded := make(chan error, 1)
	go func() { reloaded <- r.Reload(context.Background()) }()
	select {
	case err := <-reloaded:
		if err != nil {
			t.Errorf("reload: %v", err)
		}
	case <-time.After(patience):
		t.Error("the reload waits for the stream")
		server.CloseClientConnections()
		<-reloaded
	}
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("the stream ends in order, though it was cut")
	}
	r.logs("connections aborted at the drain deadline: they used what a reload removed")
}

// TestReloadKeepsWhatWaits: connections that wait at a listener's socket are served after a reload
// that changes the listener, its addresses included.
func TestReloadKeepsWhatWaits(t *testing.T) {
	app := named(t, "app")
	a, b := proxytest.FreeAddress(t), proxytest.FreeAddress(t)
	file := func(addresses, limits string) string {
		return head + limits + fmt.Sprintf("[[listener]]\nname = \"web\"\naddress = [ %s ]\n", addresses) +
			routeTable("all", "", "app") + backendTable("app", app, "")
	}
	r := startRig(t, file(`"`+a+`"`, "[limits]\nconnections = 1\n"), nil)
	first := proxytest.Dial(t, a, mptcp.Off)
	first.Get("/") // it has the one place
	waits := proxytest.Dial(t, a, mptcp.Off)
	waits.Send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	r.swap(file(`"`+b+`", "`+a+`"`, "[limits]\nconnections = 2\n"))
	if got := waits.Answer(); got.Status != 200 || got.Body != "app" {
		t.Errorf("who waited got %q", got.Head)
	}
	if got := first.Get("/"); got.Status != 200 {
		t.Errorf("who was connected got %q", got.Head)
	}
}

// TestReloadTLS: a listener gains TLS and loses it. Requests under way come to their end, idle
// connections end in order, and new ones get what is configured.
func TestReloadTLS(t *testing.T) {
	web := proxytest.FreeAddress(t)
	release := make(chan struct{})
	origin := proxytest.NewOrigin(t, mptcp.Off, func(c *proxytest.Conn) {
		for head := c.Head(); head != ""; head = c.Head() {
			if strings.HasPrefix(head, "GET /slow") {
				<-release
			}
			c.Send(proxytest.Response("200 OK", "app"))
		}
	})
	rest := routeTable("all", "", "app") + backendTable("app", origin.Address(), "")
	plain := head + listenerTable("web", web, "") + rest
	secure := head + listenerTable("web", web, "[listener.tls]\nlocal = true\nlocal_names = [\"localhost\"]") + rest
	r := startRig(t, plain, nil)
	dialTLS := func() *proxytest.Client {
		c := proxytest.Dial(t, web, mptcp.Off)
		c.Secure(&tls.Config{InsecureSkipVerify: true, ServerName: "localhost"})
		return c
	}
	change := func(file string, dial func() *proxytest.Client) {
		t.Helper()
		idle, busy := dial(), dial()
		idle.Get("/")
		asked := len(origin.AllRaw())
		busy.Send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
		proxytest.Within(patience, func() bool { return len(origin.AllRaw()) > asked })
		r.swap(file)
		idle.WantClosed()
		release <- struct{}{}
		if a := busy.Answer(); a.Status != 200 || a.Header("Connection") != "close" {
			t.Errorf("a request under way got %q", a.Head)
		}
		busy.WantClosed()
	}
	open := func() *proxytest.Client { return proxytest.Dial(t, web, mptcp.Off) }
	change(secure, open)
	late := dialTLS()
	if a := late.Get("/"); a.Status != 200 {
		t.Errorf("over TLS: %q", a.Head)
	}
	change(plain, dialTLS)
	if a := open().Get("/"); a.Status != 200 {
		t.Errorf("plain again: %q", a.Head)
	}
}

// TestReloadPolicy: what was checked at a handshake does not count when a reload has put another
// policy in its place.
func TestReloadPolicy(t *testing.T) {
	web, app := proxytest.FreeAddress(t), named(t, "app")
	file := func(version string) string {
		return head + listenerTable("web", web, "[listener.tls]\nlocal = true\nlocal_names = [\"localhost\"]\nmin_version = \""+version+"\"") +
			routeTable("all", "", "app") + backendTable("app", app, "")
	}
	r := startRig(t, file("1.2"), nil)
	dial := func() *proxytest.Client {
		c := proxytest.Dial(t, web, mptcp.Off)
		c.Secure(&tls.Config{InsecureSkipVerify: true, ServerName: "localhost"})
		if a := c.Get("/"); a.Status != 200 {
			t.Fatalf("got %q", a.Head)
		}
		return c
	}
	same := dial()
	r.swap(file("1.2") + "[limits]\nheader_fields = 99\n")
	if a := same.Get("/"); a.Status != 200 || a.Header("Connection") == "close" {
		t.Errorf("after a reload that keeps the policy: %q", a.Head)
	}
	r.swap(file("1.3"))
	if a := same.Get("/"); a.Status != 421 || a.Header("Connection") != "close" {
		t.Errorf("after a reload that has another policy: %q", a.Head)
	}
	same.WantClosed()
	dial()
}

// TestReloadSettings: limits, logs and the admin address follow the file.
func TestReloadSettings(t *testing.T) {
	app := named(t, "app")
	web, admin := proxytest.FreeAddress(t), proxytest.FreeAddress(t)
	rest := listenerTable("web", web, "") + routeTable("all", "", "app") + backendTable("app", app, "")
	r := startRig(t, head+rest, nil)
	before := proxytest.Dial(t, web, mptcp.Off)
	before.Get("/")
	long := "GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + strings.Repeat("x", 2000) + "\r\n\r\n"

	log := filepath.Join(t.TempDir(), "access.log")
	r.swap("state_dir = \"state\"\n[log]\naccess = \"" + log + "\"\nformat = \"json\"\nlevel = \"debug\"\n[admin]\naddress = \"" + admin +
		"\"\n[limits]\nheader_bytes = \"1KiB\"\n" + rest)
	before.Send(long)
	if a := before.Answer(); a.Status != 200 {
		t.Errorf("the limits of new connections hold for an old one: %q", a.Head)
	}
	after := proxytest.Dial(t, web, mptcp.Off)
	after.Send(long)
	if a := after.Answer(); a.Status != 431 {
		t.Errorf("a new connection does not see the new limit: %q", a.Head)
	}
	if got := r.AdminAddress(); got != admin {
		t.Errorf("the admin address is %q, want %q", got, admin)
	}
	if got := fetch(t, "http://"+admin+"/readyz"); got != "200 ready\n" {
		t.Errorf("the new admin address says %q", got)
	}
	if !proxytest.Within(patience, func() bool {
		_, err := os.Lstat(filepath.Join(filepath.Dir(r.file), "admin.sock"))
		return os.IsNotExist(err)
	}) {
		t.Error("the old admin address stays")
	}
	if !strings.Contains(r.log.String(), `"msg":"reloaded"`) {
		t.Errorf("the log does not change its format:\n%s", r.log)
	}
	r.swap(head + rest)
	if !proxytest.Within(patience, func() bool {
		b, _ := os.ReadFile(log)
		return strings.Count(string(b), "\n") == 2
	}) {
		b, _ := os.ReadFile(log)
		t.Errorf("the access log that was configured in between has\n%s", b)
	}
}

// BenchmarkReload is a reload of 10,000 routes.
// TestAnswerLimits: an answer's head may take 64 KiB and 256 fields, or more where a request's may.
func TestAnswerLimits(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("x", 70<<10))
		for i := range 270 {
			w.Header().Set(fmt.Sprintf("X-%d", i), "x")
		}
	}))
	t.Cleanup(server.Close)
	file := func(limits string) string {
		return head + "[limits]\n" + limits + "\n" + listenerTable("web", "127.0.0.1:0", "") + routeTable("all", "", "app") + backendTable("app", server.URL, "")
	}
	r := startRig(t, file("header_bytes = \"1KiB\""), nil)
	status := func() string { return strings.Fields(fetch(t, "http://"+r.address("web")))[0] }
	if got := status(); got != "502" {
		t.Errorf("beyond the limits: %s", got)
	}
	r.swap(file("header_bytes = \"128KiB\"\nheader_fields = 300"))
	if got := status(); got != "200" {
		t.Errorf("within them: %s", got)
	}
}

func BenchmarkReload(b *testing.B) {
	var text strings.Builder
	text.WriteString(head + listenerTable("web", "127.0.0.1:0", "") + backendTable("app", "127.0.0.1:1", ""))
	for i := range 10000 {
		text.WriteString(routeTable(fmt.Sprintf("r%d", i), fmt.Sprintf(`host = "h%d.example.org", path = "/p%d/*"`, i%1000, i), "app"))
	}
	r := startRig(b, text.String(), nil)
	for b.Loop() {
		if err := r.Reload(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
