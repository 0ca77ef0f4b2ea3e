package gateway

import (
	"net/http"
	"testing"

	"mpgate/internal/proxytest"
)

// A reload that leaves the limit of a route alone leaves its counts alone, and mirroring continues.
// Another limit begins anew.
func TestReloadKeepsLimits(t *testing.T) {
	front := proxytest.FreeAddress(t)
	server, shadow := named(t, "a"), named(t, "shadow")
	file := func(limit, more string) string {
		return head + listenerTable("web", front, "") +
			"[[route]]\nname = \"all\"\nbackend = \"app\"\nmirror = { backend = \"shadow\" }\nlimit = " + limit + "\n" +
			more + backendTable("app", server, "") + backendTable("shadow", shadow, "")
	}
	r := startRig(t, file(`{ rate = "2/h" }`, ""), nil)
	status := func(want int) {
		t.Helper()
		resp, err := http.Get("http://" + front + "/")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("status %d, want %d", resp.StatusCode, want)
		}
	}
	status(200)
	r.swap(file(`{ rate = "2/h" }`, routeTable("other", `path = "/other/*"`, "app")))
	status(200)
	status(429)
	r.swap(file(`{ rate = "2/h", burst = 3 }`, ""))
	status(200)
}
