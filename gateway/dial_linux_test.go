package gateway

import (
	"regexp"
	"strings"
	"testing"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

// dialRig is a gateway whose server answers with the address that it is asked from, and ends each
// connection.
func dialRig(t *testing.T, mode mptcp.Mode, backend func(server string) string) (r *rig, get func(path string) string) {
	t.Helper()
	proxytest.NeedMPTCP(t)
	app := proxytest.NewOrigin(t, mode, func(c *proxytest.Conn) {
		if c.Head() != "" {
			from, _, _ := strings.Cut(c.RemoteAddr().String(), ":")
			c.Send(proxytest.Response("200 OK", from, "Connection: close"))
		}
	}).Address()
	r = startRig(t, head+listenerTable("web", "127.0.0.1:0", "")+backend(app), nil)
	web := regexp.MustCompile(`listener=web address=(\S+)`).FindStringSubmatch(r.log.String())[1]
	return r, func(path string) string {
		t.Helper()
		a := proxytest.Dial(t, web, mptcp.Off).Get(path)
		if a.Status != 200 {
			t.Fatalf("%s: got %q", path, a.Head)
		}
		return a.Body
	}
}

// TestSourceAndInterface: of a backend, and of a server, which comes first.
func TestSourceAndInterface(t *testing.T) {
	_, get := dialRig(t, mptcp.Prefer, func(app string) string {
		return routeTable("all", "", "app") + backendTable("app", app, "") +
			routeTable("sourced", `path = "/sourced"`, "sourced") + backendTable("sourced", app, `source = "127.0.0.5"`) +
			routeTable("device", `path = "/device"`, "device") + backendTable("device", app, "source = \"127.0.0.6\"\ninterface = \"lo\"") +
			routeTable("own", `path = "/own"`, "own") + "[[backend]]\nname = \"own\"\nsource = \"127.0.0.5\"\nservers = [ { address = \"" + app + "\", source = \"127.0.0.7\" } ]\n"
	})
	for path, want := range map[string]string{"/": "127.0.0.1", "/sourced": "127.0.0.5", "/device": "127.0.0.6", "/own": "127.0.0.7"} {
		if got := get(path); got != want {
			t.Errorf("%s: asked from %s, want %s", path, got, want)
		}
	}
	r, _ := dialRig(t, mptcp.Prefer, func(app string) string {
		return routeTable("all", "", "app") + backendTable("app", app, `interface = "no-such-device"`)
	})
	web := regexp.MustCompile(`listener=web address=(\S+)`).FindStringSubmatch(r.log.String())[1]
	if a := proxytest.Dial(t, web, mptcp.Off).Get("/"); a.Status != 502 && a.Status != 503 {
		t.Errorf("by a device that is not there: %q", a.Head)
	}
}

// TestLearnedTransport: a server without MPTCP is asked for it three times; then it is dialled by
// TCP, counted as what the operator gets and why.
func TestLearnedTransport(t *testing.T) {
	r, get := dialRig(t, mptcp.Off, func(app string) string { return routeTable("all", "", "app") + backendTable("app", app, "") })
	const dials = 10
	for range dials {
		get("/")
	}
	metrics := r.metrics.Registry()
	proxytest.WaitMetric(t, metrics, dials-3, "mpgate_mptcp_plain_dials_total")
	proxytest.WaitMetric(t, metrics, dials, "mpgate_backend_connects_total", "backend", "app", "transport", "fallback", "result", "ok")
	proxytest.WaitMetric(t, metrics, dials, "mpgate_mptcp_fallbacks_total", "side", "backend", "reason", "peer_or_path")
	if s := r.Status().Backends[0].Servers[0]; s.Transport != "fallback" || s.Reason != "peer_or_path" {
		t.Errorf("%+v", s)
	}
}
