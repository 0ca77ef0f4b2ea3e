package listener

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"mpgate/mptcp"
)

// MPTCP cannot be turned off on an inherited socket: the process that passed it keeps it listening.
// But where two were passed for one address, one MPTCP and one TCP with SO_REUSEPORT on both (two
// .socket units with ReusePort=yes and one FileDescriptorName), new connections can be steered to
// either, as between sockets that mpgate opened (swap.go):
//
//	Open    finds out the places of the two in their group: it steers to each in turn and asks for MPTCP
//	Serve   steers to the one that the configuration wants
//
// Both are accepted from as long as they are there: connections that wait at the other are not
// lost.

// pair finds the pairs among inherited sockets, and their indexes in the group unless they are
// known.
func (l *Listener) pair() {
	for i, s := range l.sockets {
		for _, t := range l.sockets[i+1:] {
			if s.tcp == nil || t.tcp == nil || s.info.Address != t.info.Address || s.info.Transport == t.info.Transport {
				continue
			}
			plain, multi := s, t
			if s.info.Transport != mptcp.TCP {
				plain, multi = t, s
			}
			if plain.info.Transport == mptcp.TCP && multi.info.Transport == mptcp.MPTCP {
				l.pairUp(plain, multi)
			}
		}
	}
}

func (l *Listener) pairUp(plain, multi *Socket) {
	if !plain.placed {
		place, err := placeOf(plain.tcp)
		if err != nil {
			l.o.log().Warn("two sockets were passed for one address, and new connections cannot be directed to one of them", "listener", l.o.Name,
				"address", plain.info.Address, "err", err)
			return
		}
		plain.place, multi.place = place, 1-place
		plain.placed, multi.placed = true, true
	}
	want, other := multi, plain
	if l.o.MPTCP == mptcp.Off || mptcp.Disabled() {
		want, other = plain, multi
	}
	other.info.Why, other.info.Remedy, other.info.Reserve = "", "", true
	want.plain = plain
}

// steerPairs directs new connections to the configured sockets. mu must be held.
func (l *Listener) steerPairs() {
	for _, s := range l.sockets {
		if s.plain == nil {
			continue
		}
		if err := steer(s.plain.tcp, s.place); err != nil {
			l.o.log().Error("cannot direct new connections to one socket: both sockets of the address get some", "listener", l.o.Name,
				"address", s.info.Address, "wanted", s.info.Transport.String(), "err", err)
		}
	}
}

// Resteer directs new connections to the configured sockets again, after another process with the
// same sockets has changed that and ended.
func (l *Listener) Resteer() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.serving && !l.closed {
		l.steerPairs()
	}
}

// placesOf copies the places from another listener of the same sockets.
func (l *Listener) placesOf(old *Listener) {
	for i, s := range l.sockets {
		if o := old.sockets[i]; o.placed {
			s.place, s.placed = o.place, true
		}
	}
}

// placeTime bounds a connection to this process itself.
const placeTime = time.Second

// placeOf finds out the place of the plain one of two sockets in their group: a connect that asks
// for MPTCP gets it from the other only.
func placeOf(plain *net.TCPListener) (uint32, error) {
	to, err := netip.ParseAddrPort(plain.Addr().String())
	if err != nil {
		return 0, err
	}
	switch a := to.Addr(); {
	case a.IsUnspecified() && a.Is4():
		to = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), to.Port())
	case a.IsUnspecified():
		to = netip.AddrPortFrom(netip.IPv6Loopback(), to.Port())
	}
	var multi [2]bool
	for place := range multi {
		if err := steer(plain, uint32(place)); err != nil {
			return 0, err
		}
		if multi[place], err = getsMPTCP(to); err != nil {
			return 0, err
		}
	}
	if multi[0] == multi[1] {
		return 0, fmt.Errorf("a connection from this host cannot distinguish the two (MPTCP at both: %t); check that both .socket units have ReusePort=yes, and that net.mptcp.enabled=1", multi[0])
	}
	if multi[0] {
		return 1, nil
	}
	return 0, nil
}

func getsMPTCP(to netip.AddrPort) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), placeTime)
	defer cancel()
	c, _, err := (&mptcp.Dialer{Mode: mptcp.Require}).Dial(ctx, to)
	if err == nil {
		return true, c.Close()
	}
	if errors.Is(err, mptcp.ErrRequired) {
		return false, nil
	}
	return false, err
}
