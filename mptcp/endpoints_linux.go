package mptcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Generic netlink family mptcp_pm, version 1, of <linux/mptcp_pm.h>.
const (
	pmFamily      = "mptcp_pm"
	pmEventsGroup = "mptcp_pm_events"
	pmVersion     = 1

	cmdAddAddr   = 1
	cmdDelAddr   = 2
	cmdGetAddr   = 3
	cmdFlush     = 4
	cmdSetLimits = 5
	cmdGetLimits = 6
	cmdSetFlags  = 7

	attrAddr        = 1
	attrRcvAddAddrs = 2
	attrSubflows    = 3

	addrFamily = 1
	addrID     = 2
	addrAddr4  = 3
	addrAddr6  = 4
	addrPort   = 5
	addrFlags  = 6
	addrIfIdx  = 7
)

// A PathManager uses the in-kernel path manager of one network namespace:
// that of the thread that opened it. Reading needs no privilege, writing
// CAP_NET_ADMIN. It is safe for concurrent use.
type PathManager struct {
	c      *genetlink.Conn
	family genetlink.Family
}

// OpenPathManager opens that of the calling thread's network namespace.
func OpenPathManager() (*PathManager, error) {
	c, f, err := dialPM()
	if err != nil {
		return nil, err
	}
	return &PathManager{c, f}, nil
}

func dialPM() (*genetlink.Conn, genetlink.Family, error) {
	c, err := genetlink.Dial(nil)
	if err != nil {
		return nil, genetlink.Family{}, fmt.Errorf("generic netlink: %w", err)
	}
	// Not on kernels before 4.12; the texts of errors are then missing.
	_ = c.SetOption(netlink.ExtendedAcknowledge, true)
	f, err := c.GetFamily(pmFamily)
	if err != nil {
		c.Close()
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("this kernel has no MPTCP path manager (%w)", err)
		}
		return nil, f, err
	}
	return c, f, nil
}

// Close closes the socket.
func (p *PathManager) Close() error { return p.c.Close() }

// Endpoints lists them, in the kernel's order.
func (p *PathManager) Endpoints() ([]Endpoint, error) {
	msgs, err := p.c.Execute(genetlink.Message{Header: genetlink.Header{Command: cmdGetAddr, Version: pmVersion}},
		p.family.ID, netlink.Request|netlink.Dump)
	if err != nil {
		return nil, fmt.Errorf("read MPTCP endpoints: %w", err)
	}
	out := make([]Endpoint, 0, len(msgs))
	for _, m := range msgs {
		e, err := decodeEndpoint(m.Data)
		if err != nil {
			return nil, fmt.Errorf("read MPTCP endpoints: %w", err)
		}
		out = append(out, e)
	}
	return out, nil
}

// AddEndpoint adds one and returns it as the kernel stored it: with its ID, and
// without the flags that this kernel does not know.
func (p *PathManager) AddEndpoint(e Endpoint) (Endpoint, error) {
	if err := p.write(cmdAddAddr, e, fmt.Sprintf("add MPTCP endpoint %s", e.Addr)); err != nil {
		return Endpoint{}, err
	}
	return p.readBack(e)
}

// DelEndpoint removes the one with that ID and ends its subflows. For ID 0, which
// is the address of initial subflows, the address says which; for others it may
// be the zero Addr.
func (p *PathManager) DelEndpoint(id uint8, addr netip.Addr) error {
	return p.write(cmdDelAddr, Endpoint{ID: id, Addr: addr}, fmt.Sprintf("delete MPTCP endpoint %d %s", id, addr))
}

// SetFlags changes the flags of the endpoint with that ID or, where it is 0, that
// address. The kernel changes backup and fullmesh only, also for the subflows
// that exist. It returns the endpoint as stored.
func (p *PathManager) SetFlags(e Endpoint) (Endpoint, error) {
	if err := p.write(cmdSetFlags, e, fmt.Sprintf("set flags of MPTCP endpoint %d %s", e.ID, e.Addr)); err != nil {
		return Endpoint{}, err
	}
	return p.readBack(e)
}

func (p *PathManager) readBack(e Endpoint) (Endpoint, error) {
	all, err := p.Endpoints()
	if err != nil {
		return Endpoint{}, err
	}
	for _, have := range all {
		if e.ID != 0 && have.ID == e.ID || e.ID == 0 && have.Addr == e.Addr.Unmap() && have.Port == e.Port {
			return have, nil
		}
	}
	return Endpoint{}, fmt.Errorf("MPTCP endpoint %d %s is not there after it was written: another program removed it", e.ID, e.Addr)
}

// FlushEndpoints removes all endpoints of the namespace, whoever made them.
func (p *PathManager) FlushEndpoints() error {
	return p.execute(cmdFlush, nil, "flush MPTCP endpoints")
}

// Limits reads the limits.
func (p *PathManager) Limits() (Limits, error) {
	msgs, err := p.c.Execute(genetlink.Message{Header: genetlink.Header{Command: cmdGetLimits, Version: pmVersion}},
		p.family.ID, netlink.Request)
	if err != nil {
		return Limits{}, fmt.Errorf("read MPTCP limits: %w", err)
	}
	var l Limits
	for _, m := range msgs {
		ad, err := netlink.NewAttributeDecoder(m.Data)
		if err != nil {
			return Limits{}, err
		}
		for ad.Next() {
			switch ad.Type() {
			case attrRcvAddAddrs:
				l.AddrAccepted = ad.Uint32()
			case attrSubflows:
				l.Subflows = ad.Uint32()
			}
		}
		if err := ad.Err(); err != nil {
			return Limits{}, err
		}
	}
	return l, nil
}

// SetLimits writes the limits and returns them as the kernel has them then.
func (p *PathManager) SetLimits(l Limits) (Limits, error) {
	ae := netlink.NewAttributeEncoder()
	ae.Uint32(attrRcvAddAddrs, l.AddrAccepted)
	ae.Uint32(attrSubflows, l.Subflows)
	data, err := ae.Encode()
	if err != nil {
		return Limits{}, err
	}
	if err := p.execute(cmdSetLimits, data, "set MPTCP limits"); err != nil {
		return Limits{}, err
	}
	return p.Limits()
}

func (p *PathManager) write(cmd uint8, e Endpoint, what string) error {
	data, err := encodeEndpoint(e)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return p.execute(cmd, data, what)
}

func (p *PathManager) execute(cmd uint8, data []byte, what string) error {
	_, err := p.c.Execute(genetlink.Message{Header: genetlink.Header{Command: cmd, Version: pmVersion}, Data: data},
		p.family.ID, netlink.Request|netlink.Acknowledge)
	if err != nil {
		return explain(what, err)
	}
	return nil
}

// explain words a refusal. The kernel's own text, if it sent one, says most.
func explain(what string, err error) error {
	var op *netlink.OpError
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%s: CAP_NET_ADMIN is needed (%w)", what, unix.EPERM)
	case errors.As(err, &op) && op.Message != "":
		return fmt.Errorf("%s: %s (%w)", what, op.Message, op.Err)
	case errors.As(err, &op):
		return fmt.Errorf("%s: %w", what, op.Err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func encodeEndpoint(e Endpoint) ([]byte, error) {
	ae := netlink.NewAttributeEncoder()
	ae.Nested(attrAddr, func(n *netlink.AttributeEncoder) error {
		if a := e.Addr.Unmap(); a.Is4() {
			n.Uint16(addrFamily, unix.AF_INET)
			n.Bytes(addrAddr4, a.AsSlice())
		} else if a.Is6() {
			n.Uint16(addrFamily, unix.AF_INET6)
			n.Bytes(addrAddr6, a.AsSlice())
		}
		if e.ID != 0 || !e.Addr.IsValid() {
			n.Uint8(addrID, e.ID)
		}
		if e.Port != 0 {
			n.Uint16(addrPort, e.Port)
		}
		n.Uint32(addrFlags, uint32(e.Flags))
		if e.Interface != 0 {
			n.Int32(addrIfIdx, int32(e.Interface))
		}
		return nil
	})
	return ae.Encode()
}

func decodeEndpoint(data []byte) (Endpoint, error) {
	var e Endpoint
	ad, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return e, err
	}
	for ad.Next() {
		if ad.Type() != attrAddr {
			continue
		}
		ad.Nested(func(n *netlink.AttributeDecoder) error {
			for n.Next() {
				switch n.Type() {
				case addrID:
					e.ID = n.Uint8()
				case addrAddr4, addrAddr6:
					if a, ok := netip.AddrFromSlice(n.Bytes()); ok {
						e.Addr = a
					}
				case addrPort:
					e.Port = n.Uint16()
				case addrFlags:
					e.Flags = EndpointFlags(n.Uint32())
				case addrIfIdx:
					e.Interface = int(n.Int32())
				}
			}
			return n.Err()
		})
	}
	return e, ad.Err()
}

// bePort reads a port in network order.
func bePort(b []byte) uint16 {
	if len(b) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(b)
}
