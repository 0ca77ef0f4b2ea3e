package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Link is a link of a lab. LinkSpec is complete: with its addresses, names and
// the engine that runs it; what is changed at run time does not show there.
type Link struct {
	*LinkSpec
	lab      *Lab
	number   int // from 1
	emulated int // index among the child's links, -1 if run by the kernel
	ends     [2]end
}

// end is one end of a link.
type end struct {
	link  *Link
	place *Place
	dev   string
	addrs []netip.Prefix // IPv4 and IPv6, either may be invalid
	side  int            // 0 is A
}

func (e *end) addresses() (all []netip.Prefix) {
	for _, a := range e.addrs {
		if a.IsValid() {
			all = append(all, a)
		}
	}
	return all
}

const (
	firstTable    = 1000
	firstPriority = 1000
)

// configure makes both ends usable; again after an interface was down.
func (l *Link) configure() error {
	for i := range l.ends {
		if err := l.ends[i].configure(); err != nil {
			return fmt.Errorf("lab: link %q: %s in %q: %w", l.Name, l.ends[i].dev, l.ends[i].place.name, err)
		}
	}
	return nil
}

func (e *end) configure() error {
	nl := e.place.nl
	dev, err := nl.LinkByName(e.dev)
	if err != nil {
		return err
	}
	if err := nl.LinkSetMTU(dev, e.link.MTU); err != nil {
		return err
	}
	if e.link.Engine == Emulator {
		if err := nl.LinkSetTxQLen(dev, 10000); err != nil { // between two ticks of the emulator
			return err
		}
	}
	if err := nl.LinkSetUp(dev); err != nil {
		return err
	}
	for _, a := range e.addresses() {
		addr := &netlink.Addr{IPNet: ipNet(a), Flags: unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_NODAD}
		if err := nl.AddrReplace(dev, addr); err != nil {
			return fmt.Errorf("address %v: %w", a, err)
		}
		if err := e.route(&netlink.Route{LinkIndex: dev.Attrs().Index, Dst: ipNet(a.Masked()), Src: a.Addr().AsSlice(),
			Scope: netlink.SCOPE_LINK}); err != nil {
			return err
		}
	}
	if e.side == 1 {
		return nil
	}
	for _, a := range e.addresses() {
		if err := e.sourceRoutes(dev.Attrs().Index, a); err != nil {
			return err
		}
	}
	return nil
}

// sourceRoutes lets packets from address a take this link, whichever address
// of the place on the other side they go to, and nothing else.
func (e *end) sourceRoutes(dev int, a netip.Prefix) error {
	family, table := netlink.FAMILY_V4, firstTable+e.link.number
	if a.Addr().Is6() {
		family = netlink.FAMILY_V6
	}
	var gateway netip.Addr // this link's other end
	for _, other := range e.link.ends[1].addresses() {
		if other.Addr().Is4() == a.Addr().Is4() {
			gateway = other.Addr()
		}
	}
	if err := e.route(&netlink.Route{Table: table, LinkIndex: dev, Dst: ipNet(a.Masked()),
		Src: a.Addr().AsSlice(), Scope: netlink.SCOPE_LINK}); err != nil {
		return err
	}
	for _, l := range e.place.lab.links {
		if l == e.link || l.ends[0].place != e.place || l.ends[1].place != e.link.ends[1].place {
			continue
		}
		for _, other := range l.ends[1].addresses() {
			if other.Addr().Is4() != a.Addr().Is4() {
				continue
			}
			if err := e.route(&netlink.Route{Table: table, LinkIndex: dev, Dst: ipNet(netip.PrefixFrom(other.Addr(), other.Addr().BitLen())),
				Gw: gateway.AsSlice(), Src: a.Addr().AsSlice()}); err != nil {
				return err
			}
		}
	}
	// A link that is down has no routes: its address must not leave by another.
	all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if family == netlink.FAMILY_V6 {
		all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	if err := e.place.nl.RouteReplace(&netlink.Route{Table: table, Dst: ipNet(all), Type: unix.RTN_UNREACHABLE, Priority: 1 << 30}); err != nil {
		return fmt.Errorf("unreachable route: %w", err)
	}
	rule := netlink.NewRule()
	rule.Family, rule.Table, rule.Priority = family, table, firstPriority+e.link.number
	rule.Src = ipNet(netip.PrefixFrom(a.Addr(), a.Addr().BitLen()))
	if err := e.place.nl.RuleAdd(rule); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("rule %v: %w", rule, err)
	}
	return nil
}

func (e *end) route(r *netlink.Route) error {
	err := e.place.nl.RouteReplace(r)
	if c := e.place.lab.congestion; err == nil && c.Means == "route" {
		err = e.lockCongestion(r, c.Name)
	}
	if err != nil {
		return fmt.Errorf("route %v: %w", r, err)
	}
	return nil
}

// lockCongestion gives a route its congestion control. Without the lock, which
// netlink.Route does not know, MPTCP resets that of the subflows which a server
// takes in to the namespace's default.
func (e *end) lockCongestion(r *netlink.Route, name string) error {
	args := []string{"route", "replace", r.Dst.String(), "dev", e.dev, "src", r.Src.String(), "proto", r.Protocol.String()}
	if r.Gw != nil {
		args = append(args, "via", r.Gw.String())
	} else {
		args = append(args, "scope", "link")
	}
	if r.Table != 0 {
		args = append(args, "table", fmt.Sprint(r.Table))
	}
	args = append(args, "congctl", "lock", name)
	if out, err := e.place.Command(context.Background(), "ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("congctl: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func (l *Link) end(place string) (*end, error) {
	for i := range l.ends {
		if l.ends[i].place.name == place {
			return &l.ends[i], nil
		}
	}
	return nil, fmt.Errorf("lab: link %q does not end in %q, but in %q and %q", l.Name, place, l.A, l.B)
}

// Down takes the interface at one end down, as `ip link set DEV down` does.
func (l *Link) Down(place string) error {
	e, err := l.end(place)
	if err != nil {
		return err
	}
	dev, err := e.place.nl.LinkByName(e.dev)
	if err != nil {
		return fmt.Errorf("lab: link %q: %w", l.Name, err)
	}
	return e.place.nl.LinkSetDown(dev)
}

// Up takes it up again, with its addresses and routes.
func (l *Link) Up(place string) error {
	e, err := l.end(place)
	if err != nil {
		return err
	}
	if err := e.configure(); err != nil {
		return fmt.Errorf("lab: link %q: %w", l.Name, err)
	}
	return nil
}

// Carrier takes the carrier from both ends, as a pulled plug does, or gives it
// back.
func (l *Link) Carrier(on bool) error {
	if l.emulated < 0 {
		return l.lab.middle.carrier(l, on)
	}
	_, err := l.lab.ask(request{Link: l.emulated, Carrier: &on})
	return err
}

// Silence makes all packets vanish while the link stays up, or ends that.
// What is already in flight arrives.
func (l *Link) Silence(d Direction, on bool) error {
	if l.emulated < 0 {
		return l.lab.middle.change(l, request{Dir: d, Silent: &on})
	}
	_, err := l.lab.ask(request{Link: l.emulated, Dir: d, Silent: &on})
	return err
}

// Set changes rate, delay, jitter, loss and queue.
func (l *Link) Set(d Direction, p Path) error {
	if err := p.check(); err != nil {
		return fmt.Errorf("lab: link %q: %w", l.Name, err)
	}
	if l.emulated < 0 {
		return l.lab.middle.change(l, request{Dir: d, Path: &p})
	}
	_, err := l.lab.ask(request{Link: l.emulated, Dir: d, Path: &p})
	return err
}

// SetBox puts a middlebox on the link, instead of the one that is there.
func (l *Link) SetBox(b Box) error {
	if l.emulated < 0 {
		return l.lab.middle.change(l, request{Box: &b})
	}
	_, err := l.lab.ask(request{Link: l.emulated, Box: &b})
	return err
}

// Counters returns what went from A to B, and back, since the lab is up.
func (l *Link) Counters() (there, back Counters, err error) {
	if l.emulated < 0 {
		return l.lab.middle.counters(l)
	}
	r, err := l.lab.ask(request{Link: l.emulated})
	return r.Count[0], r.Count[1], err
}
