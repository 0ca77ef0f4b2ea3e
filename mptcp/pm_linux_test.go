package mptcp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Deleting "endpoint 0" with its address ends the initial subflow (RM_ADDR).
func TestDelEndpointZero(t *testing.T) {
	client, server, pm := twoPaths(t)
	until(t, "two subflows", func() bool { return subflows(t, client) == 2 })
	if err := pm.DelEndpoint(0, netip.MustParseAddr("10.9.0.1")); err != nil {
		t.Fatal(err)
	}
	until(t, "one subflow", func() bool { return subflows(t, client) == 1 })
	exchange(t, client, server)
	var i Info
	until(t, "the initial subflow is closed", func() bool {
		if err := i.Read(rawOf(t, client)); err != nil {
			t.Fatal(err)
		}
		live := slices.DeleteFunc(slices.Clone(i.Subflows), func(s Subflow) bool { return !s.Live() })
		return len(live) == 1 && live[0].Local.Addr() == netip.MustParseAddr("10.9.0.2") && !live[0].Initial
	})
}

// A subflow that is gone must not be taken for the listener that has its address.
func TestDestroySparesListeners(t *testing.T) {
	needMPTCP(t)
	newNetns(t)
	d, err := OpenDiag()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, mode := range []Mode{Off, Require} {
		l := listen(t, "0.0.0.0:0", mode)
		at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(l.Addr().(*net.TCPAddr).Port))
		gone := netip.MustParseAddrPort("127.0.0.1:9")
		if n, err := d.DestroyAll([]Target{{Local: at, Remote: gone}, {Local: at, Remote: gone, Interface: 1}}); n != 0 || err != nil {
			t.Errorf("%v: %d ended, %v", mode, n, err)
		}
		if err := d.Destroy(at, gone, 0); !errors.Is(err, unix.ENOENT) {
			t.Errorf("%v: %v", mode, err)
		}
		client, server, _ := pair(t, &Dialer{Mode: Off}, l) // it still listens
		client.Close()
		server.Close()
	}
}

// A socket that is bound to a device is found only by naming it.
func TestDestroyBoundToDevice(t *testing.T) {
	needMPTCP(t)
	newNetns(t)
	d, err := OpenDiag()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	client, _, _ := pair(t, &Dialer{Interface: "lo"}, listen(t, "127.0.0.1:0", Require))
	local, remote := client.LocalAddr().(*net.TCPAddr).AddrPort(), client.RemoteAddr().(*net.TCPAddr).AddrPort()
	if err := d.Destroy(local, remote, 0); !errors.Is(err, unix.ENOENT) {
		t.Errorf("without the device: %v", err)
	}
	if err := d.Destroy(local, remote, 1); err != nil {
		t.Errorf("with the device: %v", err)
	}
	// The connection itself would wait net.mptcp.close_timeout (60 s) for another.
	until(t, "no subflow", func() bool { return subflows(t, client) == 0 })
}

// dropNetAdmin takes CAP_NET_ADMIN from the test's thread, which ends with the test.
func dropNetAdmin(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		t.Fatal(err)
	}
	data[0].Effective &^= 1 << unix.CAP_NET_ADMIN
	if err := unix.Capset(&hdr, &data[0]); err != nil {
		t.Fatal(err)
	}
}

// Without the capability one may read, and what may not be done says what it needs.
func TestUnprivileged(t *testing.T) {
	needMPTCP(t)
	noFDLeak(t)
	dropNetAdmin(t)
	pm, err := OpenPathManager()
	if err != nil {
		t.Fatal(err)
	}
	defer pm.Close()
	if _, err := pm.Endpoints(); err != nil {
		t.Errorf("endpoints: %v", err)
	}
	if _, err := pm.Limits(); err != nil {
		t.Errorf("limits: %v", err)
	}
	_, addErr := pm.AddEndpoint(Endpoint{Addr: netip.MustParseAddr("192.0.2.9"), Flags: FlagSubflow})
	_, limitsErr := pm.SetLimits(Limits{Subflows: 2})
	_, eventsErr := OpenEvents()
	d, err := OpenDiag()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	client, _, _ := pair(t, &Dialer{}, listen(t, "127.0.0.1:0", Prefer))
	local, remote := client.LocalAddr().(*net.TCPAddr).AddrPort(), client.RemoteAddr().(*net.TCPAddr).AddrPort()
	for want, err := range map[string]error{
		"add MPTCP endpoint 192.0.2.9: CAP_NET_ADMIN is needed (operation not permitted)": addErr,
		"set MPTCP limits: CAP_NET_ADMIN is needed (operation not permitted)":             limitsErr,
		"subscribe to MPTCP events: CAP_NET_ADMIN is needed (operation not permitted)":    eventsErr,
		"destroy subflow " + local.String() + " -> " + remote.String() +
			": CAP_NET_ADMIN is needed (operation not permitted)": d.Destroy(local, remote, 0),
	} {
		if !errors.Is(err, unix.EPERM) || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

// Events that nobody reads are lost, and that is told.
func TestEventsOverrun(t *testing.T) {
	needMPTCP(t)
	newNetns(t)
	ev, err := OpenEvents()
	if err != nil {
		t.Fatal(err)
	}
	defer ev.Close()
	if err := ev.c.SetReadBuffer(1); err != nil { // the kernel's least
		t.Fatal(err)
	}
	l := listen(t, "127.0.0.1:0", Require)
	for range 50 {
		pair(t, &Dialer{}, l)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		if _, err = ev.Next(ctx); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrOverrun) {
		t.Fatalf("got %v", err)
	}
	for range 3 {
		pair(t, &Dialer{}, l)
	}
	if _, err := ev.Next(ctx); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A dead port among the ephemeral ones: TCP would connect to itself when the
// kernel happens to choose it as our own. Here it has no other.
func TestDialSelf(t *testing.T) {
	needMPTCP(t)
	newNetns(t)
	noFDLeak(t)
	for m, port := range map[Mode]string{Prefer: "40000", Off: "40001"} {
		sysctl(t, "net.ipv4.ip_local_port_range", port+" "+port)
		c, _, err := (&Dialer{Mode: m}).Dial(context.Background(), netip.MustParseAddrPort("127.0.0.1:"+port))
		if c != nil || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %v %v", m, c, err)
		}
	}
	for m, port := range map[Mode]string{Prefer: "40002", Off: "40003"} {
		sysctl(t, "net.ipv4.ip_local_port_range", port+" "+port)
		_, err := (&Dialer{Mode: m}).Touch(context.Background(), netip.MustParseAddrPort("127.0.0.1:"+port))
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: a touch: %v", m, err)
		}
	}
}

func TestDialNonsense(t *testing.T) {
	for to, want := range map[netip.AddrPort]string{
		{}: "no address to dial",
		netip.MustParseAddrPort("[fe80::1%no-such]:80"): "no such zone",
	} {
		if _, _, err := (&Dialer{}).Dial(context.Background(), to); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want %q", to, err, want)
		}
	}
}

// Many at once: those that are there end, the others are passed over.
func TestDestroyAll(t *testing.T) {
	client, server, _ := twoPaths(t)
	until(t, "two subflows", func() bool { return subflows(t, client) == 2 })
	d, err := OpenDiag()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var i Info
	if err := i.Read(rawOf(t, client)); err != nil {
		t.Fatal(err)
	}
	dead := i.Subflows[1]
	targets := []Target{{Local: dead.Local, Remote: dead.Remote}}
	for port := range uint16(200) {
		targets = append(targets, Target{Local: netip.AddrPortFrom(dead.Local.Addr(), 1+port), Remote: dead.Remote})
	}
	if n, err := d.DestroyAll(targets); n != 1 || err != nil {
		t.Errorf("%d ended, %v", n, err)
	}
	until(t, "one subflow", func() bool { return subflows(t, client) == 1 })
	exchange(t, client, server)
	dropNetAdmin(t)
	if err := i.Read(rawOf(t, client)); err != nil {
		t.Fatal(err)
	}
	live := i.Subflows[0]
	want := "destroy subflow " + live.Local.String() + " -> " + live.Remote.String() + ": CAP_NET_ADMIN is needed (operation not permitted)"
	if n, err := d.DestroyAll([]Target{{Local: live.Local, Remote: live.Remote}}); n != 0 || err == nil || err.Error() != want {
		t.Errorf("%d ended\ngot  %v\nwant %s", n, err, want)
	}
}
