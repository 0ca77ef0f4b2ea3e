package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"mpgate/gateway"
	"mpgate/internal/lab"
	"mpgate/mptcp"
)

// held is an upload over a connection with two subflows that stops half-way.
type held struct {
	t    *testing.T
	conn *net.TCPConn
	body []byte
}

// hold begins one. A small request before it has the second subflow made.
func hold(t *testing.T, client *lab.Place, to string) *held {
	t.Helper()
	c, err := client.Dial(t.Context(), lab.MPTCP, netip.Addr{}, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	h := &held{t: t, conn: c, body: noise(uploadSize)}
	_ = c.SetDeadline(time.Now().Add(4 * patience))
	h.write([]byte("GET /?bytes=1 HTTP/1.1\r\nHost: a\r\n\r\n"))
	got := make([]byte, 1<<10)
	if _, err := c.Read(got); err != nil {
		t.Fatal(err)
	}
	awaitSubflows(t, c, 2)
	h.write([]byte("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: " + strconv.Itoa(uploadSize) + "\r\n\r\n"))
	h.write(h.body[:uploadSize/2])
	return h
}

func (h *held) write(b []byte) {
	h.t.Helper()
	if _, err := h.conn.Write(b); err != nil {
		h.t.Fatal(err)
	}
}

// finish sends the rest, and holds the answer to what was sent.
func (h *held) finish() {
	h.t.Helper()
	h.write(h.body[uploadSize/2:])
	all, err := io.ReadAll(h.conn)
	if err != nil || !strings.HasSuffix(string(all), sum(h.body)) {
		h.t.Errorf("the request that was under way ended with %q, %v", all, err)
	}
}

// subflows counts those of a connection that are established.
func subflows(t *testing.T, c *net.TCPConn) (n int) {
	t.Helper()
	rc, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var i mptcp.Info
	if err := i.Read(rc); err != nil {
		t.Fatal(err)
	}
	for _, s := range i.Subflows {
		if s.State == mptcp.StateEstablished {
			n++
		}
	}
	return n
}

func awaitSubflows(t *testing.T, c *net.TCPConn, want int) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); subflows(t, c) != want; <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("the connection has %d subflows, not %d", subflows(t, c), want)
		}
	}
}

// removals counts the addresses and subflows that were taken away in a place.
func removals(t *testing.T, p *lab.Place) (n uint64) {
	t.Helper()
	c, err := p.MPTCPCounters()
	if err != nil {
		t.Fatal(err)
	}
	return c["RmAddr"] + c["RmAddrTx"] + c["RmSubflow"]
}

// endpointsOf waits until there are four, and the process that answers has found that they are its
// own: a new one looks only after it was told that it has taken over.
func endpointsOf(t *testing.T, file string) []gateway.PathEndpoint {
	t.Helper()
	return until(t, file, "four endpoints", func(r *gateway.PathsReport) bool {
		return len(r.Endpoints) == 4 && !slices.ContainsFunc(r.Endpoints, func(e gateway.PathEndpoint) bool { return !isOurs(e) })
	}).Endpoints
}

func isOurs(e gateway.PathEndpoint) bool { return e.Found && e.Ours && e.Wanted && e.Difference == "" }

// bounce removes a path of the gateway and adds it again: the process that owns its endpoint
// removes it, and makes it again.
func bounce(t *testing.T, l *lab.Lab, file, link, address string) {
	t.Helper()
	there := func(r *gateway.PathsReport) bool {
		return slices.ContainsFunc(r.Endpoints, func(e gateway.PathEndpoint) bool { return e.Address.String() == address && e.Found })
	}
	if err := l.Link(link).Down("gateway"); err != nil {
		t.Fatal(err)
	}
	until(t, file, "the endpoint of "+link+" is removed", func(r *gateway.PathsReport) bool { return !there(r) })
	if err := l.Link(link).Up("gateway"); err != nil {
		t.Fatal(err)
	}
	until(t, file, "the endpoint of "+link+" is there again", func(r *gateway.PathsReport) bool {
		return there(r) && !slices.ContainsFunc(r.Endpoints, func(e gateway.PathEndpoint) bool { return !isOurs(e) })
	})
}

// TestUpgradePaths: endpoints and limits go over to the new process when it is ready, and no
// subflow ends meanwhile. The new one removes none as long as the old one has connections; then it
// does what its owner does, at its own end too. A process that does not get ready leaves all as it
// was.
func TestUpgradePaths(t *testing.T) {
	l, p, file, port := failing(t, "0.0.0.0:8080")
	client, gw := l.Place("client"), l.Place("gateway")
	config, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	upgrade := func(config, want string, code int) {
		t.Helper()
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(binary, "upgrade", "-c", file).CombinedOutput()
		if got := exitOf(err); got != code || !strings.Contains(string(out), want) {
			t.Fatalf("mpgate upgrade exits %d and prints %q; want %d and %q", got, out, code, want)
		}
	}

	before := endpointsOf(t, file)
	taken, err := gw.Listen(t.Context(), lab.TCP, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	upgrade(string(config)+"colour = 1\n", "is not a known key", 1)
	// which it would make, were it let
	other := strings.ReplaceAll(string(config), `"lte"`, `"wifi"`)
	upgrade(other+fmt.Sprintf("[[listener]]\nname = \"more\"\naddress = %q\n", taken.Addr()), "address already in use", 1)
	if after := endpointsOf(t, file); !slices.Equal(after, before) {
		t.Errorf("after upgrades that failed the endpoints are %+v, before %+v", after, before)
	}
	bounce(t, l, file, "front2", "10.77.2.2")

	h := hold(t, client, "10.77.1.2:"+port)
	short := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, to string) (net.Conn, error) {
		return client.Dial(ctx, lab.MPTCP, netip.Addr{}, to)
	}}}
	stop := hammer(t, short, "http://10.77.1.2:"+port+"/?bytes=1000", short, "http://10.77.2.2:"+port+"/?bytes=1000")
	before = endpointsOf(t, file)
	removed := [...]uint64{removals(t, client), removals(t, gw), removals(t, l.Place("backend"))}
	upgrade(string(config), "upgraded: another process has taken over", 0)
	pid, err := strconv.Atoi(p.line(`"msg":"upgraded: another process has taken over","pid":(\d+)`)[1])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	if after := endpointsOf(t, file); !slices.Equal(after, before) {
		t.Errorf("after the upgrade the endpoints are %+v, before %+v", after, before)
	}
	if now := [...]uint64{removals(t, client), removals(t, gw), removals(t, l.Place("backend"))}; now != removed {
		t.Errorf("addresses and subflows were removed by the upgrade: %v, before %v", now, removed)
	}
	if n := stop(); n == 0 {
		t.Error("nothing was asked")
	}
	if n := subflows(t, h.conn); n != 2 {
		t.Errorf("the connection of the old process has %d subflows", n)
	}

	// The old process drains, and a path goes: each ends its own subflows there, and the endpoint
	// waits.
	if err := l.Link("front2").Down("gateway"); err != nil {
		t.Fatal(err)
	}
	until(t, file, "the endpoint waits for the old process", func(r *gateway.PathsReport) bool {
		return slices.ContainsFunc(r.Notes, func(n string) bool {
			return n == `path "lte": its address is not withdrawn or renewed yet: the process that this one has replaced still has connections`
		}) && slices.ContainsFunc(r.Endpoints, func(e gateway.PathEndpoint) bool {
			return e.Address.String() == "10.77.2.2" && e.Found && e.Ours && !e.Wanted
		})
	})
	h.finish()
	p.line(`"msg":"stopped"`)
	until(t, file, "the endpoint is removed", func(r *gateway.PathsReport) bool { return len(r.Endpoints) == 3 })
	if err := l.Link("front2").Up("gateway"); err != nil {
		t.Fatal(err)
	}
	until(t, file, "the endpoint is there again", func(r *gateway.PathsReport) bool {
		return len(r.Endpoints) == 4 && !slices.ContainsFunc(r.Endpoints, func(e gateway.PathEndpoint) bool { return !isOurs(e) })
	})

	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.line(`"msg":"stopped"`)
	p.exits(0)
	err = gw.Do(func() error {
		pm, err := mptcp.OpenPathManager()
		if err != nil {
			return err
		}
		defer pm.Close()
		left, err := pm.Endpoints()
		limits, err2 := pm.Limits()
		if len(left) != 0 || limits != (mptcp.Limits{Subflows: 2}) {
			t.Errorf("left behind: %+v, limits %+v", left, limits)
		}
		return errors.Join(err, err2)
	})
	if err != nil {
		t.Fatal(err)
	}
}
