package listener

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/mptcp"
)

// twins are two sockets of one address, as two .socket units with ReusePort=yes make them: they
// listen in the order given.
func twins(t *testing.T, address string, reuse bool, order ...mptcp.Mode) (files []*os.File, at string) {
	t.Helper()
	at = address
	for _, m := range order {
		lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) (err error) {
			opt := unix.SO_REUSEPORT
			if !reuse {
				return nil
			}
			if cerr := rc.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, opt, 1) }); cerr != nil {
				return cerr
			}
			return err
		}}
		lc.SetMultipathTCP(m != mptcp.Off)
		network := "tcp"
		if strings.HasPrefix(at, "0.0.0.0") {
			network = "tcp4" // else it would be [::]
		}
		l, err := lc.Listen(context.Background(), network, at)
		if err != nil {
			t.Fatal(err)
		}
		at = l.Addr().String()
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		files = append(files, f)
	}
	return files, at
}

// TestPair: of two sockets for one address, one MPTCP and one TCP, new connections go to the one
// that is wanted, whichever listens first; a reload steers to the other and back, and what waits at
// either is served.
func TestPair(t *testing.T) {
	needMPTCP(t)
	for name, order := range map[string][]mptcp.Mode{"mptcp first": {mptcp.Prefer, mptcp.Off}, "tcp first": {mptcp.Off, mptcp.Prefer}} {
		for _, address := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::]:0"} {
			t.Run(name+" "+address, func(t *testing.T) {
				noFDLeak(t)
				files, at := twins(t, address, true, order...)
				_, port, _ := net.SplitHostPort(at)
				to := net.JoinHostPort("127.0.0.1", port)
				// Those that wait since before anybody steered: at either.
				var waiting []net.Conn
				for range 20 {
					d := net.Dialer{Timeout: 10 * time.Second}
					d.SetMultipathTCP(true)
					c, err := d.Dial("tcp", to)
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					waiting = append(waiting, c)
				}
				var reserve atomic.Int64 // connections that came by the socket that is not wanted
				accept := func(c net.Conn, s *Socket) {
					if s.Info().Reserve {
						reserve.Add(1)
					}
					sendAddress(c, s)
				}
				in := NewInherited(map[string][]*os.File{"web": files})
				l := open(t, Options{Name: "web", Systemd: "web"}, in)
				serve(t, l, accept)
				<-l.started
				for _, c := range waiting {
					_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
					b := make([]byte, 100)
					if n, err := c.Read(b); err != nil || string(b[:n]) != at {
						t.Errorf("who waited got %q, %v", b[:n], err)
					}
				}
				check := func(want mptcp.Transport, probes int64) {
					t.Helper()
					before := reserve.Load()
					for range 50 {
						if got := dialledAt(t, to, at); got != want && !(want == mptcp.TCP && got == mptcp.Fallback) {
							t.Errorf("a connection uses %v, want %v", got, want)
						}
					}
					if n := reserve.Load() - before; n > probes {
						t.Errorf("%d of 50 came by the other socket", n)
					}
				}
				check(mptcp.MPTCP, 1) // one that Open made
				for _, s := range l.Sockets() {
					if s.Why != "" || s.Reserve != (s.Transport == mptcp.TCP) {
						t.Errorf("%+v", s)
					}
				}
				for _, m := range []mptcp.Mode{mptcp.Off, mptcp.Require} {
					l = replaceServing(t, l, m, leaveAfter, accept)
					wanted := map[mptcp.Mode]mptcp.Transport{mptcp.Off: mptcp.TCP, mptcp.Require: mptcp.MPTCP}[m]
					check(wanted, 0)
					// Another process gets the sockets, finds out about them, and fails.
					given, err := l.Files()
					if err != nil {
						t.Fatal(err)
					}
					other := open(t, Options{Name: "web", Systemd: "web"}, NewInherited(map[string][]*os.File{"web": given}))
					if err := other.Close(); err != nil {
						t.Fatal(err)
					}
					l.Resteer()
					check(wanted, 2) // its two probes
					for _, s := range l.Sockets() {
						if s.Why != "" || s.Reserve != ((s.Transport == mptcp.TCP) != (m == mptcp.Off)) {
							t.Errorf("%v: %+v", m, s)
						}
					}
				}
			})
		}
	}
}

// TestPairNotSteered: two sockets that share no group are served both, and the log says so.
func TestPairNotSteered(t *testing.T) {
	needMPTCP(t)
	noFDLeak(t)
	files, at := twins(t, "127.0.0.1:0", true, mptcp.Prefer)
	more, _ := twins(t, "127.0.0.2:0", true, mptcp.Off)
	var log bytes.Buffer
	l := open(t, Options{Name: "web", Systemd: "web", Log: slog.New(slog.NewTextHandler(&log, nil))},
		NewInherited(map[string][]*os.File{"web": append(files, more...)}))
	if s := l.Sockets(); s[0].Reserve || s[1].Reserve || s[0].Address != at || s[1].Why != "the socket that was passed is TCP" {
		t.Errorf("two addresses: %+v", s)
	}
	plain, multi := l.sockets[1], l.sockets[0]
	if _, err := placeOf(plain.tcp); err == nil || !strings.Contains(err.Error(), "cannot distinguish the two (MPTCP at both: false)") {
		t.Errorf("got %v", err)
	}
	l.pairUp(plain, multi)
	if !strings.Contains(log.String(), "new connections cannot be directed to one of them") || plain.info.Reserve {
		t.Errorf("log %s, socket %+v", log.String(), plain.info)
	}
}
