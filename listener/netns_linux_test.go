package listener

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mpgate/internal/need"
	"mpgate/mptcp"
)

// On a host without MPTCP "prefer" opens TCP and says why; "require" is an error.
func TestHostWithoutMPTCP(t *testing.T) {
	needMPTCP(t)
	need.Root(t, "making a network namespace")
	runtime.LockOSThread() // and never unlocked: the thread and its namespace end with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		need.Missing(t, "unshare: %v", err)
	}
	noFDLeak(t)
	if err := os.WriteFile("/proc/sys/net/mptcp/enabled", []byte("0"), 0o644); err != nil {
		t.Fatal(err)
	}
	const why, remedy = "MPTCP is off in this network namespace (net.mptcp.enabled=0)", "sysctl -w net.mptcp.enabled=1"
	for _, address := range []string{"0.0.0.0:8080", "[::]:8081", ":8082"} {
		l := open(t, Options{Name: "web", Addresses: []string{address}}, nil)
		if s := l.Sockets()[0]; s.Transport != mptcp.TCP || s.Why != why || s.Remedy != remedy {
			t.Errorf("%s: %+v", address, s)
		}
	}
	off := open(t, Options{Name: "web", Addresses: []string{"0.0.0.0:8083"}, MPTCP: mptcp.Off}, nil)
	if s := off.Sockets()[0]; s.Transport != mptcp.TCP || s.Why != "" {
		t.Errorf("off: %+v", s)
	}
	_, err := Open(context.Background(), Options{Name: "web", Addresses: []string{"0.0.0.0:8084"}, MPTCP: mptcp.Require}, nil)
	const want = `listener "web": mptcp = "require" on 0.0.0.0:8084, and this host does not support MPTCP: ` + why + `: protocol not available; remedy: ` + remedy
	if err == nil || err.Error() != want || !errors.Is(err, unix.ENOPROTOOPT) {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	o := off.o
	o.MPTCP = mptcp.Require
	_, err = Reopen(t.Context(), o, nil, off)
	if again := strings.Replace(want, "8084", "8083", 1); err == nil || err.Error() != again {
		t.Errorf("by a reload\ngot  %v\nwant %s", err, again)
	}
}

func TestKillSwitch(t *testing.T) {
	needMPTCP(t)
	t.Setenv("GODEBUG", "x=y,multipathtcp=0")
	l := open(t, Options{Name: "web", Addresses: []string{"127.0.0.1:0"}}, nil)
	s := l.Sockets()[0]
	if s.Transport != mptcp.TCP || s.Why != "MPTCP is turned off by GODEBUG=multipathtcp=0 in the environment" {
		t.Errorf("%+v", s)
	}
}
