package gateway

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mpgate/config"
	"mpgate/internal/acmetest"
	"mpgate/internal/dnstest"
	"mpgate/internal/proxytest"
)

// A name that has no address is warned of at each server that has it; none of the others is.
func TestCheckNames(t *testing.T) {
	t.Parallel()
	dns := dnstest.New(t)
	dns.Set("_http._tcp.good.example. 5 IN SRV 1 1 80 good.example.", "good.example. 5 IN A 192.0.2.1", "_http._tcp.bad.example. 5 IN SRV 1 1 80 none.example.")
	file := filepath.Join(t.TempDir(), "mpgate.toml")
	acmetest.Replace(t, file, []byte(head+listenerTable("web", "127.0.0.1:0", "")+routeTable("all", "", "app")+
		fmt.Sprintf("[[backend]]\nname = \"app\"\nresolve = { servers = [%q] }\nservers = [\n", dns.Addr)+
		`{ address = "localhost:1" }, { address = "good.example.:1" }, { srv = "_http._tcp.good.example." }, { address = "unix:/x" },
		{ address = "nosuch.example.:1" }, { address = "nosuch.example.:2" }, { srv = "_http._tcp.bad.example." } ]`+"\n"))
	cfg, err := config.Load(file, config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	warnings := CheckNames(context.Background(), cfg)
	want := []string{"[4].address", "[5].address", "[6].srv"}
	if len(warnings) != len(want) {
		t.Fatalf("got %v, want %d warnings", warnings, len(want))
	}
	for i, f := range warnings {
		key := "backend.app.servers" + want[i]
		if f.Severity != config.Warning || f.Key != key || f.File != file || !strings.Contains(f.Msg, "does not resolve here") || !strings.Contains(f.Msg, "no such host") {
			t.Errorf("got %+v, want a warning about %s", f, key)
		}
	}
	if n := dns.Asked("nosuch.example", "A"); n != 1 {
		t.Errorf("a name was resolved %d times, want once", n)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if n := len(CheckNames(ctx, cfg)); n < len(want) {
		t.Errorf("%d warnings of a lookup that has no time", n)
	}
}

// The metrics show what is known about a name, and how its lookups went.
func TestNameMetrics(t *testing.T) {
	t.Parallel()
	dns := dnstest.New(t)
	dns.Set("app.example. 5 IN A 127.0.0.1", "app.example. 5 IN A 127.0.0.2")
	web := proxytest.FreeAddress(t)
	server := "address = \"app.example.:1\", all = true"
	r := startRig(t, balanceFile(t.TempDir(), web, fmt.Sprintf("resolve = { servers = [%q], every = \"1s\" }", dns.Addr), server), nil)
	labels := []string{"backend", "app", "name", "app.example.:1"}
	in := r.metrics.Registry()
	proxytest.WaitMetric(t, in, 2, "mpgate_backend_name_addresses", labels...)
	if ok := proxytest.Metric(t, in, "mpgate_backend_name_lookups_total", append(labels, "result", "ok")...); ok < 1 {
		t.Errorf("%v lookups found something, want at least one", ok)
	}
	if at := proxytest.Metric(t, in, "mpgate_backend_name_success_timestamp_seconds", labels...); time.Since(time.Unix(int64(at), 0)) > time.Hour {
		t.Errorf("the last success was at %v", at)
	}
	dns.Behave(dnstest.ServFail)
	if !proxytest.Within(patience, func() bool {
		return proxytest.Metric(t, in, "mpgate_backend_name_lookups_total", append(labels, "result", "failed")...) > 0
	}) {
		t.Error("no lookup has failed")
	}
	if n := proxytest.Metric(t, in, "mpgate_backend_name_addresses", labels...); n != 2 {
		t.Errorf("%v addresses after that, want 2", n)
	}
	if names := r.Status().Backends[0].Names; len(names) != 1 || names[0].Failures == 0 {
		t.Errorf("status %+v, want a failure", names)
	}
}
