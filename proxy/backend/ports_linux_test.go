package backend

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/internal/lab"
	"mpgate/internal/proxytest"
	"mpgate/mptcp"
)

// namespace is a network namespace with a loopback device of its own.
type namespace struct {
	fd int
}

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	lab.NeedRoot(t)
	n := &namespace{}
	errs := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its namespace
		errs <- func() (err error) {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			if n.fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
				return err
			}
			return exec.Command("ip", "link", "set", "lo", "up").Run()
		}()
	}()
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(n.fd) })
	return n
}

// do runs f in the namespace.
func (n *namespace) do(t *testing.T, f func()) {
	t.Helper()
	if err := n.run(f); err != nil {
		t.Fatal(err)
	}
}

func (n *namespace) run(f func()) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Setns(n.fd, unix.CLONE_NEWNET)
		if err == nil {
			f()
		}
		done <- err
	}()
	return <-done
}

func TestPortsRunOut(t *testing.T) {
	for _, mode := range []mptcp.Mode{mptcp.Off, mptcp.Prefer} {
		for _, source := range []string{"", "127.0.0.5"} {
			t.Run(mode.String()+" "+source, func(t *testing.T) {
				if mode != mptcp.Off {
					proxytest.NeedMPTCP(t)
				}
				portsRunOut(t, mode, source)
			})
		}
	}
}

func portsRunOut(t *testing.T, mode mptcp.Mode, source string) {
	const ports = 4
	n := newNamespace(t)
	listen := func() (list []ServerOptions) {
		var l net.Listener
		n.do(t, func() {
			l = proxytest.Listen(t, mode)
		})
		proxytest.OriginOn(t, l, silent)
		o := ServerOptions{Address: l.Addr().String(), MPTCP: mode}
		if source != "" {
			o.Source = netip.MustParseAddr(source)
		}
		return []ServerOptions{o}
	}
	one, two := listen(), listen()
	n.do(t, func() {
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("20000 20003"), 0o644); err != nil {
			t.Error(err)
		}
	})
	b, _ := pool(t, Options{Servers: one, ConnectTimeout: time.Second})
	var open []Stream
	n.do(t, func() {
		for range ports {
			up, _, err := attempt(b, Request{})
			if err != nil {
				t.Error(err)
				return
			}
			open = append(open, up)
		}
		began := time.Now()
		_, a, err := attempt(b, Request{})
		wantShort(t, err, ShortPorts, began, b)
		if a.Tries() != 0 || b.Status()[0].Down {
			t.Errorf("%d tries, %+v", a.Tries(), b.Status())
		}
		// Another server has ports of its own.
		both, _ := pool(t, Options{Servers: append(one, two...)})
		for range 2 {
			began = time.Now()
			up, a, err := attempt(both, Request{})
			if err != nil || a.Tries() > 2 || time.Since(began) > 2*time.Second {
				t.Errorf("with another server: %v after %v, %d tries", err, time.Since(began), a.Tries())
				continue
			}
			end(up)
		}
	})
	if len(open) != ports {
		return
	}
	b.options.ConnectTimeout = time.Minute
	got := make(chan error)
	go func() {
		if err := n.run(func() {
			up, _, err := attempt(b, Request{})
			if err == nil {
				end(up)
			}
			got <- err
		}); err != nil {
			got <- err
		}
	}()
	if !proxytest.Within(time.Minute, func() bool { return b.connLimit.waiting.Load() == 1 }) {
		t.Fatal("no request waits")
	}
	end(open[0]) // by a reset, which leaves no port behind
	if err := <-got; err != nil {
		t.Errorf("after a port was free: %v", err)
	}
	for _, up := range open[1:] {
		end(up)
	}
}
