package mptcp

import (
	"context"
	"errors"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"mpgate/internal/need"
)

func nft(t *testing.T, rules string) {
	t.Helper()
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		need.Missing(t, "nft: %v: %s", err, out)
	}
}

func dialed(t *testing.T, d *Dialer, to netip.AddrPort) (Result, time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	start := time.Now()
	c, r, err := d.Dial(ctx, to)
	took := time.Since(start)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	return r, took
}

// A box drops every SYN that asks for MPTCP: that costs the first dial some 250 ms and
// later ones nothing, and the kernel does not find a black hole.
func TestRaceVanishing(t *testing.T) {
	needMPTCP(t)
	newNetns(t)
	noFDLeak(t)
	nft(t, "table ip t { chain c { type filter hook input priority 0; tcp flags & (syn|ack) == syn tcp option mptcp exists drop; }; }")
	for _, retrans := range []string{"2", "0"} {
		sysctl(t, "net.mptcp.syn_retrans_before_tcp_fallback", retrans)
		l := listen(t, "127.0.0.1:0", Require)
		d := &Dialer{Memory: new(Memory)}
		r, took := dialed(t, d, addrOf(l))
		if want := (Result{Transport: Fallback, Reason: Blackhole}); r != want || took < raceAfter || took > 900*time.Millisecond {
			t.Errorf("the first: %v after %v", r, took)
		}
		for range 20 {
			r, took := dialed(t, d, addrOf(l))
			if want := (Result{Transport: Fallback, Reason: Blackhole, Learned: true}); r != want || took > raceAfter {
				t.Errorf("a later one: %v after %v", r, took)
			}
		}
		if n := d.Memory.Skipped(); n != 20 {
			t.Errorf("%d skipped", n)
		}
	}
	n, err := ReadCounters()
	if err != nil || n["Blackhole"] != 0 || n["MPCapableSYNTXDrop"] != 0 || n["MPCapableSYNTXDisabled"] != 0 {
		t.Errorf("the kernel has noticed: %v %v %v, %v", n["Blackhole"], n["MPCapableSYNTXDrop"], n["MPCapableSYNTXDisabled"], err)
	}
	// Others are not concerned.
	nft(t, "flush ruleset")
	l := listen(t, "127.0.0.1:0", Require)
	if r, _ := dialed(t, &Dialer{Memory: new(Memory)}, addrOf(l)); r.Transport != MPTCP {
		t.Errorf("afterwards: %v", r)
	}
}

// A server without MPTCP is asked three times.
func TestRaceFallback(t *testing.T) {
	needMPTCP(t)
	noFDLeak(t)
	l := listen(t, "127.0.0.1:0", Off)
	d := &Dialer{Memory: new(Memory)}
	for i := range 5 {
		r, _ := dialed(t, d, addrOf(l))
		if want := (Result{Transport: Fallback, Reason: PeerOrPath, Learned: i >= 3}); r != want {
			t.Errorf("dial %d: %v", i, r)
		}
	}
}

// Of the one dial that is to ask again nothing may come, and the next one asks.
func TestRaceNotBegun(t *testing.T) {
	needMPTCP(t)
	noFDLeak(t)
	l := listen(t, "127.0.0.1:0", Require)
	d := &Dialer{Memory: new(Memory)}
	d.Memory.connected(addrOf(l), Result{Transport: Fallback, Reason: Blackhole}, true, time.Millisecond, time.Now().Add(-2*firstPlain))
	astray := *d
	astray.Interface = "nosuch0"
	if _, _, err := astray.Dial(context.Background(), addrOf(l)); !errors.Is(err, syscall.ENODEV) {
		t.Fatalf("bound to a device that is not there: %v", err)
	}
	if r, _ := dialed(t, d, addrOf(l)); r.Transport != MPTCP {
		t.Errorf("afterwards: %v", r)
	}
}

// A server that refuses, and one that cannot be reached, cost one attempt; so does one
// that is silent, if the caller gives up before.
func TestRaceDead(t *testing.T) {
	needMPTCP(t)
	newNetns(t)
	noFDLeak(t)
	d := &Dialer{Memory: new(Memory)}
	dead := netip.MustParseAddrPort("127.0.0.1:9")
	count := func() int {
		out, err := exec.Command("nft", "list", "counter", "ip", "t", "syns").Output()
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for i, f := range strings.Fields(string(out)) {
			if f == "packets" {
				for _, c := range strings.Fields(string(out))[i+1] {
					n = 10*n + int(c-'0')
				}
			}
		}
		return n
	}
	nft(t, "table ip t { counter syns {}; chain c { type filter hook output priority 0; tcp flags & (syn|ack) == syn counter name syns; }; }")
	if _, _, err := d.Dial(context.Background(), dead); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("refused: %v", err)
	}
	if n := count(); n != 1 {
		t.Errorf("%d SYNs to a server that refuses", n)
	}
	if _, _, err := d.Dial(context.Background(), netip.MustParseAddrPort("192.0.2.1:9")); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("unreachable: %v", err)
	}
	nft(t, "table ip u { chain c { type filter hook input priority 0; tcp flags & (syn|ack) == syn drop; }; }")
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, _, err := d.Dial(ctx, dead); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silent: %v", err)
	}
	if n := count(); n != 2 {
		t.Errorf("%d SYNs", n)
	}
	// Silent for longer: raced, and both end with the context; nothing is learned.
	ctx, cancel = context.WithTimeout(context.Background(), 1100*time.Millisecond)
	defer cancel()
	if _, _, err := d.Dial(ctx, dead); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silent for long: %v", err)
	}
	for _, s := range d.Memory.Servers() {
		if s.Plain {
			t.Errorf("learned of a server that never answered: %+v", s)
		}
	}
}

// A server that comes up while it is dialled is reached, and not held to be one that has no MPTCP.
func TestRaceRestarting(t *testing.T) {
	needMPTCP(t)
	newNetns(t)
	noFDLeak(t)
	// The first SYN of each kind is lost.
	nft(t, "table ip t { chain c { type filter hook input priority 0; tcp flags & (syn|ack) == syn numgen inc mod 1000 < 2 drop; }; }")
	l := listen(t, "127.0.0.1:0", Require)
	d := &Dialer{Memory: new(Memory)}
	r, took := dialed(t, d, addrOf(l))
	if want := (Result{Transport: Fallback, Reason: PeerOrPath}); r != want || took < time.Second {
		t.Errorf("%v after %v", r, took)
	}
	if r, _ := dialed(t, d, addrOf(l)); r.Transport != MPTCP {
		t.Errorf("the next: %v", r)
	}
	if n, err := ReadCounters(); err != nil || n["Blackhole"] != 0 {
		t.Errorf("black holes: %d, %v", n["Blackhole"], err)
	}
}
