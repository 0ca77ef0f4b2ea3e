//go:build linux

package paths

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mpgate/bench/procs"
	"mpgate/internal/lab"
)

const gatewayPort = 8080

// configure writes mpgate's configuration: one listener on all addresses of its place, and for each way to the backend a route
// with that name as its path's first segment.
func (s *site) configure() string {
	mode := func(on bool) string { return map[bool]string{true: "prefer", false: "off"}[on] }
	var b strings.Builder
	fmt.Fprintf(&b, `[log]
level = "warn"
access = "off"

[admin]
address = %q

[mptcp]
failover = %q

[[listener]]
name = "front"
address = ":%d"
mptcp = %q
`, "unix:"+s.admin(), s.failover, gatewayPort, mode(s.side.front()))
	server := func(name string, link *lab.Link, mptcp bool) {
		fmt.Fprintf(&b, `
[[route]]
name = %q
match = { path = "/%s/*" }
backend = %q

[[backend]]
name = %q
protocol = "h1"
mptcp = %q
servers = [ { address = "%s:%d" } ]
`, name, name, name, name, mode(mptcp), link.AddrB.Addr(), backendPort)
	}
	for i, l := range s.back {
		server(fmt.Sprintf("tcp%d", i+1), l, false)
	}
	server("mptcp", s.back[0], s.side.back())
	return b.String()
}

func (s *site) admin() string { return filepath.Join(s.dir, "admin.sock") }

// startGateway runs mpgate in its place until it says that it is ready.
func (s *site) startGateway(ctx context.Context) error {
	conf := filepath.Join(s.dir, "mpgate.toml")
	s.Config = s.configure()
	if err := os.WriteFile(conf, []byte(s.Config), 0o644); err != nil {
		return err
	}
	args := s.lab.Place("gateway").Command(ctx, s.Mpgate, "run", "-c", conf).Args
	var err error
	if s.gateway, err = s.Group.Start(procs.Spec{Args: args, Dir: s.dir}); err != nil {
		return err
	}
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", s.admin())
		},
	}}
	ctx, cancel := context.WithTimeoutCause(ctx, 15*time.Second, errors.New("mpgate was not ready after 15s"))
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if ready(ctx, client) {
			return nil
		}
		select {
		case <-s.gateway.Done():
			return fmt.Errorf("mpgate ended at once: %s", strings.TrimSpace(s.gateway.Output()))
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", context.Cause(ctx), strings.TrimSpace(s.gateway.Output()))
		case <-tick.C:
		}
	}
}

func ready(ctx context.Context, c *http.Client) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://admin/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := c.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
