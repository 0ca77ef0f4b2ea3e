package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/internal/lab"
)

// TestUnclog: clients upload over two paths, one of which goes and comes ten times a second. Linux 6.18 lets one in a dozen
// of those uploads stand still for good, its receive buffer full of what came out of order; mpgate frees them, so each comes to its end.
func TestUnclog(t *testing.T) {
	const uploads, clients, size = 60, 2, 8 << 20
	spec := lab.Pair(2, lab.Path{Rate: 100 * lab.Mbit, Delay: time.Millisecond})
	spec.Places = []lab.PlaceSpec{{Name: "client", NoEndpoints: true}, {Name: "server", NoEndpoints: true}}
	l := lab.Start(t, spec)
	client, server := l.Place("client"), l.Place("server")
	for _, p := range []*lab.Place{client, server} {
		if err := p.SetLimits(8, 8); err != nil {
			t.Fatal(err)
		}
	}
	file := write(t, "mpgate.toml", fmt.Sprintf(`[admin]
address = "unix:admin.sock"
[log]
access = "off"
[[listener]]
name = "web"
address = "0.0.0.0:0"
[[route]]
name = "all"
backend = "app"
[[backend]]
name = "app"
mptcp = "off"
servers = [ { address = "%s" } ]
`, serveIn(t, server, "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		if _, err := io.Copy(h, r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprintf(w, "%x", h.Sum(nil))
	})))
	p := start(t, within(server), "run", "-c", file)
	_, port, err := net.SplitHostPort(p.ready("web")[0])
	if err != nil {
		t.Fatal(err)
	}
	to := net.JoinHostPort(l.Link("link1").AddrB.Addr().String(), port)

	ctx, cancel := context.WithCancel(t.Context())
	var flapping, uploading sync.WaitGroup
	flapping.Go(func() { flap(ctx, t, server, l.Link("link2").AddrB.Addr()) })
	body := noise(size)
	var left atomic.Int32
	left.Store(uploads)
	for range clients {
		uploading.Go(func() {
			for left.Add(-1) >= 0 && !t.Failed() {
				if err := upload(ctx, client, to, body); err != nil {
					t.Error(err)
				}
				if unclogged(t, file) > 0 {
					return
				}
			}
		})
	}
	uploading.Wait()
	cancel()
	flapping.Wait()
	t.Logf("%v connections that stood still were freed, in %d uploads", unclogged(t, file), uploads-max(0, left.Load()))
}

func unclogged(t *testing.T, file string) float64 {
	return series(t, file)[`mpgate_mptcp_unclogged_total{side="listener"}`]
}

// upload makes one request over a connection of its own.
func upload(ctx context.Context, from *lab.Place, to string, body []byte) error {
	c, err := from.Dial(ctx, lab.MPTCP, netip.Addr{}, to)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(c, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || string(got) != sum(body) {
		return fmt.Errorf("upload: status %s, the server got %q, %w", resp.Status, got, err)
	}
	return nil
}

// flap announces an address, and takes it back, until ctx ends.
func flap(ctx context.Context, t *testing.T, p *lab.Place, addr netip.Addr) {
	e := lab.Endpoint{Addr: addr, ID: 2, Flags: lab.Signal}
	for {
		err := p.AddEndpoint(e)
		if errors.Is(err, unix.EBUSY) { // a join came meanwhile, for which the kernel made one with another ID
			err = errors.Join(p.FlushEndpoints(), p.AddEndpoint(e))
		}
		if err != nil {
			t.Error(err)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
		if err := p.DelEndpoint(e); err != nil {
			t.Error(err)
			return
		}
	}
}
