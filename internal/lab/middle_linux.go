package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// middle is the namespace in which the kernel runs links: for link k the
// interfaces ak and bk, whose peers are in the places, and an nftables table
// that forwards between them.
type middle struct {
	space space
	nl    *netlink.Handle

	mu    sync.Mutex
	state map[*Link]*kernelState
}

type kernelState struct {
	paths  [2]Path
	silent [2]bool
	box    Box
}

// netem says whether this kernel has it.
var netem = sync.OnceValue(func() bool {
	s, err := newSpace()
	if err != nil {
		return false
	}
	defer s.file.Close()
	nl, err := netlink.NewHandleAt(netns.NsHandle(s.fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return false
	}
	defer nl.Close()
	lo, err := nl.LinkByName("lo")
	return err == nil && nl.QdiscAdd(netlink.NewNetem(root(lo), netlink.NetemQdiscAttrs{})) == nil
})

var errNoNetem = errors.New("this kernel has no netem for delay and jitter; set Engine to lab.Emulator")

// choose settles Auto.
func choose(l *LinkSpec) (Engine, error) {
	need := false
	for _, p := range []Path{l.there(), l.back()} {
		need = need || p.Delay > 0 || p.Jitter > 0
	}
	_, err := exec.LookPath("nft")
	switch {
	case l.Engine == Kernel && err != nil:
		return Kernel, fmt.Errorf("%w; install nftables or set Engine to lab.Emulator", err)
	case l.Engine == Kernel && need && !netem():
		return Kernel, errNoNetem
	case l.Engine == Auto && err == nil && (!need || netem()):
		return Kernel, nil
	case l.Engine == Auto:
		return Emulator, nil
	}
	return l.Engine, nil
}

func newMiddle() (*middle, error) {
	s, err := newSpace()
	if err != nil {
		return nil, err
	}
	nl, err := netlink.NewHandleAt(netns.NsHandle(s.fd()), unix.NETLINK_ROUTE)
	if err != nil {
		_ = s.file.Close()
		return nil, fmt.Errorf("lab: middle: %w", err)
	}
	m := &middle{space: s, nl: nl, state: map[*Link]*kernelState{}}
	// The bridge only forwards frames and needs no address.
	quiet := func() error { return writeSysctl("net.ipv6.conf.default.disable_ipv6", "1") }
	if err := s.do(quiet); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

func (m *middle) close() {
	m.nl.Close()
	_ = m.space.file.Close()
}

// connect makes the interfaces of a link.
func (m *middle) connect(l *Link) error {
	for i := range l.ends {
		e := &l.ends[i]
		name := l.middleDev(i)
		veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: e.dev, PeerNamespace: netlink.NsFd(e.place.space.fd())}
		veth.Name, veth.MTU = name, l.MTU
		if err := m.nl.LinkAdd(veth); err != nil {
			return fmt.Errorf("veth %s to %q in %q: %w", name, e.dev, e.place.name, err)
		}
		if err := e.place.Do(func() error { return unsegmented(e.dev) }); err != nil {
			return err
		}
		dev, err := m.nl.LinkByName(name)
		if err != nil {
			return err
		}
		if err := m.nl.LinkSetUp(dev); err != nil {
			return err
		}
	}
	m.state[l] = &kernelState{paths: [2]Path{l.there(), l.back()}, box: l.Box}
	return nil
}

func (l *Link) middleDev(side int) string { return fmt.Sprintf("%c%d", 'a'+side, l.number) }

// start sets the paths and lets traffic pass.
func (m *middle) start(ctx context.Context) error {
	var rules strings.Builder
	for l, s := range m.state {
		for i, p := range s.paths {
			if err := m.shape(l, i, p); err != nil {
				return err
			}
			for _, name := range counterNames {
				fmt.Fprintf(&rules, "add counter netdev lab %s\n", l.counter(i, name))
			}
			fmt.Fprintf(&rules, "add chain netdev lab %s { type filter hook ingress device %s priority 0; }\n", l.middleDev(i), l.middleDev(i))
		}
		s.rules(l, &rules)
	}
	return m.nft(ctx, "add table netdev lab\n"+rules.String())
}

var counterNames = []string{"silenced", "boxed", "lost"}

func (l *Link) counter(side int, name string) string { return l.middleDev(side) + "_" + name }

// rules replaces the rules of a link.
func (s *kernelState) rules(l *Link, b *strings.Builder) {
	for i, p := range s.paths {
		chain := l.middleDev(i)
		rule := func(format string, args ...any) {
			fmt.Fprintf(b, "add rule netdev lab %s %s\n", chain, fmt.Sprintf(format, args...))
		}
		fmt.Fprintf(b, "flush chain netdev lab %s\n", chain)
		if s.silent[i] {
			rule("counter name %s drop", l.counter(i, "silenced"))
		}
		switch s.box {
		case StripMPTCP:
			rule("tcp option mptcp exists counter name %s reset tcp option mptcp", l.counter(i, "boxed"))
		case DropCapable:
			rule("tcp flags & syn == syn tcp option mptcp subtype %d counter name %s drop", subCapable, l.counter(i, "boxed"))
		case DropJoin:
			rule("tcp flags & syn == syn tcp option mptcp subtype %d counter name %s drop", subJoin, l.counter(i, "boxed"))
		}
		if p.Loss > 0 {
			const whole = 1 << 30
			rule("numgen random mod %d < %d counter name %s drop", whole, int64(p.Loss*whole), l.counter(i, "lost"))
		}
		rule("fwd to %s", l.middleDev(1-i))
	}
}

func (m *middle) nft(ctx context.Context, rules string) error {
	cmd := exec.CommandContext(ctx, "nsenter", "--net="+m.space.path(), "--", "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("lab: nft: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

func root(dev netlink.Link) netlink.QdiscAttrs {
	return netlink.QdiscAttrs{LinkIndex: dev.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}
}

// shape sets the qdiscs for what comes in at one side, on the other side's
// interface of the middle: netem delays, tbf below it holds the queue.
func (m *middle) shape(l *Link, side int, p Path) error {
	dev, err := m.nl.LinkByName(l.middleDev(1 - side))
	if err != nil {
		return err
	}
	if p.Delay > 0 || p.Jitter > 0 {
		if !netem() {
			return fmt.Errorf("lab: link %q: %w", l.Name, errNoNetem)
		}
	}
	// Deleted by its handle, whatever its kind.
	_ = m.nl.QdiscDel(netlink.NewNetem(root(dev), netlink.NetemQdiscAttrs{}))
	attrs := root(dev)
	if p.Delay > 0 || p.Jitter > 0 {
		q := netlink.NewNetem(attrs, netlink.NetemQdiscAttrs{Latency: uint32(p.Delay.Microseconds()), Jitter: uint32(p.Jitter.Microseconds()), Limit: 1 << 20})
		if err := m.nl.QdiscAdd(q); err != nil {
			return fmt.Errorf("lab: link %q: netem: %w", l.Name, err)
		}
		attrs.Handle, attrs.Parent = netlink.MakeHandle(2, 0), netlink.MakeHandle(1, 1)
	}
	if p.Rate == 0 {
		return nil
	}
	// Room for a burst of 2 ms: tbf's timer is not finer on every machine.
	rate := uint64(p.Rate / 8)
	burst := max(rate*2/1000, uint64(2*(l.MTU+frameOverhead)))
	tbf := &netlink.Tbf{QdiscAttrs: attrs, Rate: rate, Limit: uint32(p.queueBytes(l.MTU)),
		Buffer: uint32(float64(burst) * float64(time.Second/time.Microsecond) / float64(rate) * netlink.TickInUsec())}
	if err := m.nl.QdiscAdd(tbf); err != nil {
		return fmt.Errorf("lab: link %q: tbf: %w", l.Name, err)
	}
	return nil
}

// change changes a link while it runs.
func (m *middle) change(l *Link, q request) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.state[l]
	next := *s
	for i := range 2 {
		if !q.Dir.has(i) {
			continue
		}
		if q.Silent != nil {
			next.silent[i] = *q.Silent
		}
		if q.Path != nil {
			next.paths[i] = *q.Path
			lossless := func(p Path) Path { p.Loss = 0; return p }
			if lossless(next.paths[i]) == lossless(s.paths[i]) {
				continue // and what waits in the queue is not lost
			}
			if err := m.shape(l, i, *q.Path); err != nil {
				return err
			}
		}
	}
	if q.Box != nil {
		next.box = *q.Box
	}
	var rules strings.Builder
	next.rules(l, &rules)
	if err := m.nft(context.Background(), rules.String()); err != nil {
		return err
	}
	*s = next
	return nil
}

// carrier follows the middle's interfaces: a veth whose peer is down has none.
func (m *middle) carrier(l *Link, on bool) error {
	for i := range 2 {
		dev, err := m.nl.LinkByName(l.middleDev(i))
		if err != nil {
			return err
		}
		set := m.nl.LinkSetDown
		if on {
			set = m.nl.LinkSetUp
		}
		if err := set(dev); err != nil {
			return fmt.Errorf("lab: link %q: carrier: %w", l.Name, err)
		}
	}
	return nil
}

func (m *middle) counters(l *Link) (there, back Counters, err error) {
	cmd := exec.Command("nsenter", "--net="+m.space.path(), "--", "nft", "-j", "list", "counters", "table", "netdev", "lab")
	out, err := cmd.Output()
	if err != nil {
		return there, back, fmt.Errorf("lab: nft: %w", err)
	}
	var list struct {
		NFTables []struct {
			Counter struct {
				Name    string
				Packets uint64
			}
		}
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return there, back, fmt.Errorf("lab: nft: %w", err)
	}
	packets := map[string]uint64{}
	for _, o := range list.NFTables {
		packets[o.Counter.Name] = o.Counter.Packets
	}
	for i, c := range []*Counters{&there, &back} {
		c.Silenced, c.Boxed, c.Lost = packets[l.counter(i, "silenced")], packets[l.counter(i, "boxed")], packets[l.counter(i, "lost")]
		dev, err := m.nl.LinkByName(l.middleDev(1 - i))
		if err != nil {
			return there, back, err
		}
		// A veth that sends to a peer which is down counts a drop.
		s := dev.Attrs().Statistics
		c.Packets, c.Bytes, c.Refused = s.TxPackets, s.TxBytes, s.TxDropped
		qdiscs, err := m.nl.QdiscList(dev)
		if err != nil {
			return there, back, err
		}
		for _, q := range qdiscs {
			if stats := q.Attrs().Statistics; stats != nil && stats.Queue != nil && q.Type() == "tbf" {
				c.Overflow += uint64(stats.Queue.Drops)
			}
		}
	}
	return there, back, nil
}
