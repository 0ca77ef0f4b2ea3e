package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"mpgate/internal/lab"
	"mpgate/internal/proxytest"
)

// TestTwoPaths has a client, a gateway and a server with two paths between each two of them.
// Downloads use both paths on both sides, and survive the loss of either.
func TestTwoPaths(t *testing.T) {
	t.Parallel()
	lab.NeedRoot(t)
	proxytest.NeedMPTCP(t)
	const size = 20 << 20
	l := lab.Start(t, lab.TwoPaths(lab.Path{}))
	ctx, cancel := context.WithTimeout(context.Background(), 4*proxytest.Patience)
	defer cancel()
	server, err := l.Place("backend").Listen(ctx, lab.MPTCP, ":0")
	if err != nil {
		t.Fatal(err)
	}
	proxytest.OriginOn(t, server, func(c *proxytest.Conn) {
		c.Head()
		fmt.Fprintf(c.Conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", size)
		for range size >> 20 {
			if _, err := c.Conn.Write(pattern); err != nil {
				return
			}
		}
	})
	place := l.Place("gateway")
	command := func(name string, args ...string) *exec.Cmd { return place.Command(ctx, name, args...) }
	gateway := startChild(t, command, "0.0.0.0:8080", fmt.Sprintf("%s:%d", l.Link("back1").AddrB.Addr(),
		server.Addr().(*net.TCPAddr).Port))
	to := netip.AddrPortFrom(l.Link("front1").AddrB.Addr(), 8080).String()

	// get downloads, and after a quarter does something to a path. Both connections are new each
	// time: one that lost a path goes on without it.
	get := func(t *testing.T, cut func() error) (took, gap time.Duration) {
		t.Helper()
		nc, err := l.Place("client").Dial(ctx, lab.MPTCP, l.Link("front1").AddrA.Addr(), to)
		if err != nil {
			t.Fatal(err)
		}
		c := proxytest.NewClient(t, nc)
		defer c.Close()
		began := time.Now()
		c.Send("GET / HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n")
		if a := c.ReadHead(); a.Status != 200 {
			t.Fatalf("got %q", a.Head)
		}
		var sum checker
		last := time.Now()
		for sum.n < size {
			if _, err := io.CopyN(&sum, c.R, 64<<10); err != nil {
				t.Fatalf("after %d bytes: %v", sum.n, err)
			}
			if sum.n > size/4 && cut != nil {
				if err := cut(); err != nil {
					t.Fatal(err)
				}
				cut, last = nil, time.Now()
			}
			gap = max(gap, time.Since(last))
			last = time.Now()
		}
		if sum.bad {
			t.Error("the body is not as it was sent")
		}
		return time.Since(began), gap
	}

	t.Run("both carry", func(t *testing.T) {
		took, _ := get(t, nil)
		for _, name := range []string{"front1", "front2", "back1", "back2"} {
			_, back, err := l.Link(name).Counters()
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s carried %d KiB", name, back.Bytes>>10)
			if back.Bytes < size/10 {
				t.Errorf("%s carried only %d bytes of %d", name, back.Bytes, size)
			}
		}
		t.Logf("%d MiB in %v", size>>20, took)
	})
	for _, e := range []struct{ link, sender string }{{"front1", "gateway"}, {"front2", "gateway"},
		{"back1", "backend"}, {"back2", "backend"}} {
		link := l.Link(e.link)
		t.Run(e.link+" goes down", func(t *testing.T) {
			took, gap := get(t, func() error { return link.Down(e.sender) })
			t.Logf("took %v, largest gap %v", took, gap)
			if err := link.Up(e.sender); err != nil {
				t.Fatal(err)
			}
		})
		t.Run(e.link+" falls silent", func(t *testing.T) {
			took, gap := get(t, func() error { return link.Silence(lab.Both, true) })
			t.Logf("took %v, largest gap %v", took, gap)
			if err := link.Silence(lab.Both, false); err != nil {
				t.Fatal(err)
			}
		})
	}
	lines := gateway.end()
	want(t, "log lines", len(lines), 9)
	for _, line := range lines {
		want(t, "end", line.End, "ok")
		want(t, "client's transport", line.ClientTransport, "mptcp")
		want(t, "server's transport", line.ServerTransport, "mptcp")
		want(t, "bytes out", line.BytesOut, size)
		if !strings.HasPrefix(line.Client, "10.77.") {
			t.Errorf("the client is %q", line.Client)
		}
	}
}
