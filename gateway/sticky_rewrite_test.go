package gateway

import (
	"strings"
	"testing"

	"mpgate/internal/proxytest"
)

// TestStickyCookieOfRewrite: a route that rewrites the path does not change that of the cookie,
// which the other routes of the backend read, too.
func TestStickyCookieOfRewrite(t *testing.T) {
	web := proxytest.FreeAddress(t)
	file := balanceFile(t.TempDir(), web, `sticky = "srv"`, named(t, "a"), named(t, "b"))
	startRig(t, file+"[[route]]\nname = \"api\"\nmatch = { path = \"/api/*\" }\nbackend = \"app\"\nrewrite = \"/*\"\n", nil)
	resp, _ := askWith(t, clientOf(t, false), "GET", "http://"+web+"/api/x")
	if set := resp.Header.Get("Set-Cookie"); !strings.HasPrefix(set, "srv=") || !strings.Contains(set, "; Path=/;") {
		t.Errorf("the cookie is %q", set)
	}
}
