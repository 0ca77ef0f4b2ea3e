package mptcp

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Where net.mptcp.path_manager is "userspace" the kernel makes no subflow by itself
// and endpoints have no effect on connections made since: what follows acts on single
// connections instead, named by their token. All of it needs CAP_NET_ADMIN.

const (
	cmdSubflowCreate  = 10
	cmdSubflowDestroy = 11

	attrToken      = 4
	attrAddrRemote = 6
)

// CreateSubflow makes a subflow of one connection from local (whose ID the caller
// chooses, and whose port is the kernel's choice) to remote.
func (p *PathManager) CreateSubflow(token uint32, id uint8, local netip.Addr, remote netip.AddrPort) error {
	return p.ofConnection(cmdSubflowCreate, token, netip.AddrPortFrom(local, 0), id, 0, remote, "create a subflow")
}

// DestroySubflow ends one, given by its two addresses.
func (p *PathManager) DestroySubflow(token uint32, local, remote netip.AddrPort) error {
	return p.ofConnection(cmdSubflowDestroy, token, local, 0, 0, remote, "destroy a subflow")
}

// SetBackup makes one subflow of one connection a spare one, or a full one again, and
// tells the peer (MP_PRIO).
func (p *PathManager) SetBackup(token uint32, local, remote netip.AddrPort, backup bool) error {
	var f EndpointFlags
	if backup {
		f = FlagBackup
	}
	return p.ofConnection(cmdSetFlags, token, local, 0, f, remote, "set the priority of a subflow")
}

func (p *PathManager) ofConnection(cmd uint8, token uint32, local netip.AddrPort, id uint8, flags EndpointFlags, remote netip.AddrPort, what string) error {
	ae := netlink.NewAttributeEncoder()
	ae.Uint32(attrToken, token)
	ae.Nested(attrAddr, func(n *netlink.AttributeEncoder) error {
		encodeAddr(n, local)
		if id != 0 {
			n.Uint8(addrID, id)
		}
		if cmd == cmdSetFlags {
			n.Uint32(addrFlags, uint32(flags))
		}
		return nil
	})
	ae.Nested(attrAddrRemote, func(n *netlink.AttributeEncoder) error {
		encodeAddr(n, remote)
		return nil
	})
	data, err := ae.Encode()
	if err != nil {
		return err
	}
	return p.execute(cmd, data, fmt.Sprintf("%s %s -> %s", what, local, remote))
}

func encodeAddr(n *netlink.AttributeEncoder, a netip.AddrPort) {
	if ip := a.Addr().Unmap(); ip.Is4() {
		n.Uint16(addrFamily, unix.AF_INET)
		n.Bytes(addrAddr4, ip.AsSlice())
	} else {
		n.Uint16(addrFamily, unix.AF_INET6)
		n.Bytes(addrAddr6, ip.AsSlice())
	}
	if a.Port() != 0 {
		// In the host's byte order, unlike in events.
		n.Bytes(addrPort, binary.NativeEndian.AppendUint16(nil, a.Port()))
	}
}
