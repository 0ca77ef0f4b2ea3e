package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"mpgate/admin"
	"mpgate/internal/dnstest"
	"mpgate/internal/proxytest"
)

// command runs mpgate and returns what it prints.
func command(args ...string) (out string, code int) {
	b, err := exec.Command(binary, args...).CombinedOutput()
	return string(b), exitOf(err)
}

// waitServer waits until mpgate server shows a line.
func waitServer(t *testing.T, file, pattern string) {
	t.Helper()
	var out string
	re := regexp.MustCompile("(?m)^" + pattern)
	if !proxytest.Within(patience, func() bool { out, _ = command("server", "-c", file); return re.MatchString(out) }) {
		t.Fatalf("mpgate server has no %s:\n%s", pattern, out)
	}
}

// TestServerDrain drains a server with a request in progress. That is kept by a reload that changes
// the backend, and by an upgrade.
func TestServerDrain(t *testing.T) {
	needsLinux(t)
	slow := newSlowServer(t)
	first, second := slow.Listener.Addr().String(), named(t, "second", nil)
	config := strings.Replace(plainConfig("SERVER"), `servers = [ { address = "SERVER" } ]`,
		fmt.Sprintf("servers = [ { address = %q }, { address = %q } ]\n", first, second), 1)
	// An upgrade keeps the address.
	config = strings.Replace(config, "127.0.0.1:0", proxytest.FreeAddress(t), 1)
	file := write(t, "mpgate.toml", config)
	p := start(t, nil, "run", "-c", file)
	web := "http://" + p.ready("web")[0] + "/"
	held := get(web)
	<-slow.asked

	if out, code := command("server", "-c", file, "app/"+first, "drain"); code != 0 || out != "app/"+first+" gets no new requests; 1 request in progress\n" {
		t.Errorf("exit code %d: %s", code, out)
	}
	p.line(`"msg":"the state of a server was changed by an operator","backend":"app","server":"` + first + `","state":"drain","before":"up","in_progress":1`)
	if out, code := command("server", "-c", file, "app/"+first, "down", "--wait", "1ms"); code != 1 || !strings.Contains(out, "1 request still in progress after 1ms") {
		t.Errorf("exit code %d: %s", code, out)
	}
	others := func() {
		t.Helper()
		for range 4 {
			if a := <-get(web); a.err != nil || a.body != "second " {
				t.Errorf("answer %+v, want that of the second server", a)
			}
		}
	}
	others()
	waitServer(t, file, `app/`+first+` +down +1 .*by an operator, 1 request in progress`)
	if out, code := command("status", "-c", file); code != 0 || !regexp.MustCompile(first+` +down .*by an operator, 1 request in progress`).MatchString(out) {
		t.Errorf("status: exit code %d: %s", code, out)
	}
	out, _ := command("server", "-c", file, "app/"+first, "--json")
	var list []admin.Backend
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 || len(list[0].Servers) != 1 || list[0].Servers[0].Asked != "down" || list[0].Servers[0].InProgress != 1 {
		t.Errorf("--json: %v: %s", err, out)
	}

	if err := os.WriteFile(file, []byte(config+"connect_timeout = \"4s\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := command("reload", "-c", file); code != 0 {
		t.Fatalf("reload: %s", out)
	}
	waitServer(t, file, `app/`+first+` +down +0 .*by an operator`)
	others()
	slow.free <- struct{}{}
	if a := <-held; a.err != nil || a.body != "done" {
		t.Errorf("the request in progress got %+v", a)
	}

	if out, code := command("upgrade", "-c", file); code != 0 {
		t.Fatalf("upgrade: %s", out)
	}
	pid, _ := strconv.Atoi(p.line(`"msg":"upgraded: another process has taken over","pid":(\d+)`)[1])
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	waitServer(t, file, `app/`+first+` +down `)
	others()
	if out, code := command("server", "-c", file, "app/"+first, "up", "--wait", "1s"); code != 0 || out != "app/"+first+" gets requests again; 0 requests in progress\n" {
		t.Errorf("exit code %d: %s", code, out)
	}
	slow.free <- struct{}{}
	var done int
	for range 2 {
		if a := <-get(web); a.err == nil && a.body == "done" {
			done++
		}
	}
	if done != 1 {
		t.Errorf("%d of 2 requests got to the server that is back, want 1", done)
	}

	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"app/192.0.2.1:80", "drain"}, 1, `mpgate: backend "app" has no server "192.0.2.1:80"; mpgate server lists them`},
		{[]string{"nosuch/192.0.2.1:80", "drain"}, 1, `mpgate: there is no backend "nosuch"; mpgate server lists them`},
		{[]string{"app/192.0.2.1:80"}, 1, `mpgate: there is no server "app/192.0.2.1:80"; mpgate server lists them`},
		{[]string{"app", "drain"}, 2, `mpgate: invalid server "app"; must be BACKEND/ADDRESS, for example api/10.0.1.10:8080`},
		{[]string{"app/" + first, "stop"}, 2, `mpgate: invalid state "stop"; must be drain, down or up`},
	} {
		if out, code := command(append([]string{"server", "-c", file}, c.args...)...); code != c.code || out != c.want+"\n" {
			t.Errorf("%v: exit code %d: %s; want %d: %s", c.args, code, out, c.code, c.want)
		}
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.exits(0)
}

// TestServerReadOnly: over host:port, servers are shown and not changed.
func TestServerReadOnly(t *testing.T) {
	file := write(t, "mpgate.toml", strings.Replace(plainConfig("http://127.0.0.1:9"), "unix:admin.sock", proxytest.FreeAddress(t), 1))
	p := start(t, nil, "run", "-c", file)
	p.ready("web")
	waitServer(t, file, "app/127.0.0.1:9 ")
	out, code := command("server", "-c", file, "app/127.0.0.1:9", "drain")
	if code != 1 || !strings.Contains(out, "the admin address is read-only, like every host:port; use a unix socket") {
		t.Errorf("exit code %d: %s", code, out)
	}
}

// runHealth: servers say by their health checks whether they want requests.
func runHealth(t *testing.T) {
	var off atomic.Bool
	wants := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if off.Load() && r.URL.Path == "/healthz" {
			http.Error(w, "shutting down", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, "first")
	}))
	t.Cleanup(wants.Close)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, says := grpc.NewServer(), health.NewServer()
	healthpb.RegisterHealthServer(server, says)
	says.SetServingStatus("app.Orders", healthpb.HealthCheckResponse_NOT_SERVING)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(ln) }()
	t.Cleanup(func() { server.Stop(); <-done })
	first, orders := wants.Listener.Addr().String(), ln.Addr().String()
	file := example(t, "health.toml", `":8080"`, `"127.0.0.1:0"`, "10.0.1.10:8080", first, "10.0.1.11:8080", named(t, "second", nil),
		"10.0.1.12:8080", named(t, "third", nil), "10.0.1.20:50051", orders, "10.0.1.21:50051", first,
		`interval = "2s"`, `interval = "100ms"`, `timeout = "1s"`, `timeout = "30s"`, `grpc = "app.Orders"`, `grpc = "app.Orders", interval = "100ms"`)
	p := start(t, nil, "run", "-c", file)
	web := "http://" + p.ready("web")[0] + "/"
	waitServer(t, file, `app/`+first+` +up `)
	waitServer(t, file, `orders/`+orders+` +down .*grpc.health.v1 of "app.Orders": NOT_SERVING`)
	says.SetServingStatus("app.Orders", healthpb.HealthCheckResponse_SERVING)
	waitServer(t, file, `orders/`+orders+` +up `)
	off.Store(true)
	waitServer(t, file, `app/`+first+` +down .*GET /healthz: status 503; want 200-399`)
	for range 6 {
		if a := <-get(web); a.err != nil || a.body == "first" {
			t.Errorf("answer %+v of a server that wants no requests", a)
		}
	}
	off.Store(false)
	waitServer(t, file, `app/`+first+` +up .*starts slowly, with [0-9]+ % of its weight`)
	p.signal(syscall.SIGTERM)
	p.exits(0)
}

// TestUpgradeKeepsNames: the new process knows the addresses of names although the resolver is
// silent; status and metrics show the lookups.
func TestUpgradeKeepsNames(t *testing.T) {
	needsLinux(t)
	dns := dnstest.New(t)
	dns.Set("app.example. 300 IN A 127.0.0.1")
	_, port, _ := net.SplitHostPort(named(t, "app", nil))
	config := strings.Replace(plainConfig("SERVER"), `servers = [ { address = "SERVER" } ]`,
		fmt.Sprintf("resolve = { servers = [%q] }\nservers = [ { address = \"app.example.:%s\", all = true } ]\n", dns.Addr, port), 1)
	config = strings.Replace(config, "127.0.0.1:0", proxytest.FreeAddress(t), 1)
	file := write(t, "mpgate.toml", config)
	p := start(t, nil, "run", "-c", file)
	web := "http://" + p.ready("web")[0] + "/"
	serves := func() {
		t.Helper()
		if a := <-get(web); a.err != nil || a.body != "app " {
			t.Errorf("answer %+v", a)
		}
	}
	serves()
	dns.Behave(dnstest.Silent)
	if out, code := command("upgrade", "-c", file); code != 0 {
		t.Fatalf("upgrade: %s", out)
	}
	pid, _ := strconv.Atoi(p.line(`"msg":"upgraded: another process has taken over","pid":(\d+)`)[1])
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	serves()
	if out, code := command("status", "-c", file); code != 0 || !regexp.MustCompile(`app +app.example.:`+port+` +127.0.0.1 +\d`).MatchString(out) {
		t.Errorf("status: exit code %d: %s", code, out)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.exits(0)
}
