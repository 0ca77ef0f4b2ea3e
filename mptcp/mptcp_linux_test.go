package mptcp

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"mpgate/internal/need"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// needMPTCP skips where this host has none; in CI that is a failure.
func needMPTCP(t testing.TB) {
	t.Helper()
	if s := Host(); !s.Usable {
		need.Missing(t, "no MPTCP on this host: %s; remedy: %s", s.Why, s.Remedy)
	}
}

// noFDLeak fails the test if it ends with more open descriptors than it began with.
func noFDLeak(t testing.TB) {
	t.Helper()
	// The poller's own descriptors come with the first use.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	before := openFDs(t)
	t.Cleanup(func() {
		if after := openFDs(t); after > before {
			t.Errorf("descriptors leaked: %d open at the start, %d at the end", before, after)
		}
	})
}

func openFDs(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

func listen(t testing.TB, address string, m Mode) *net.TCPListener {
	t.Helper()
	l, granted, err := Listen(context.Background(), address, ListenOptions{Mode: m})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	want := MPTCP
	if m == Off {
		want = TCP
	}
	if granted != want {
		t.Fatalf("listener on %s granted %q, want %q", address, granted, want)
	}
	return l
}

func addrOf(l net.Listener) netip.AddrPort { return l.Addr().(*net.TCPAddr).AddrPort() }

func rawOf(t testing.TB, c *net.TCPConn) syscall.RawConn {
	t.Helper()
	rc, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return rc
}

// pair dials l and accepts, then sends a byte each way: MPTCP is fully
// established only then.
func pair(t testing.TB, d *Dialer, l *net.TCPListener) (client, server *net.TCPConn, r Result) {
	t.Helper()
	client, r, err := d.Dial(context.Background(), addrOf(l))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	server, err = l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	exchange(t, client, server)
	exchange(t, server, client)
	return client, server, r
}

func exchange(t testing.TB, from, to net.Conn) {
	t.Helper()
	if _, err := from.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := io.ReadFull(to, b[:]); err != nil {
		t.Fatal(err)
	}
}

func TestDialMatrix(t *testing.T) {
	needMPTCP(t)
	for _, ip := range []string{"127.0.0.1:0", "[::1]:0"} {
		for _, c := range []struct {
			name           string
			server, client Mode
			result         Result
			accepted       Transport
		}{
			{"mptcp to mptcp", Prefer, Prefer, Result{Transport: MPTCP, Reason: None}, MPTCP},
			{"mptcp to mptcp, required", Require, Require, Result{Transport: MPTCP, Reason: None}, MPTCP},
			{"mptcp to tcp", Off, Prefer, Result{Transport: Fallback, Reason: PeerOrPath}, TCP},
			{"tcp to mptcp", Prefer, Off, Result{Transport: TCP, Reason: None}, TCP},
			{"tcp to tcp", Off, Off, Result{Transport: TCP, Reason: None}, TCP},
		} {
			t.Run(c.name+" "+ip, func(t *testing.T) {
				noFDLeak(t)
				l := listen(t, ip, c.server)
				client, server, r := pair(t, &Dialer{Mode: c.client}, l)
				if r != c.result {
					t.Errorf("result %q %q, want %q %q", r.Transport, r.Reason, c.result.Transport, c.result.Reason)
				}
				if got, err := TransportOf(rawOf(t, client)); err != nil || got != c.result.Transport {
					t.Errorf("the client uses %q (%v), want %q", got, err, c.result.Transport)
				}
				if got, err := TransportOf(rawOf(t, server)); err != nil || got != c.accepted {
					t.Errorf("the server uses %q (%v), want %q", got, err, c.accepted)
				}
				if client.RemoteAddr().String() != l.Addr().String() || client.LocalAddr().String() != server.RemoteAddr().String() {
					t.Errorf("addresses: client %v -> %v, server sees %v", client.LocalAddr(), client.RemoteAddr(), server.RemoteAddr())
				}
			})
		}
	}
}

// Touch has the result of a dial, and leaves nothing open.
func TestTouch(t *testing.T) {
	needMPTCP(t)
	for _, ip := range []string{"127.0.0.1:0", "[::1]:0"} {
		for _, m := range []struct {
			server Mode
			dialer *Dialer
			want   Result
			err    error
		}{
			{Prefer, &Dialer{}, Result{Transport: MPTCP}, nil},
			{Prefer, &Dialer{Memory: new(Memory)}, Result{Transport: MPTCP}, nil},
			{Off, &Dialer{Memory: new(Memory)}, Result{Transport: Fallback, Reason: PeerOrPath}, nil},
			{Off, &Dialer{Mode: Require}, Result{Transport: Fallback, Reason: PeerOrPath}, ErrRequired},
			{Prefer, &Dialer{Mode: Off}, Result{Transport: TCP}, nil},
		} {
			t.Run(ip+" "+m.dialer.Mode.String(), func(t *testing.T) {
				noFDLeak(t)
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				defer cancel()
				l := listen(t, ip, m.server)
				to := addrOf(l)
				r, err := m.dialer.Touch(ctx, to)
				if !errors.Is(err, m.err) || r != m.want {
					t.Errorf("got %v, %v; want %v, %v", r, err, m.want, m.err)
				}
				c, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if n, err := c.Read(make([]byte, 1)); err == nil {
					t.Errorf("the server read %d bytes, want the end of the connection", n)
				}
				l.Close()
				if _, err := m.dialer.Touch(ctx, to); !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("a server that is gone: %v, want ECONNREFUSED", err)
				}
			})
		}
	}
}

func TestDialRequireFallsBack(t *testing.T) {
	needMPTCP(t)
	noFDLeak(t)
	l := listen(t, "127.0.0.1:0", Off)
	c, r, err := (&Dialer{Mode: Require}).Dial(context.Background(), addrOf(l))
	if c != nil || !errors.Is(err, ErrRequired) {
		t.Fatalf("got %v, %v; want ErrRequired", c, err)
	}
	if want := (Result{Transport: Fallback, Reason: PeerOrPath}); r != want {
		t.Errorf("result %v, want %v", r, want)
	}
	want := "dial tcp " + l.Addr().String() + ": MPTCP is required and the connection does not use it"
	if err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
}

func TestDialRefused(t *testing.T) {
	for _, ip := range []string{"127.0.0.1:0", "[::1]:0"} {
		for _, m := range []Mode{Prefer, Off} {
			noFDLeak(t)
			l := listen(t, ip, Off)
			to := addrOf(l)
			l.Close()
			_, _, err := (&Dialer{Mode: m}).Dial(context.Background(), to)
			if !errors.Is(err, syscall.ECONNREFUSED) {
				t.Fatalf("%s %s: got %v, want ECONNREFUSED", ip, m, err)
			}
			var op *net.OpError
			if !errors.As(err, &op) || op.Op != "dial" || op.Addr.String() != to.String() {
				t.Errorf("%s %s: not the usual OpError: %#v", ip, m, err)
			}
			if want := "dial tcp " + to.String() + ": connect: connection refused"; err.Error() != want {
				t.Errorf("error %q, want %q", err, want)
			}
		}
	}
}

// fullBacklog is a listener whose queue is full, so that a SYN gets no answer.
func fullBacklog(t *testing.T, m Mode) netip.AddrPort {
	t.Helper()
	l, _, err := Listen(context.Background(), "127.0.0.1:0", ListenOptions{Mode: m, Backlog: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for range 8 {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		c, _, err := (&Dialer{Mode: m}).Dial(ctx, addrOf(l))
		cancel()
		if err != nil {
			return addrOf(l)
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the queue would not fill")
	return netip.AddrPort{}
}

func TestDialContext(t *testing.T) {
	for _, m := range []Mode{Off, Prefer} {
		t.Run(m.String(), func(t *testing.T) {
			noFDLeak(t)
			to := fullBacklog(t, m)
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			start := time.Now()
			_, _, err := (&Dialer{Mode: m}).Dial(ctx, to)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("got %v, want the deadline", err)
			}
			if ne, ok := err.(net.Error); !ok || !ne.Timeout() {
				t.Errorf("%v is not a timeout", err)
			}
			if d := time.Since(start); d > time.Second {
				t.Errorf("the deadline of 50 ms took %v", d)
			}

			ctx, cancel = context.WithCancel(context.Background())
			done := make(chan error)
			go func() {
				_, _, err := (&Dialer{Mode: m}).Dial(ctx, to)
				done <- err
			}()
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v, want it cancelled", err)
			}
			if _, _, err := (&Dialer{Mode: m}).Dial(ctx, to); !errors.Is(err, context.Canceled) {
				t.Fatalf("a context that was over before: got %v", err)
			}
		})
	}
}

// A kernel that refuses an option on the socket must not fail the dial. Here
// the option's value is refused: no kernel takes 0x7fffffff seconds.
func TestDialRefusedOption(t *testing.T) {
	l := listen(t, "127.0.0.1:0", Prefer)
	client, _, _ := pair(t, &Dialer{KeepAlive: 0x7fffffff * time.Second}, l)
	if v := intOpt(t, client, unix.SOL_SOCKET, unix.SO_KEEPALIVE); v != 1 {
		t.Errorf("SO_KEEPALIVE is %d", v)
	}
}

func intOpt(t testing.TB, c *net.TCPConn, level, opt int) int {
	t.Helper()
	v, e := 0, syscall.Errno(0)
	if err := rawOf(t, c).Control(func(fd uintptr) { v, e = getsockoptInt(int(fd), level, opt) }); err != nil {
		t.Fatal(err)
	}
	if e != 0 {
		t.Fatalf("getsockopt %d %d: %v", level, opt, e)
	}
	return v
}

func TestOptions(t *testing.T) {
	for _, m := range []Mode{Prefer, Off} {
		l, _, err := Listen(context.Background(), "127.0.0.1:0", ListenOptions{Mode: m, KeepAlive: 33 * time.Second, ReusePort: true})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		client, server, _ := pair(t, &Dialer{Mode: m, KeepAlive: 44 * time.Second}, l)
		for _, c := range []struct {
			who  string
			conn *net.TCPConn
			idle int
		}{{"client", client, 44}, {"server", server, 33}} {
			if v := intOpt(t, c.conn, unix.SOL_TCP, unix.TCP_NODELAY); v == 0 {
				t.Errorf("%s %s: TCP_NODELAY is off", m, c.who)
			}
			if v := intOpt(t, c.conn, unix.SOL_SOCKET, unix.SO_KEEPALIVE); v != 1 {
				t.Errorf("%s %s: SO_KEEPALIVE is off", m, c.who)
			}
			if v := intOpt(t, c.conn, unix.SOL_TCP, unix.TCP_KEEPIDLE); v != c.idle {
				t.Errorf("%s %s: TCP_KEEPIDLE is %d, want %d", m, c.who, v, c.idle)
			}
		}
		off, _, _ := pair(t, &Dialer{Mode: m, KeepAlive: -1}, l)
		if v := intOpt(t, off, unix.SOL_SOCKET, unix.SO_KEEPALIVE); v != 0 {
			t.Errorf("%s: keep-alive below 0 leaves SO_KEEPALIVE on", m)
		}
	}
}

func TestDialSource(t *testing.T) {
	l := listen(t, "127.0.0.1:0", Prefer)
	client, _, r := pair(t, &Dialer{Source: netip.MustParseAddr("127.0.0.5"), Interface: "lo"}, l)
	if got := client.LocalAddr().(*net.TCPAddr).IP.String(); got != "127.0.0.5" {
		t.Errorf("source is %s", got)
	}
	if r.Transport != MPTCP {
		t.Errorf("transport %q", r.Transport)
	}
	for _, c := range []struct {
		d    Dialer
		want string
	}{
		{Dialer{Source: netip.MustParseAddr("::1")}, "the source address is of the other IP version"},
		{Dialer{Source: netip.MustParseAddr("192.0.2.77")}, "bind: cannot assign requested address"},
		{Dialer{Interface: "no-such-dev"}, `cannot bind to device "no-such-dev": setsockopt: no such device`},
	} {
		noFDLeak(t)
		_, _, err := c.d.Dial(context.Background(), addrOf(l))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

func TestListenFamilies(t *testing.T) {
	v4 := listen(t, "0.0.0.0:0", Prefer)
	port := v4.Addr().(*net.TCPAddr).Port
	// Beside it there is room for IPv6 alone.
	v6 := listen(t, net.JoinHostPort("::", itoa(port)), Prefer)
	for l, reach := range map[*net.TCPListener]string{v4: "127.0.0.1", v6: "::1"} {
		c, _, err := (&Dialer{}).Dial(context.Background(), netip.AddrPortFrom(netip.MustParseAddr(reach), uint16(port)))
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		s.Close()
	}
	both := listen(t, ":0", Prefer)
	for _, reach := range []string{"127.0.0.1", "::1"} {
		c, r, err := (&Dialer{}).Dial(context.Background(), netip.AddrPortFrom(netip.MustParseAddr(reach), addrOf(both).Port()))
		if err != nil {
			t.Fatal(err)
		}
		if r.Transport != MPTCP {
			t.Errorf("dual stack by %s: %q", reach, r.Transport)
		}
		c.Close()
	}
}

func itoa(n int) string {
	return netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(n)).String()[len("0.0.0.0:"):]
}

func TestListenErrors(t *testing.T) {
	noFDLeak(t)
	l := listen(t, "127.0.0.1:0", Prefer)
	for address, want := range map[string]string{
		l.Addr().String(): "bind: address already in use",
		"127.0.0.1":       "missing port in address",
		"127.0.0.1:http9": "unknown port",
		"192.0.2.77:0":    "bind: cannot assign requested address",
	} {
		_, _, err := Listen(context.Background(), address, ListenOptions{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", address, err, want)
		}
	}
	_, _, err := Listen(context.Background(), "127.0.0.1:0", ListenOptions{Interface: "no-such-dev"})
	if err == nil || !strings.Contains(err.Error(), `cannot bind to device "no-such-dev": setsockopt: no such device`) {
		t.Errorf("got %v", err)
	}
}

func TestOtherTransports(t *testing.T) {
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	rc, _ := c.(*net.UnixConn).SyscallConn()
	if got, err := TransportOf(rc); got != Unix || err != nil {
		t.Errorf("unix socket: %q %v", got, err)
	}
	c.Close()
	if _, err := TransportOf(rc); err == nil {
		t.Error("no error on a closed socket")
	}
	p, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	rc, _ = p.(*net.UDPConn).SyscallConn()
	if got, err := TransportOf(rc); got != Unknown || err != nil {
		t.Errorf("udp socket: %q %v", got, err)
	}
}

// What is written and not read is outstanding once the peer takes no more.
func TestLook(t *testing.T) {
	needMPTCP(t)
	l := listen(t, "127.0.0.1:0", Require)
	client, server, _ := pair(t, &Dialer{}, l)
	rc := rawOf(t, client)
	var i Info
	if err := i.Read(rc); err != nil {
		t.Fatal(err)
	}
	until(t, "nothing outstanding", func() bool {
		g, err := ReadSendState(rc)
		if err != nil || g.Token != i.Token {
			t.Fatalf("%+v %v, token %d", g, err, i.Token)
		}
		return g.Outstanding == 0
	})
	much := make([]byte, 64<<20) // takes time where the race detector is on
	if err := client.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	n, _ := client.Write(much)
	g, err := ReadSendState(rc)
	if err != nil || g.Outstanding == 0 || g.Outstanding > uint64(n) {
		t.Errorf("%d written and nobody reads: %+v %v", n, g, err)
	}
	if _, err := ReadSendState(rawOf(t, server)); err != nil {
		t.Error(err)
	}
	plain := listen(t, "127.0.0.1:0", Off)
	fellBack, _, _ := pair(t, &Dialer{}, plain)
	if _, err := ReadSendState(rawOf(t, fellBack)); !errors.Is(err, ErrNotMPTCP) {
		t.Errorf("on one that fell back: %v", err)
	}
}
