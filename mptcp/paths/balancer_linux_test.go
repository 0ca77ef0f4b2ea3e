package paths

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mpgate/internal/lab"
	"mpgate/mptcp"
)

// balanced is a client, a balancer that knows nothing of MPTCP, and two gateways
// behind its address:
//
//	client 10.77.1.1, .9 ── 10.77.1.2:8080 balancer ─┬─ 10.77.2.2 gw1
//	                         (nftables dnat)          └─ 10.77.3.2 gw2
//
// What is announced must be another address than the one that the balancer sends to:
// the kernel does not announce the address of the connection itself. Here each gateway has
// a second one, .3.
func balanced(t *testing.T, join string) *lab.Lab {
	t.Helper()
	deny := map[string]string{"net.mptcp.allow_join_initial_addr_port": join}
	l := lab.Start(t, lab.Spec{
		Links: []lab.LinkSpec{
			{Name: "c", A: "client", B: "balancer"}, {Name: "g1", A: "balancer", B: "gw1"}, {Name: "g2", A: "balancer", B: "gw2"},
		},
		Places: []lab.PlaceSpec{
			{Name: "gw1", NoEndpoints: true, Sysctl: deny}, {Name: "gw2", NoEndpoints: true, Sysctl: deny},
			{Name: "balancer", Sysctl: map[string]string{"net.ipv4.ip_forward": "1"}},
		},
	})
	ip := func(place string, args string) {
		t.Helper()
		if out, err := l.Place(place).Command(context.Background(), "ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("%s: ip %s: %v: %s", place, args, err, out)
		}
	}
	ip("client", "address add 10.77.1.9/24 dev c")
	for _, net := range []string{"10.77.2.0/24", "10.77.3.0/24"} {
		ip("client", "route add "+net+" via 10.77.1.2")
		ip("client", "route add "+net+" via 10.77.1.2 table 1001")
	}
	for name, net := range map[string]string{"gw1": "10.77.2", "gw2": "10.77.3"} {
		ip(name, "address add "+net+".3/24 dev g"+name[2:])
		ip(name, "route add 10.77.1.0/24 via "+net+".1")
	}
	if err := l.Place("client").AddEndpoint(lab.Endpoint{Addr: netip.MustParseAddr("10.77.1.9"), Flags: lab.Subflow}); err != nil {
		t.Fatal(err)
	}
	nft := l.Place("balancer").Command(context.Background(), "nft", "-f", "-")
	nft.Stdin = strings.NewReader(`table ip lb { chain c { type nat hook prerouting priority dstnat;
		ip daddr 10.77.1.2 tcp dport 8080 dnat to numgen random mod 2 map { 0 : 10.77.2.2, 1 : 10.77.3.2 }; }; }`)
	if out, err := nft.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
	return l
}

// gateway runs a manager that announces the host's own address, and a server that says who it is
// and then echoes.
func gateway(t *testing.T, l *lab.Lab, name, address string, o Options) {
	t.Helper()
	r := &rig{t: t, lab: l, place: l.Place(name), up: map[string]bool{}}
	r.open(o)
	until(t, "in sync", func() bool { s := r.m.Status(); return s.InSync() && len(s.Endpoints) == len(o.Paths) })
	ln, err := r.place.Listen(context.Background(), lab.MPTCP, "0.0.0.0:8080")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := io.WriteString(c, address); err == nil {
					io.Copy(c, c)
				}
			}()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
}

// Joins reach the right one of two gateways behind one address if each announces its
// own and forbids joins to the common one; without that some do not.
func TestBehindBalancer(t *testing.T) {
	for _, c := range []struct {
		name, join string
		announce   bool
	}{{"by the recipe", "0", true}, {"without it", "1", false}} {
		t.Run(c.name, func(t *testing.T) {
			l := balanced(t, c.join)
			for name, address := range map[string]string{"gw1": "10.77.2.2", "gw2": "10.77.3.2"} {
				o := Options{Manage: ManageSync, Limits: &mptcp.Limits{Subflows: 4, AddrAccepted: 4}}
				if c.announce {
					o.Paths = []Path{{Name: "own", Address: ip(own(address)), Announce: true}}
				}
				gateway(t, l, name, address, o)
			}
			served, joined := map[string]int{}, 0
			for i := 0; i < 100 && (i < 10 || served["10.77.2.2"] < 3 || served["10.77.3.2"] < 3); i++ {
				who, remotes := viaBalancer(t, l, c.announce)
				served[who]++
				for _, a := range remotes {
					if a == own(who) {
						joined++
					} else if a != "10.77.1.2" {
						t.Errorf("served by %s, joined at %s", who, a)
					}
				}
			}
			if all := served["10.77.2.2"] + served["10.77.3.2"]; c.announce && (joined != all || lost(t, l) != 0) {
				t.Errorf("of %d connections %d were joined at the right one's address; %d joins reached the wrong gateway", all, joined, lost(t, l))
			}
			if !c.announce {
				until(t, "a join that reaches the wrong gateway: else this test shows nothing", func() bool {
					viaBalancer(t, l, false)
					return lost(t, l) > 0
				})
			}
		})
	}
}

// viaBalancer makes a connection and says who serves it, and the remote addresses of its subflows.
func viaBalancer(t *testing.T, l *lab.Lab, wait bool) (who string, remotes []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	c, err := l.Place("client").Dial(ctx, lab.MPTCP, ip("10.77.1.1"), "10.77.1.2:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(waitLimit))
	buf := make([]byte, len("10.77.2.2"))
	if _, err := io.ReadFull(c, buf); err != nil {
		t.Fatal(err)
	}
	who = string(buf)
	echo := func() {
		if _, err := c.Write(buf); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		echo()
	}
	if wait {
		until(t, fmt.Sprintf("a subflow to %s", own(who)), func() bool { return len(remotesOf(t, c)) > 1 })
	}
	echo()
	return who, remotesOf(t, c)
}

// own is the address that a gateway announces.
func own(address string) string { return strings.TrimSuffix(address, "2") + "3" }

// lost counts the joins that reached a gateway which does not know the connection.
func lost(t *testing.T, l *lab.Lab) (n uint64) {
	t.Helper()
	for _, name := range []string{"gw1", "gw2"} {
		counters, err := l.Place(name).MPTCPCounters()
		if err != nil {
			t.Fatal(err)
		}
		n += counters["MPJoinNoTokenFound"]
	}
	return n
}

func remotesOf(t *testing.T, c *net.TCPConn) (s []string) {
	t.Helper()
	i := infoOf(t, c)
	for k := range i.Subflows {
		if i.Subflows[k].State == mptcp.StateEstablished {
			s = append(s, i.Subflows[k].Remote.Addr().String())
		}
	}
	return s
}
