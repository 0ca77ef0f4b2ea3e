package mptcp

import (
	"net/netip"
	"testing"
	"time"
)

var someServer = netip.MustParseAddrPort("192.0.2.1:80")

func TestMemory(t *testing.T) {
	fellBack, withheld, spoke := Result{Transport: Fallback, Reason: PeerOrPath}, Result{Transport: Fallback, Reason: Blackhole}, Result{Transport: MPTCP}
	type step struct {
		after    time.Duration // since the step before
		ask      bool
		why      Reason
		result   Result // where it asks
		vanished bool
		fails    bool
	}
	const ms, sec = time.Millisecond, time.Second
	for name, steps := range map[string][]step{
		"uses MPTCP": {{ask: true, result: spoke}, {ask: true, result: spoke}, {ask: true, result: spoke}},
		"falls back thrice, then is asked less and less": {
			{ask: true, result: fellBack}, {ask: true, result: fellBack}, {ask: true, result: fellBack},
			{why: PeerOrPath}, {after: 59 * sec, why: PeerOrPath},
			{after: 2 * sec, ask: true, result: fellBack}, {after: 119 * sec, why: PeerOrPath},
			{after: 2 * sec, ask: true, result: fellBack}, {after: 239 * sec, why: PeerOrPath},
			{after: 2 * sec, ask: true, result: spoke}, {ask: true, result: fellBack}, {ask: true, result: fellBack}, {ask: true, result: spoke},
		},
		"MPTCP between fallbacks": {{ask: true, result: fellBack}, {ask: true, result: fellBack}, {ask: true, result: spoke}, {ask: true, result: fellBack}, {ask: true, result: spoke}},
		"vanishes":                {{ask: true, result: withheld, vanished: true}, {why: Blackhole}, {after: 59 * sec, why: Blackhole}, {after: 2 * sec, ask: true, result: spoke}, {ask: true, result: spoke}},
		"a SYN is lost":           {{ask: true, result: spoke}, {ask: true, result: withheld, vanished: true}, {ask: true, result: spoke}, {ask: true, result: withheld, vanished: true}, {ask: true, result: spoke}},
		"many are lost at once": {{ask: true, result: spoke}, {ask: true, result: withheld, vanished: true}, {ask: true, result: withheld, vanished: true},
			{after: sec, ask: true, result: withheld, vanished: true}, {after: sec / 2, ask: true, result: spoke}},
		"vanishes from some time on": {{ask: true, result: spoke}, {ask: true, result: withheld, vanished: true}, {after: sec, ask: true, result: withheld, vanished: true},
			{after: 2 * sec, ask: true, result: withheld, vanished: true}, {why: Blackhole}, {after: 4 * sec, why: Blackhole}, {after: 2 * sec, ask: true, result: withheld, vanished: true},
			{after: 9 * sec, why: Blackhole}, {after: 2 * sec, ask: true, result: spoke}, {ask: true, result: spoke}},
		"the kernel withholds it": {{ask: true, result: withheld}, {ask: true, result: withheld}, {ask: true, result: withheld}, {ask: true, result: withheld}, {ask: true, result: spoke}},
		"withheld when it is asked again": {{ask: true, result: withheld, vanished: true}, {after: 61 * sec, ask: true, result: withheld}, {after: 59 * sec, why: Blackhole},
			{after: 2 * sec, ask: true, result: spoke}},
		"fails when it is asked again": {{ask: true, result: withheld, vanished: true}, {after: 61 * sec, ask: true, fails: true}, {ask: true, fails: true}, {ask: true, result: spoke}},
	} {
		t.Run(name, func(t *testing.T) {
			var m Memory
			now := time.Unix(1e9, 0)
			for i, s := range steps {
				now = now.Add(s.after)
				ask, why := m.ask(someServer, now)
				if ask != s.ask || why != s.why {
					t.Fatalf("step %d: asks %v for %q", i, ask, why)
				}
				switch {
				case !ask:
				case s.fails:
					m.failed(someServer)
				default:
					m.connected(someServer, s.result, s.vanished, 10*ms, now)
				}
			}
		})
	}
}

// While one dial asks again the others continue by plain TCP.
func TestMemoryOneAsks(t *testing.T) {
	var m Memory
	now := time.Unix(1e9, 0)
	m.connected(someServer, Result{Transport: Fallback}, true, time.Millisecond, now)
	now = now.Add(2 * time.Minute)
	if ask, _ := m.ask(someServer, now); !ask {
		t.Fatal("not asked again")
	}
	if ask, why := m.ask(someServer, now); ask || why != Blackhole {
		t.Errorf("two ask at once: %v %q", ask, why)
	}
	if n := m.Skipped(); n != 1 {
		t.Errorf("%d skipped", n)
	}
	if s := m.Servers(); len(s) != 1 || !s[0].Plain || s[0].Reason != Blackhole || s[0].Address != someServer || s[0].RTT != time.Millisecond {
		t.Errorf("%+v", s)
	}
	m.Forget()
	if ask, _ := m.ask(someServer, now); !ask {
		t.Error("not forgotten")
	}
}

func TestMemoryRTTAndBounds(t *testing.T) {
	var m Memory
	now := time.Unix(1e9, 0)
	if d := m.raceDelay(someServer); d != 250*time.Millisecond {
		t.Errorf("unknown: %v", d)
	}
	m.plainTook(someServer, 200*time.Millisecond, now)
	if d := m.raceDelay(someServer); d != 400*time.Millisecond {
		t.Errorf("far: %v", d)
	}
	m.plainTook(someServer, 3*time.Second, now) // with a retransmission
	if d := m.raceDelay(someServer); d != 400*time.Millisecond {
		t.Errorf("a retransmission counted: %v", d)
	}
	for i := range 2 * maxServers {
		m.plainTook(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1), time.Millisecond, now.Add(time.Duration(i)))
	}
	if n := len(m.Servers()); n != maxServers {
		t.Errorf("%d servers", n)
	}
}
