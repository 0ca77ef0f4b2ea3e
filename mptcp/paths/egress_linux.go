package paths

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"mpgate/mptcp"
)

// A subflow uses the path of the device by which it leaves. With source routing that is the one
// with its local address. But a server with one address sends to a client's second address by the
// route to it.

// egress is the path by which a subflow leaves.
type egress struct {
	path *path
	dead bool // there is no route, or its path is known to be down
}

// maxEgresses limits the cache of routes.
const maxEgresses = 1 << 15

// egressOf returns the path by which a subflow leaves. It asks the kernel once for each pair of
// addresses, until the host changes.
func (m *Manager) egressOf(s *mptcp.Subflow) egress {
	k := addrPair{s.Local.Addr(), s.Remote.Addr()}
	l, ok := m.egresses[k]
	if !ok {
		l = m.lookUpEgress(k)
		if len(m.egresses) >= maxEgresses {
			clear(m.egresses)
		}
		m.egresses[k] = l
	}
	if p := l.path; p != nil && (p.state == Down || p.state == Silent) {
		l.dead = true
	}
	return l
}

func (m *Manager) lookUpEgress(k addrPair) egress {
	p := m.byAddr[k.local]
	if len(m.paths) < 2 {
		return egress{path: p}
	}
	device, err := m.rt.device(k)
	if err != nil {
		return egress{path: p, dead: isUnreachable(err)}
	}
	if p != nil && p.index == device {
		return egress{path: p}
	}
	for _, q := range m.paths {
		if q.index == device && device != 0 {
			return egress{path: q}
		}
	}
	return egress{path: p}
}

// isUnreachable: there is no route, or (EINVAL) the host has no such address to send from.
func isUnreachable(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH)
}

// device returns the device of the route from one address to another.
func (r *rtnetlink) device(k addrPair) (int, error) {
	index, _, err := r.route(k, 0)
	return index, err
}

// route returns by which device packets leave and, if the local address is not given, from which
// address. by, if not 0, is the device that the socket is bound to: then only a route of the tables
// counts. Without one, IPv4 would take any address for a neighbour on that device.
func (r *rtnetlink) route(k addrPair, by int) (index int, from netip.Addr, err error) {
	family, bits := byte(unix.AF_INET6), byte(128)
	if k.remote.Is4() {
		family, bits = unix.AF_INET, 32
	}
	head := make([]byte, unix.SizeofRtMsg)
	head[0], head[1] = family, bits
	ae := netlink.NewAttributeEncoder()
	ae.Bytes(unix.RTA_DST, k.remote.AsSlice())
	if k.local.IsValid() {
		ae.Bytes(unix.RTA_SRC, k.local.AsSlice())
		head[2] = bits
	}
	if by != 0 {
		ae.Uint32(unix.RTA_OIF, uint32(by))
		binary.NativeEndian.PutUint32(head[8:], unix.RTM_F_FIB_MATCH) // Linux 4.13
	}
	attrs, err := ae.Encode()
	if err != nil {
		return 0, from, err
	}
	msgs, err := r.queries.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETROUTE, Flags: netlink.Request},
		Data:   append(head, attrs...),
	})
	if err != nil {
		return 0, from, err
	}
	for _, msg := range msgs {
		if len(msg.Data) < unix.SizeofRtMsg {
			continue
		}
		ad, err := netlink.NewAttributeDecoder(msg.Data[unix.SizeofRtMsg:])
		if err != nil {
			return 0, from, err
		}
		for ad.Next() {
			switch ad.Type() {
			case unix.RTA_OIF:
				index = int(ad.Uint32())
			case unix.RTA_PREFSRC:
				from, _ = netip.AddrFromSlice(ad.Bytes())
			}
		}
		if err := ad.Err(); err != nil {
			return 0, from, err
		}
	}
	return index, from, nil
}
