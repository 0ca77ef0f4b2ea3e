package admin

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"mpgate/internal/need"
	"mpgate/telemetry"
)

// The page in a real browser: what the gateway says is on it, and nothing breaks its own policy.
func TestPageInBrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser")
	}
	browser := need.Program(t, "chromium", "chromium")
	in := telemetry.NewInstruments("1")
	in.Exchange("web", "<b>r\"oute\\").Start()
	in.Listener("web").Opened()
	in.Listener("only in <i>metrics</i>").Opened()
	in.Server("app", "10.9.8.7:80").Connect(telemetry.TransportFallback, telemetry.ConnectOK)
	in.Server("app", "10.9.8.7:80").Open(1)
	in.MPTCPEnded(telemetry.SideListener, telemetry.TransportMPTCP)
	in.MPTCPFellBack(telemetry.SideBackend, "blackhole")
	s := start(t, Options{Address: "127.0.0.1:0", Metrics: in.Registry(), Status: func() any {
		return Status{Version: "1.2.3-test", State: "ready", Listeners: []Listener{{Name: "web", Sockets: []Socket{{Address: "192.0.2.1:80", Transport: "mptcp"}}}},
			Backends: []Backend{{Name: "app", Servers: []BackendServer{{Address: "10.9.8.7:80", Up: true, Transport: "fallback", Asked: "drain", InProgress: 42}}}},
			Reload:   Reload{At: time.Unix(1700000000, 0), Error: "mpgate.toml:3: no such <key>"}}
	}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--user-data-dir="+t.TempDir(), "--enable-logging=stderr", "--virtual-time-budget=3000", "--dump-dom", "http://"+s.Addr()+"/")
	var complaints strings.Builder
	cmd.Stderr = &complaints
	dom, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, complaints.String())
	}
	for _, want := range []string{
		`<span id="state" class="badge good">ready</span>`, "1.2.3-test", "192.0.2.1:80", `<span class="badge mptcp">mptcp</span>`,
		"only in &lt;i&gt;metrics&lt;/i&gt;", "10.9.8.7:80", `<span class="badge warn">drain</span>`, ">42<", `<span class="badge fallback">fallback</span>`, "blackhole 1", "mpgate.toml:3: no such &lt;key&gt;",
	} {
		if !strings.Contains(string(dom), want) {
			t.Errorf("%q is not on the page", want)
		}
	}
	if strings.Contains(string(dom), "<button") {
		t.Error("the page has buttons, which host:port refuses")
	}
	for line := range strings.Lines(complaints.String()) {
		if strings.Contains(line, "CONSOLE") {
			t.Errorf("the browser's console: %s", line)
		}
	}
	if t.Failed() {
		t.Logf("%s", dom)
	}
}
