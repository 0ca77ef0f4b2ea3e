package paths

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// rtnetlink reads links and addresses of the namespace it was opened in, and receives notifications
// of changes.
type rtnetlink struct {
	queries, notices *netlink.Conn
	routes           bool // subscribed to routes and rules
	closed           chan struct{}
	closing          sync.Once

	mu sync.Mutex
	// last is when a notification about an interface arrived, by its index; 0: about any.
	last map[int]time.Time
	// listenErr is that of the last attempt to receive notifications.
	listenErr   error
	listenErrAt time.Time
}

const (
	// listenRetry is the pause after an error.
	listenRetry = time.Second
	// listenErrAge is how long an error is reported: without a further one notifications are
	// received again, although none may arrive for days.
	listenErrAge = 10 * listenRetry
)

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
	return &rtnetlink{queries: ask, notices: news, closed: make(chan struct{}), last: map[int]time.Time{}}, nil
}

// followRoutes subscribes to notifications of routes and rules, or unsubscribes: a router may have
// thousands a second.
func (r *rtnetlink) followRoutes(on bool) error {
	if on == r.routes {
		return nil
	}
	for _, g := range []uint32{unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE} {
		set := r.notices.LeaveGroup
		if on {
			set = r.notices.JoinGroup
		}
		if err := set(g); err != nil {
			return fmt.Errorf("rtnetlink: %w", err)
		}
	}
	r.routes = on
	return nil
}

func (r *rtnetlink) close() {
	r.closing.Do(func() { close(r.closed) })
	r.queries.Close()
	r.notices.Close()
}

// listen records when there was a notification about each interface, and calls changed for links
// and addresses, until the connection is closed. The state is read again then, so lost messages do
// not matter.
func (r *rtnetlink) listen(changed func()) {
	for {
		msgs, err := r.notices.Receive()
		lost := errors.Is(err, unix.ENOBUFS)
		if lost {
			err = nil
		}
		r.setListenErr(err)
		switch {
		case errors.Is(err, os.ErrClosed), errors.Is(err, unix.EBADF), errors.Is(err, os.ErrDeadlineExceeded):
			return
		case err != nil: // such as lack of memory
			select {
			// The poller's error for a closed socket cannot be tested with errors.Is.
			case <-r.closed:
				return
			case <-time.After(listenRetry):
			}
			lost = true
		}
		if r.note(msgs, time.Now()) || lost {
			changed()
		}
	}
}

func (r *rtnetlink) setListenErr(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listenErr, r.listenErrAt = err, time.Now()
}

// listenError returns why no notifications are received; nil: they are.
func (r *rtnetlink) listenError(now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listenErr != nil && now.Sub(r.listenErrAt) < listenErrAge {
		return fmt.Errorf("rtnetlink: %w", r.listenErr)
	}
	return nil
}

// recordOwned says whether links or addresses are among the messages.
func (r *rtnetlink) note(msgs []netlink.Message, now time.Time) (host bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	const most = 1024 // interfaces may come and go
	if len(r.last) > most {
		clear(r.last)
	}
	if len(msgs) == 0 {
		r.last[0] = now
	}
	for i := range msgs {
		index, of := subjectOf(&msgs[i])
		r.last[index] = now
		host = host || of
	}
	return host
}

// subjectOf returns the interface that a message is about, 0 if it may be any, and whether it is
// about the link or an address.
func subjectOf(m *netlink.Message) (index int, host bool) {
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK, unix.RTM_NEWADDR, unix.RTM_DELADDR:
		if len(m.Data) >= 8 {
			index = int(int32(binary.NativeEndian.Uint32(m.Data[4:])))
		}
		return index, true
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if len(m.Data) < unix.SizeofRtMsg {
			break
		}
		if ad, err := netlink.NewAttributeDecoder(m.Data[unix.SizeofRtMsg:]); err == nil {
			for ad.Next() {
				if ad.Type() == unix.RTA_OIF {
					index = int(ad.Uint32())
				}
			}
		}
	}
	return index, false
}

// answered is when there was news last that may concern an interface; the zero time if never.
func (r *rtnetlink) lastNotice(index int) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.last[index]
	if all := r.last[0]; all.After(t) {
		return all
	}
	return t
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
	msgs, err := r.queries.Execute(netlink.Message{
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
