package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Mbit is 1 Mbit/s, the unit of [Path].Rate.
const Mbit = 1_000_000

// Spec describes a lab. Only Links is required.
type Spec struct {
	Links []LinkSpec
	// Places adds settings to places; those only named by links get the defaults.
	Places []PlaceSpec
	// IPv6 gives every link IPv6 addresses beside the IPv4 ones.
	IPv6 bool
	// Congestion is the congestion control of all connections between places,
	// "" for the host's default. See [Lab.Congestion] for what came of it.
	Congestion string
	// Seed makes loss and jitter of the emulator repeatable; 0 is a seed too.
	Seed uint64
}

// PlaceSpec holds the settings of one place.
type PlaceSpec struct {
	Name string
	// Sysctl is written once all links are up, in no particular order:
	// {"net.mptcp.enabled": "0"}.
	Sysctl map[string]string
	// NoEndpoints leaves the MPTCP endpoints and limits of the place as the
	// kernel has them: no endpoints, 2 subflows, no announcement accepted.
	// Otherwise every address on the A side of a link is a subflow endpoint
	// and the limits are 8 and 8.
	NoEndpoints bool
}

// LinkSpec describes a link between the places A and B. A is the side that
// dials (see the package comment).
type LinkSpec struct {
	Name string // unique in the lab; also the name of the interfaces
	A, B string
	Path       // from A to B, and back unless Back is set
	Back *Path // from B to A
	// DevA and DevB name the interfaces; "" is Name.
	DevA, DevB string
	// AddrA and AddrB are addresses with the length of the common prefix;
	// unset, link k gets 10.77.k.1/24 and .2/24. Addr6A and Addr6B likewise
	// fd77:0:0:k::1/64 and ::2/64; set, they count without Spec.IPv6.
	AddrA, AddrB, Addr6A, Addr6B netip.Prefix
	MTU                          int // 0 is 1500
	Engine                       Engine
	Box                          Box
}

// Path describes one direction of a link. The zero value is a perfect wire.
type Path struct {
	Rate   int64         // bit/s, counting Ethernet frames as tc does; 0 is unlimited
	Delay  time.Duration // one way
	Jitter time.Duration // Delay varies by up to this much in both directions, never below 0
	// Loss is the share of packets lost at random, 0 to 1: by nftables' numgen
	// in the kernel's engine, by a seeded generator in the emulator.
	Loss float64
	// Queue is the room for waiting packets, in bytes; QueuePackets in packets.
	// Both 0: what the rate carries in twice the delay and 20 ms.
	Queue        int
	QueuePackets int
}

// Engine says what runs a link.
type Engine uint8

const (
	// Auto takes the kernel's means where they suffice and else the emulator:
	// a link with delay, jitter or loss needs netem or the emulator.
	Auto Engine = iota
	// Kernel is veth, tbf, nftables, and netem for delay and jitter.
	Kernel
	// Emulator is the lab's own, in user space.
	Emulator
)

func (e Engine) String() string {
	return [...]string{"auto", "kernel", "emulator"}[min(int(e), 2)]
}

// Box is a middlebox on a link. It acts on both directions.
type Box uint8

const (
	// NoBox lets everything pass.
	NoBox Box = iota
	// StripMPTCP overwrites every MPTCP option with NOPs.
	StripMPTCP
	// DropCapable drops SYNs that carry MP_CAPABLE.
	DropCapable
	// DropJoin drops SYNs that carry MP_JOIN.
	DropJoin
)

func (b Box) String() string {
	return [...]string{"none", "strip MPTCP", "drop MP_CAPABLE", "drop MP_JOIN"}[min(int(b), 3)]
}

// Pair is client =n links= server: link1 to linkn, all alike.
func Pair(n int, p Path) Spec {
	return Spec{Links: links(nil, "link", "client", "server", n, p)}
}

// Gateway is client =n links= gateway =n links= backend: front1 to frontn and
// back1 to backn, all alike.
func Gateway(n int, p Path) Spec {
	l := links(nil, "front", "client", "gateway", n, p)
	return Spec{Links: links(l, "back", "gateway", "backend", n, p)}
}

// TwoPaths is the topology drawn in the package comment. A Path without a rate
// gets 100 Mbit/s.
func TwoPaths(p Path) Spec {
	if p.Rate == 0 {
		p.Rate = 100 * Mbit
	}
	return Gateway(2, p)
}

func links(l []LinkSpec, prefix, a, b string, n int, p Path) []LinkSpec {
	for i := range n {
		l = append(l, LinkSpec{Name: fmt.Sprintf("%s%d", prefix, i+1), A: a, B: b, Path: p})
	}
	return l
}

// frameOverhead is the Ethernet header that a rate counts.
const frameOverhead = 14

// queueBytes is the room of the queue in bytes, frames counted, for mtu.
func (p Path) queueBytes(mtu int) int {
	switch {
	case p.Queue > 0:
		return p.Queue
	case p.QueuePackets > 0:
		return p.QueuePackets * (mtu + frameOverhead)
	}
	room := time.Duration(2)*p.Delay + 20*time.Millisecond
	return max(int(float64(p.Rate)/8*room.Seconds()), 10*(mtu+frameOverhead))
}

func (p Path) check() error {
	switch {
	case p.Rate < 0:
		return fmt.Errorf("rate is negative (got %d)", p.Rate)
	case p.Rate > 0 && p.Rate < 1000:
		return fmt.Errorf("rate is below 1000 bit/s (got %d); give bit/s, as in 100 * lab.Mbit", p.Rate)
	case p.Delay < 0 || p.Delay > 10*time.Second:
		return fmt.Errorf("delay is not within 0 to 10s (got %v)", p.Delay)
	case p.Jitter < 0 || p.Jitter > 10*time.Second:
		return fmt.Errorf("jitter is not within 0 to 10s (got %v)", p.Jitter)
	case !(p.Loss >= 0 && p.Loss <= 1):
		return fmt.Errorf("loss is not within 0 to 1 (got %v); 1 %% is 0.01", p.Loss)
	case p.Queue < 0 || p.QueuePackets < 0:
		return fmt.Errorf("queue is negative (got %d bytes, %d packets)", p.Queue, p.QueuePackets)
	case p.Queue > 0 && p.QueuePackets > 0:
		return fmt.Errorf("queue is given in bytes and in packets (got %d and %d); give one", p.Queue, p.QueuePackets)
	}
	return nil
}

// there and back give the two directions of a link.
func (l *LinkSpec) there() Path { return l.Path }

func (l *LinkSpec) back() Path {
	if l.Back != nil {
		return *l.Back
	}
	return l.Path
}

// complete returns a copy of s with all defaults filled in, or all faults.
func (s Spec) complete() (Spec, error) {
	var errs []error
	fault := func(format string, args ...any) { errs = append(errs, fmt.Errorf("lab: "+format, args...)) }
	if len(s.Links) == 0 {
		fault("no links")
	}
	if len(s.Links) > 200 {
		fault("%d links, at most 200", len(s.Links))
	}
	s.Links = append([]LinkSpec(nil), s.Links...)
	names, places := map[string]bool{}, map[string]bool{}
	devs, sides := map[[2]string]bool{}, map[[2]string]bool{}
	for i := range s.Links {
		l := &s.Links[i]
		if err := l.complete(i+1, s.IPv6); err != nil {
			fault("link %q: %w", l.Name, err)
			continue
		}
		if names[l.Name] {
			fault("link %q: the name is used twice", l.Name)
		}
		names[l.Name] = true
		sides[[2]string{l.A, l.B}] = true
		if sides[[2]string{l.B, l.A}] {
			fault("link %q: another link has %q as A and %q as B; of all links between two places the same is A", l.Name, l.B, l.A)
		}
		for _, end := range [][2]string{{l.A, l.DevA}, {l.B, l.DevB}} {
			if devs[end] {
				fault("link %q: place %q has two interfaces %q", l.Name, end[0], end[1])
			}
			devs[end], places[end[0]] = true, true
		}
	}
	seen := map[string]bool{}
	for _, p := range s.Places {
		if !places[p.Name] {
			fault("place %q: no link leads there", p.Name)
		}
		if seen[p.Name] {
			fault("place %q: described twice", p.Name)
		}
		seen[p.Name] = true
	}
	return s, errors.Join(errs...)
}

func (l *LinkSpec) complete(k int, ipv6 bool) error {
	if l.Name == "" || l.A == "" || l.B == "" || l.A == l.B {
		return fmt.Errorf("needs a name and two places (got %q, %q and %q)", l.Name, l.A, l.B)
	}
	for _, dev := range []*string{&l.DevA, &l.DevB} {
		if *dev == "" {
			*dev = l.Name
		}
		if len(*dev) > 15 || *dev == "lo" {
			return fmt.Errorf("interface %q: a name has at most 15 bytes and is not lo", *dev)
		}
	}
	if l.MTU == 0 {
		l.MTU = 1500
	}
	if l.MTU < 576 || l.MTU > 9000 {
		return fmt.Errorf("mtu is not within 576 to 9000 (got %d)", l.MTU)
	}
	if l.Engine > Emulator || l.Box > DropJoin {
		return fmt.Errorf("unknown engine or box (got %d and %d)", l.Engine, l.Box)
	}
	for _, p := range []Path{l.there(), l.back()} {
		if err := p.check(); err != nil {
			return err
		}
	}
	if !l.AddrA.IsValid() && !l.AddrB.IsValid() {
		l.AddrA = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, byte(k), 1}), 24)
		l.AddrB = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, byte(k), 2}), 24)
	}
	if ipv6 && !l.Addr6A.IsValid() && !l.Addr6B.IsValid() {
		l.Addr6A = netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x77, 7: byte(k), 15: 1}), 64)
		l.Addr6B = netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x77, 7: byte(k), 15: 2}), 64)
	}
	if err := checkPair(l.AddrA, l.AddrB, false); err != nil {
		return err
	}
	if l.Addr6A.IsValid() || l.Addr6B.IsValid() {
		return checkPair(l.Addr6A, l.Addr6B, true)
	}
	return nil
}

func checkPair(a, b netip.Prefix, six bool) error {
	if !a.IsValid() || !b.IsValid() || a.Addr().Is4() == six || a.Masked() != b.Masked() || a.Addr() == b.Addr() {
		return fmt.Errorf("the two ends need two addresses of one prefix (got %v and %v)", a, b)
	}
	return nil
}
