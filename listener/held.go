package listener

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// overlaps says whether two sockets can hardly be bound to a and b, as they are written in Options,
// at once.
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

// inTheWay gives the address of a spare that keeps others from address; "" where it does not.
func (e *entry) inTheWay(address string) string {
	if e.taken {
		return ""
	}
	if k, err := kindOf(e.file); err == nil && overlaps(k.address, address) {
		return k.address
	}
	return ""
}

// letGo is how long systemd may take to close a socket that was taken out of its store: it does so
// in the background, after it has said that it did.
const letGo = 2 * time.Second

// clearWay drops what came out of the store and is in the way of address: an earlier process had it
// for an address that no listener has any more, as two that overlap cannot both be had. It says
// whether such a one was dropped, now or before.
func (in *Inherited) clearWay(address string) (cleared bool) {
	if in == nil {
		return false
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, e := range in.spares {
		if e.origin != Store {
			continue
		}
		if at := e.inTheWay(address); at != "" {
			info := e.spare()
			info.Why = "it conflicts with " + address
			in.drop(e, info, at)
		}
		cleared = cleared || overlaps(e.dropped, address)
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
		if e.origin == Parent && e.inTheWay(address) != "" {
			return "the process that this one replaces", "restart mpgate instead (systemctl restart mpgate)"
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
	return &Error{Listener: e.Listener, What: fmt.Sprintf("cannot listen on %s, which is used by %s", address, who), Err: e.Err, Remedy: remedy}
}
