package lab

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Commands and attributes of the generic netlink family mptcp_pm
// (linux/mptcp_pm.h).
const (
	cmdAddAddr   = 1
	cmdDelAddr   = 2
	cmdFlush     = 4
	cmdSetLimits = 5

	attrAddr               = 1
	attrRcvAddAddrs        = 2
	attrSubflows           = 3
	addrFamily             = 1
	addrID                 = 2
	addr4                  = 3
	addr6                  = 4
	addrPort               = 5
	addrFlags              = 6
	addrIndex              = 7
	nested          uint16 = unix.NLA_F_NESTED
)

// AddEndpoint adds an MPTCP endpoint.
func (p *Place) AddEndpoint(e Endpoint) error {
	attrs := e.attributes()
	attrs.Uint32(addrFlags, uint32(e.Flags))
	if e.Port != 0 {
		attrs.Uint16(addrPort, e.Port)
	}
	if e.Dev != "" {
		dev, err := p.nl.LinkByName(e.Dev)
		if err != nil {
			return fmt.Errorf("lab: place %q: endpoint on %q: %w", p.name, e.Dev, err)
		}
		attrs.Int32(addrIndex, int32(dev.Attrs().Index))
	}
	return p.endpoint("add", cmdAddAddr, attrs)
}

// DelEndpoint removes one: by its ID, or with ID 0 by its address (of the
// initial subflow, if there is no such endpoint).
func (p *Place) DelEndpoint(e Endpoint) error {
	return p.endpoint("remove", cmdDelAddr, e.attributes())
}

// FlushEndpoints removes all.
func (p *Place) FlushEndpoints() error { return p.pm(cmdFlush, nil) }

// SetLimits sets how many subflows a connection may add, and how many
// announced addresses it takes up.
func (p *Place) SetLimits(subflows, addAddrAccepted uint32) error {
	attrs := netlink.NewAttributeEncoder()
	attrs.Uint32(attrSubflows, subflows)
	attrs.Uint32(attrRcvAddAddrs, addAddrAccepted)
	b, err := attrs.Encode()
	if err == nil {
		err = p.pm(cmdSetLimits, b)
	}
	if err != nil {
		return fmt.Errorf("lab: place %q: mptcp limits: %w", p.name, err)
	}
	return nil
}

func (e Endpoint) attributes() *netlink.AttributeEncoder {
	attrs := netlink.NewAttributeEncoder()
	if e.Addr.Is4() {
		attrs.Uint16(addrFamily, unix.AF_INET)
		attrs.Bytes(addr4, e.Addr.AsSlice())
	} else if e.Addr.IsValid() {
		attrs.Uint16(addrFamily, unix.AF_INET6)
		attrs.Bytes(addr6, e.Addr.AsSlice())
	}
	attrs.Uint8(addrID, e.ID)
	return attrs
}

func (p *Place) endpoint(what string, cmd uint8, attrs *netlink.AttributeEncoder) error {
	inner, err := attrs.Encode()
	if err != nil {
		return err
	}
	outer := netlink.NewAttributeEncoder()
	outer.Bytes(attrAddr|nested, inner)
	b, err := outer.Encode()
	if err == nil {
		err = p.pm(cmd, b)
	}
	if err != nil {
		return fmt.Errorf("lab: place %q: %s mptcp endpoint: %w", p.name, what, err)
	}
	return nil
}

func (p *Place) pm(cmd uint8, data []byte) error {
	c, err := genetlink.Dial(&netlink.Config{NetNS: p.space.fd()})
	if err != nil {
		return err
	}
	defer c.Close()
	family, err := c.GetFamily("mptcp_pm")
	if err != nil {
		return err
	}
	_, err = c.Execute(genetlink.Message{Header: genetlink.Header{Command: cmd, Version: family.Version}, Data: data},
		family.ID, netlink.Request|netlink.Acknowledge)
	return err
}

// MPTCPCounters reads the MPTcpExt counters of the place: {"MPCapableSYNRX": 1}.
func (p *Place) MPTCPCounters() (map[string]uint64, error) {
	var file []byte
	err := p.Do(func() (err error) {
		file, err = os.ReadFile("/proc/thread-self/net/netstat")
		return err
	})
	if err != nil {
		return nil, err
	}
	prefix := []byte("MPTcpExt:")
	var names [][]byte
	for line := range bytes.Lines(file) {
		if !bytes.HasPrefix(line, prefix) {
			continue
		}
		fields := bytes.Fields(line[len(prefix):])
		if names == nil {
			names = fields
			continue
		}
		counters := make(map[string]uint64, len(names))
		for i := range min(len(names), len(fields)) {
			n, err := strconv.ParseUint(string(fields[i]), 10, 64)
			if err != nil {
				return nil, fmt.Errorf("lab: MPTcpExt%s: %w", names[i], err)
			}
			counters[string(names[i])] = n
		}
		return counters, nil
	}
	return nil, fmt.Errorf("lab: place %q: no MPTcpExt counters: the kernel is without MPTCP", p.name)
}
