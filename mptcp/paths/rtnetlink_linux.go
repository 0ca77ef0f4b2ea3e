package paths

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// rtnetlink reads links and addresses of the namespace it was opened in, and hears
// of changes.
type rtnetlink struct {
	ask, news *netlink.Conn
}

const rtGroups = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR

func openRtnetlink() (*rtnetlink, error) {
	ask, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, fmt.Errorf("rtnetlink: %w", err)
	}
	news, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{Groups: rtGroups})
	if err != nil {
		ask.Close()
		return nil, fmt.Errorf("rtnetlink: %w", err)
	}
	return &rtnetlink{ask, news}, nil
}

func (r *rtnetlink) close() {
	r.ask.Close()
	r.news.Close()
}

// hear calls changed after each message, until the connection is closed. What
// changed is read anew: so it matters little that messages can be lost.
func (r *rtnetlink) hear(changed func()) error {
	for {
		_, err := r.news.Receive()
		switch {
		case err == nil, errors.Is(err, unix.ENOBUFS):
			changed()
		case errors.Is(err, os.ErrClosed), errors.Is(err, unix.EBADF), errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		default:
			return fmt.Errorf("rtnetlink: %w", err)
		}
	}
}

func (r *rtnetlink) host() (*host, error) {
	h := &host{}
	err := r.dump(unix.RTM_GETLINK, unix.SizeofIfInfomsg, h.addLink)
	if err == nil {
		err = r.dump(unix.RTM_GETADDR, unix.SizeofIfAddrmsg, h.addAddress)
	}
	if err != nil {
		return nil, fmt.Errorf("rtnetlink: %w", err)
	}
	return h, nil
}

func (r *rtnetlink) dump(what netlink.HeaderType, size int, each func(head []byte, attrs *netlink.AttributeDecoder) error) error {
	msgs, err := r.ask.Execute(netlink.Message{
		Header: netlink.Header{Type: what, Flags: netlink.Request | netlink.Dump},
		Data:   make([]byte, size), // AF_UNSPEC
	})
	if err != nil {
		return err
	}
	for _, m := range msgs {
		if len(m.Data) < size {
			continue
		}
		ad, err := netlink.NewAttributeDecoder(m.Data[size:])
		if err != nil {
			return err
		}
		if err := each(m.Data[:size], ad); err != nil {
			return err
		}
	}
	return nil
}

// addLink reads struct ifinfomsg.
func (h *host) addLink(head []byte, ad *netlink.AttributeDecoder) error {
	flags := binary.NativeEndian.Uint32(head[8:])
	l := link{
		index: int(int32(binary.NativeEndian.Uint32(head[4:]))),
		admin: flags&unix.IFF_UP != 0,
		// IFF_RUNNING says the same up to a second later.
		carrier:  flags&(unix.IFF_LOWER_UP|unix.IFF_DORMANT) == unix.IFF_LOWER_UP,
		loopback: flags&unix.IFF_LOOPBACK != 0,
	}
	for ad.Next() {
		if ad.Type() == unix.IFLA_IFNAME {
			l.name = ad.String()
		}
	}
	h.links = append(h.links, l)
	return ad.Err()
}

// addAddress reads struct ifaddrmsg.
func (h *host) addAddress(head []byte, ad *netlink.AttributeDecoder) error {
	flags, scope := uint32(head[2]), head[3]
	a := address{index: int(binary.NativeEndian.Uint32(head[4:]))}
	var peer netip.Addr
	for ad.Next() {
		switch ad.Type() {
		case unix.IFA_LOCAL:
			a.addr, _ = netip.AddrFromSlice(ad.Bytes())
		case unix.IFA_ADDRESS: // of IPv4 the peer's, where there is one
			peer, _ = netip.AddrFromSlice(ad.Bytes())
		case unix.IFA_FLAGS:
			flags = ad.Uint32()
		}
	}
	if !a.addr.IsValid() {
		a.addr = peer
	}
	if !a.addr.IsValid() {
		return ad.Err()
	}
	a.ready = flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0 || flags&unix.IFA_F_OPTIMISTIC != 0
	// The bit of "temporary" means "secondary" in IPv4.
	temporary := a.addr.Is6() && flags&unix.IFA_F_TEMPORARY != 0
	a.chosen = scope == unix.RT_SCOPE_UNIVERSE && !temporary && flags&unix.IFA_F_DEPRECATED == 0
	h.addrs = append(h.addrs, a)
	return ad.Err()
}
