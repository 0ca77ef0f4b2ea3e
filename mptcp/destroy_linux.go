package mptcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// sock_diag(7), and of <linux/inet_diag.h> what x/sys/unix does not have.
const (
	sockDiagByFamily = 20
	sockDestroy      = 21

	diagReqSize  = 56 // struct inet_diag_req_v2
	diagMsgSize  = 72 // struct inet_diag_msg
	diagExtInfo  = 1 << (2 - 1)
	diagULPInfo  = 19
	ulpInfoMPTCP = 3

	sfAttrFlags = 8
	sfAttrIDRem = 9
	sfAttrIDLoc = 10

	sfFlagBackupRem = 1 << 4
	sfFlagBackupLoc = 1 << 5
)

// A Diag uses sock_diag in one network namespace: that of the thread that
// opened it. It is safe for concurrent use.
type Diag struct {
	c *netlink.Conn

	mu    sync.Mutex
	batch int // a socket of its own, for DestroyAll
}

// OpenDiag opens it in the calling thread's network namespace.
func OpenDiag() (*Diag, error) {
	c, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return nil, fmt.Errorf("sock_diag: %w", err)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("sock_diag: %w", os.NewSyscallError("socket", err))
	}
	return &Diag{c: c, batch: fd}, nil
}

// Close closes the sockets. It is called once.
func (d *Diag) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	unix.Close(d.batch)
	return d.c.Close()
}

// Destroy ends one subflow, given by its two addresses, as if the path had sent a
// RST (SOCK_DESTROY; needs CAP_NET_ADMIN). The connection continues over the
// others, and at once sends on them what was under way on this one. The kernel
// does not ask whether it is the last one, nor whose it is: the caller must.
// The interface is the index of the device that the socket is bound to, 0 for none.
func (d *Diag) Destroy(local, remote netip.AddrPort, iface int) error {
	ended, err := d.DestroyAll([]Target{{local, remote, iface}})
	if err == nil && ended == 0 {
		return explain(fmt.Sprintf("destroy subflow %s -> %s", local, remote), unix.ENOENT)
	}
	return err
}

// Fill asks for what the socket options do not tell of the subflows in i: Backup and
// the address ids. One that has gone since is left as it is, and so is one that is
// bound to a device (as those of an endpoint with a device are) which is not among
// devices, given by their indexes.
func (d *Diag) Fill(i *Info, devices ...int) error {
	for k := range i.Subflows {
		s := &i.Subflows[k]
		found, err := d.fill(s, 0)
		for n := 0; n < len(devices) && !found && err == nil; n++ {
			found, err = d.fill(s, devices[n])
		}
		if err != nil {
			return fmt.Errorf("sock_diag: %w", err)
		}
	}
	i.Has |= HasDiag
	return nil
}

func (d *Diag) fill(s *Subflow, device int) (found bool, err error) {
	msgs, err := d.c.Execute(netlink.Message{
		Header: netlink.Header{Type: sockDiagByFamily, Flags: netlink.Request},
		Data:   diagRequest(s.Local, s.Remote, device, diagExtInfo),
	})
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	for _, m := range msgs {
		if err == nil {
			err = s.decodeDiag(m.Data)
		}
	}
	return err == nil, err
}

// diagRequest is struct inet_diag_req_v2 for one TCP socket.
func diagRequest(local, remote netip.AddrPort, iface int, ext byte) []byte {
	b := make([]byte, diagReqSize)
	b[0] = unix.AF_INET6
	if local.Addr().Unmap().Is4() {
		b[0] = unix.AF_INET
	}
	b[1] = unix.IPPROTO_TCP
	b[2] = ext
	binary.NativeEndian.PutUint32(b[4:], ^uint32(0)) // any state
	binary.BigEndian.PutUint16(b[8:], local.Port())
	binary.BigEndian.PutUint16(b[10:], remote.Port())
	copy(b[12:28], local.Addr().Unmap().AsSlice())
	copy(b[28:44], remote.Addr().Unmap().AsSlice())
	binary.NativeEndian.PutUint32(b[44:], uint32(iface))
	binary.NativeEndian.PutUint64(b[48:], ^uint64(0)) // no cookie
	return b
}

// decodeDiag reads struct inet_diag_msg and the attributes behind it.
func (s *Subflow) decodeDiag(b []byte) error {
	if len(b) < diagMsgSize {
		return nil
	}
	ad, err := netlink.NewAttributeDecoder(b[diagMsgSize:])
	if err != nil {
		return err
	}
	for ad.Next() {
		if ad.Type() == diagULPInfo {
			ad.Nested(s.decodeULP)
		}
	}
	return ad.Err()
}

func (s *Subflow) decodeULP(ad *netlink.AttributeDecoder) error {
	for ad.Next() {
		if ad.Type() != ulpInfoMPTCP {
			continue
		}
		ad.Nested(func(n *netlink.AttributeDecoder) error {
			for n.Next() {
				switch n.Type() {
				case sfAttrFlags:
					s.Backup = n.Uint32()&(sfFlagBackupRem|sfFlagBackupLoc) != 0
				case sfAttrIDRem:
					s.RemoteID = n.Uint8()
				case sfAttrIDLoc:
					s.LocalID = n.Uint8()
				}
			}
			return n.Err()
		})
	}
	return ad.Err()
}
