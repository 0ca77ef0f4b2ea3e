package lab

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestDelay(t *testing.T) {
	NeedRoot(t)
	for _, delay := range []time.Duration{0, 10 * time.Millisecond, 25 * time.Millisecond} {
		t.Run(delay.String(), func(t *testing.T) {
			spec := Pair(1, Path{Rate: 100 * Mbit, Delay: delay}).with(Emulator)
			l := Start(t, spec)
			a, b := connect(t, l.Place("client"), l.Place("server"), TCP, l.Link("link1").AddrB.Addr())
			rtts := pings(t, a, b, 31)
			least, median := rtts[0], rtts[len(rtts)/2]
			t.Logf("round trip of 2 x %v: %v to %v, median %v", delay, least, rtts[len(rtts)-1], median)
			if least < 2*delay-tick || least > 2*delay+2*time.Millisecond {
				t.Errorf("least round trip %v at 2 x %v", least, delay)
			}
			if median > 2*delay+20*time.Millisecond { // the machine may be busy
				t.Errorf("median round trip %v at 2 x %v", median, delay)
			}
			if err := l.Link("link1").Set(AtoB, Path{Rate: 100 * Mbit, Delay: delay + 40*time.Millisecond}); err != nil {
				t.Fatal(err)
			}
			if least := pings(t, a, b, 5)[0]; least < 2*delay+40*time.Millisecond-tick || least > 2*delay+60*time.Millisecond {
				t.Errorf("least round trip %v with 40 ms more one way", least)
			}
		})
	}
}

// pings returns round trips, the shortest first.
func pings(t *testing.T, a, b net.Conn, n int) (rtts []time.Duration) {
	t.Helper()
	echo := make(chan error, 1)
	go func() {
		_, err := io.CopyN(b, b, int64(n))
		echo <- err
	}()
	one := make([]byte, 1)
	for range n {
		start := time.Now()
		if _, err := a.Write(one); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(a, one); err != nil {
			t.Fatal(err)
		}
		rtts = append(rtts, time.Since(start))
	}
	if err := <-echo; err != nil {
		t.Fatal(err)
	}
	slices.Sort(rtts)
	return rtts
}

func TestLossAndSilence(t *testing.T) {
	engines(t, func(t *testing.T, e Engine) {
		l := Start(t, Pair(1, Path{Loss: 0.05}).with(e))
		link := l.Link("link1")
		if link.Engine != e {
			t.Errorf("run by %v", link.Engine)
		}
		var c net.PacketConn
		err := l.Place("client").Do(func() (err error) {
			c, err = net.ListenPacket("udp4", ":0")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(link.AddrB.Addr(), 9))
		handled := func() uint64 {
			there, _ := bytesOf(t, link)
			return there.Packets + there.Lost + there.Silenced
		}
		const n = 5000
		flood := func() {
			before := handled()
			for i := range n {
				if _, err := c.WriteTo([]byte("x"), to); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
					t.Fatal(err)
				}
				if i%500 == 499 { // no queue on the way is to overflow
					until(t, "packets handled", func() bool { return handled()-before >= uint64(i) })
				}
			}
		}
		flood()
		there, _ := bytesOf(t, link)
		if sigma := math.Sqrt(n * .05 * .95); math.Abs(float64(there.Lost)-.05*n) > 5*sigma || there.Lost+there.Packets < n {
			t.Errorf("5 %% loss of %d: %+v", n, there)
		}
		if err := link.Silence(AtoB, true); err != nil {
			t.Fatal(err)
		}
		flood()
		silent, _ := bytesOf(t, link)
		if silent.Silenced < n || silent.Packets > there.Packets+10 {
			t.Errorf("silent: %+v", silent)
		}
		if err := errors.Join(link.Silence(Both, false), link.Set(Both, Path{})); err != nil {
			t.Fatal(err)
		}
		flood()
		open, _ := bytesOf(t, link)
		if open.Lost != silent.Lost || open.Silenced != silent.Silenced || open.Packets < silent.Packets+n {
			t.Errorf("after silence and loss: %+v", open)
		}
	})
}

func TestCutInTheMiddle(t *testing.T) {
	engines(t, func(t *testing.T, e Engine) {
		for _, cut := range []struct {
			name string
			cut  func(l *Link) error
			mend func(l *Link) error
		}{
			{"sender's interface down", func(l *Link) error { return l.Down("server") }, func(l *Link) error { return l.Up("server") }},
			{"receiver's interface down", func(l *Link) error { return l.Down("client") }, func(l *Link) error { return l.Up("client") }},
			{"no carrier", func(l *Link) error { return l.Carrier(false) }, func(l *Link) error { return l.Carrier(true) }},
			{"silent", func(l *Link) error { return l.Silence(Both, true) }, func(l *Link) error { return l.Silence(Both, false) }},
		} {
			t.Run(cut.name, func(t *testing.T) {
				l := Start(t, Pair(2, Path{Rate: 100 * Mbit}).with(e))
				first, second := l.Link("link1"), l.Link("link2")
				dialled, accepted := connect(t, l.Place("client"), l.Place("server"), MPTCP, first.AddrB.Addr())
				var before [2]Counters
				took := transfer(t, accepted, dialled, 10<<20, func() {
					if err := cut.cut(first); err != nil {
						t.Error(err)
					}
					_, before[0] = bytesOf(t, first)
					_, before[1] = bytesOf(t, second)
				})
				_, one := bytesOf(t, first)
				_, two := bytesOf(t, second)
				t.Logf("10 MiB in %v", took)
				if one.Bytes-before[0].Bytes > 1<<20 || two.Bytes-before[1].Bytes < 1<<20 {
					t.Errorf("after the cut link1 carried %d bytes and link2 %d", one.Bytes-before[0].Bytes, two.Bytes-before[1].Bytes)
				}
				if err := cut.mend(first); err != nil {
					t.Fatal(err)
				}
				a, b := connect(t, l.Place("client"), l.Place("server"), TCP, first.AddrB.Addr())
				transfer(t, b, a, 1<<20, nil)
				if _, after := bytesOf(t, first); after.Bytes < one.Bytes+1<<20 {
					t.Errorf("mended, but link1 carried %d bytes", after.Bytes-one.Bytes)
				}
			})
		}
	})
}

func TestCarrier(t *testing.T) {
	engines(t, func(t *testing.T, e Engine) {
		l := Start(t, Pair(1, Path{}).with(e))
		for _, on := range []bool{false, true} {
			if err := l.Link("link1").Carrier(on); err != nil {
				t.Fatal(err)
			}
			for _, p := range l.Places() {
				until(t, fmt.Sprintf("carrier is %v", on), func() bool {
					dev, err := p.nl.LinkByName("link1")
					return err == nil && dev.Attrs().RawFlags&unix.IFF_LOWER_UP != 0 == on
				})
			}
		}
	})
}

func TestBoxOnTheWire(t *testing.T) {
	engines(t, func(t *testing.T, e Engine) {
		for _, c := range []struct {
			box     Box
			counter string
		}{
			{StripMPTCP, "MPCapableFallbackSYNACK"},
			{DropCapable, "MPCapableSYNTXDrop"},
			{DropJoin, "MPJoinSynTx"},
		} {
			t.Run(c.box.String(), func(t *testing.T) {
				l := Start(t, Pair(2, Path{}).with(e))
				client, server := l.Place("client"), l.Place("server")
				for _, k := range l.Links() {
					if err := k.SetBox(c.box); err != nil {
						t.Fatal(err)
					}
				}
				// Fall back after 1 s instead of 3 s.
				if err := client.Sysctl("net.mptcp.syn_retrans_before_tcp_fallback", "0"); err != nil {
					t.Fatal(err)
				}
				dialled, accepted := connect(t, client, server, MPTCP, l.Link("link1").AddrB.Addr())
				pings(t, dialled, accepted, 3) // joins follow, unless the connection is closing
				until(t, c.counter+" above 0, and seen by the box", func() bool {
					counters, err := client.MPTCPCounters()
					if err != nil {
						t.Fatal(err)
					}
					one, _ := bytesOf(t, l.Link("link1"))
					two, _ := bytesOf(t, l.Link("link2"))
					return counters[c.counter] > 0 && one.Boxed+two.Boxed > 0
				})
				transfer(t, dialled, accepted, 1<<20, nil)
				counters, err := server.MPTCPCounters()
				if err != nil {
					t.Fatal(err)
				}
				if was := counters["MPCapableSYNRX"] > 0; was != (c.box == DropJoin) || counters["MPJoinSynRx"] > 0 {
					t.Errorf("at the server: %v", counters)
				}
			})
		}
	})
}

func TestCongestion(t *testing.T) {
	NeedRoot(t)
	for _, name := range []string{"cubic", "reno"} {
		spec := Pair(2, Path{Rate: 100 * Mbit})
		spec.Congestion = name
		l := Start(t, spec)
		t.Logf("%+v", l.Congestion())
		a, b := connect(t, l.Place("client"), l.Place("server"), MPTCP, l.Link("link1").AddrB.Addr())
		pings(t, a, b, 3) // lets the second subflow start
		for _, p := range l.Places() {
			var subflows []string
			until(t, "two subflows in "+p.Name(), func() bool {
				out, err := p.Command(background(t), "ss", "-tinHO", "state", "established").Output()
				if err != nil {
					t.Fatalf("ss: %v", err)
				}
				subflows = strings.Split(strings.TrimSpace(string(out)), "\n")
				return len(subflows) == 2
			})
			for _, line := range subflows {
				if !strings.Contains(line, " "+name+" ") {
					t.Errorf("not %s: %s", name, line)
				}
			}
		}
	}
	if _, err := New(background(t), Spec{Links: Pair(1, Path{}).Links, Congestion: "vegas2"}); err == nil ||
		!strings.HasPrefix(err.Error(), `lab: congestion control "vegas2" is not among those of this kernel: `) {
		t.Errorf("unknown congestion control: %v", err)
	}
}
