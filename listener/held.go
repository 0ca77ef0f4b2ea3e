package listener

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
)

// overlaps says whether two sockets can hardly be bound to a and b, as they are written in Options, at once.
func overlaps(a, b string) bool {
	if strings.HasPrefix(a, "unix:") || strings.HasPrefix(b, "unix:") {
		return a == b
	}
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	ipA, errA := netip.ParseAddr(hostA)
	ipB, errB := netip.ParseAddr(hostB)
	// A wildcard, or a name, may be either.
	return errA != nil || errB != nil || ipA.IsUnspecified() || ipB.IsUnspecified() || ipA.Unmap() == ipB.Unmap()
}

// InTheWay says whether one of the sockets keeps others from address.
func (l *Listener) InTheWay(address string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.sockets {
		if overlaps(s.info.Address, address) {
			return true
		}
	}
	return false
}

func (e *entry) inTheWay(address string) bool {
	if e.taken {
		return false
	}
	k, err := kindOf(e.file)
	return err == nil && overlaps(k.address, address)
}

// clearWay drops what is in the way of address out of the store: an earlier process had it for an address that no
// listener has any more, as two that overlap cannot both be had.
func (in *Inherited) clearWay(address string) (cleared bool) {
	if in == nil {
		return false
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, e := range in.spares {
		if e.origin != Store || !e.inTheWay(address) {
			continue
		}
		info := e.spare()
		info.Why = "it is in the way of " + address
		e.taken, e.info, cleared = true, info, true
		e.file.Close()
		if in.OnDrop != nil {
			in.OnDrop(info)
		}
	}
	return cleared
}

// heldBy says who of this gateway has address, and what to do about it.
func (in *Inherited) heldBy(address string) (who, remedy string) {
	if in == nil {
		return "", ""
	}
	if in.Held != nil {
		if who, remedy = in.Held(address); who != "" {
			return who, remedy
		}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, e := range in.spares {
		if e.origin == Parent && e.inTheWay(address) {
			return "the process that this one is to replace", "restart mpgate instead (systemctl restart mpgate)"
		}
	}
	return "", ""
}

// explainHeld turns the error of an address that we have ourselves into one that says so.
func (in *Inherited) explainHeld(address string, err error) error {
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	who, remedy := in.heldBy(address)
	if who == "" {
		return err
	}
	return &Error{Listener: e.Listener, What: fmt.Sprintf("cannot listen on %s, which %s has", address, who), Err: e.Err, Remedy: remedy}
}
