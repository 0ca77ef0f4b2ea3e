package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/internal/lab"
)

// TestReceiveStall: clients upload over two paths, one of which goes and comes ten times a second.
// Linux 6.18 lets one in a dozen of those uploads stall for good, its receive buffer full of what
// came out of order; mpgate frees them, so each comes to its end.
func TestReceiveStall(t *testing.T) {
	const most = 30
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
[[listener]]
name = "web"
address = "0.0.0.0:0"
[[route]]
name = "all"
backend = "app"
[[backend]]
name = "app"
mptcp = "off"
servers = [ { address = "127.0.0.1:%d" } ]
`, hashes(t, server).Port()))
	p := start(t, within(server), "run", "-c", file)
	_, port, err := net.SplitHostPort(p.ready("web")[0])
	if err != nil {
		t.Fatal(err)
	}
	to := net.JoinHostPort(l.Link("link1").AddrB.Addr().String(), port)

	ctx, cancel := context.WithCancel(t.Context())
	var flapping sync.WaitGroup
	flapping.Go(func() { flap(ctx, t, server, l.Link("link2").AddrB.Addr()) })
	freed, tries := 0.0, 0
	for body := noise(mostNoise); freed == 0 && tries < most && !t.Failed(); tries++ {
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				if err := upload(ctx, client, to, body); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		freed = series(t, file)[`mpgate_mptcp_receive_stalls_total{side="listener"}`]
	}
	cancel()
	flapping.Wait()
	t.Logf("%v connections that stood still were freed, in twice %d uploads", freed, tries)
}

// upload makes one request over a connection of its own.
func upload(ctx context.Context, from *lab.Place, to string, body []byte) error {
	c, err := from.Dial(ctx, lab.MPTCP, netip.Addr{}, to)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	return request(c, bufio.NewReader(c), http.MethodPut, body)
}

// flap announces an address, and takes it back, until ctx ends.
func flap(ctx context.Context, t *testing.T, p *lab.Place, addr netip.Addr) {
	e := lab.Endpoint{Addr: addr, ID: 2, Flags: lab.Signal}
	for {
		err := p.AddEndpoint(e)
		// a join came meanwhile, for which the kernel made one with another ID
		if errors.Is(err, unix.EBUSY) {
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
