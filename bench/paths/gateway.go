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
	"mpgate/mptcp"
)

const gatewayPort = 8080

// configure writes mpgate's configuration: one listener on all addresses of its place, and for each
// way to the backend a route with that name as its path's first segment.
func (s *site) configure(managed bool) string {
	mode := func(on bool) string { return map[bool]string{true: "prefer", false: "off"}[on] }
	var b strings.Builder
	fmt.Fprintf(&b, `[log]
level = "warn"
access = "off"

[admin]
address = %q

[mptcp]
%s
[[listener]]
name = "front"
address = ":%d"
mptcp = %q
`, "unix:"+s.admin(), s.managing(managed), gatewayPort, mode(s.side.front()))
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

// declared are the links that mpgate is told of as paths, when it manages them.
func (s *site) declared() (list []*lab.Link) {
	if s.side.front() {
		list = append(list, s.front...)
	}
	if s.side.back() {
		list = append(list, s.back...)
	}
	return list
}

func (s *site) managing(managed bool) string {
	if !managed {
		return "failover = \"off\"\n"
	}
	text := "manage = \"sync\"\nfailover = \"active\"\nlimits = { subflows = 8, add_addr_accepted = 8 }\npaths = [\n"
	for _, l := range s.declared() {
		dev, role := l.DevB, "listener"
		if l.A == "gateway" {
			dev, role = l.DevA, "backend"
		}
		text += fmt.Sprintf("  { name = %q, interface = %q, role = %q },\n", l.Name, dev, role)
	}
	return text + "]\n"
}

// useGateway makes the gateway that runs one that manages the paths of its place, or one that
// leaves them to the kernel; in the second case the endpoints are the lab's: each address that
// dials is one. Where a path died, the gateway is a new one in any case: what the last run left it
// with (clients that seem to be there, dials that come through once the path is back) would be the
// next one's.
func (s *site) useGateway(ctx context.Context, managed bool) error {
	if s.gateway != nil {
		if s.managed == managed && s.scenario.Event == Nothing {
			return nil
		}
		s.gateway.Stop(5 * time.Second)
		s.gateway = nil
	}
	s.managed = managed
	place := s.lab.Place("gateway")
	if err := place.FlushEndpoints(); err != nil {
		return err
	}
	for _, l := range s.back {
		if managed {
			break
		}
		if err := place.AddEndpoint(lab.Endpoint{Addr: l.AddrA.Addr(), Flags: lab.Subflow, Dev: l.DevA}); err != nil {
			return err
		}
	}
	if err := s.startGateway(ctx); err != nil || !managed {
		return err
	}
	return s.awaitEndpoints(ctx)
}

// awaitEndpoints waits until mpgate has made the endpoints of its paths.
func (s *site) awaitEndpoints(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 15*time.Second, errors.New("mpgate did not make the endpoints of its paths within 15s"))
	defer cancel()
	for {
		n := 0
		err := s.lab.Place("gateway").Do(func() error {
			pm, err := mptcp.OpenPathManager()
			if err != nil {
				return err
			}
			defer pm.Close()
			all, err := pm.Endpoints()
			n = len(all)
			return err
		})
		if err != nil || n >= len(s.declared()) {
			return err
		}
		if err := wait(ctx, 5*time.Millisecond); err != nil {
			return fmt.Errorf("%w: %s", err, strings.TrimSpace(s.gateway.Output()))
		}
	}
}

// startGateway runs mpgate in its place until it says that it is ready.
func (s *site) startGateway(ctx context.Context) error {
	conf := filepath.Join(s.dir, "mpgate.toml")
	text := s.configure(s.managed)
	s.Configs[map[bool]string{false: "mpgate.toml", true: "mpgate.toml, fail-over"}[s.managed]] = text
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
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
