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

// overlaps reports whether a and b, as written in Options, are likely to conflict if both are
// bound.
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

// Conflicts reports whether one of the sockets prevents others from binding address.
func (l *Listener) Conflicts(address string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.sockets {
		if overlaps(s.info.Address, address) {
			return true
		}
	}
	return false
}

// conflicting returns the address of a spare that prevents others from binding address, or "".
func (e *entry) conflicting(address string) string {
	if e.taken {
		return ""
	}
	if k, err := kindOf(e.file); err == nil && overlaps(k.address, address) {
		return k.address
	}
	return ""
}

// storeCloseTime is how long systemd may take to close a socket that was removed from its store: it
// does so in the background, after it has confirmed the removal.
const storeCloseTime = 2 * time.Second

// dropConflicting drops sockets from the store that conflict with address: an earlier process had
// them for an address that no listener has any more. It reports whether one was dropped, now or
// before.
func (in *Inherited) dropConflicting(address string) (cleared bool) {
	if in == nil {
		return false
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, e := range in.spares {
		if e.origin != Store {
			continue
		}
		if at := e.conflicting(address); at != "" {
			info := e.spare()
			info.Why = "it conflicts with " + address
			in.drop(e, info, at)
		}
		cleared = cleared || overlaps(e.dropped, address)
	}
	return cleared
}

// heldBy returns which part of this gateway uses address, and what to do about it.
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
		if e.origin == Parent && e.conflicting(address) != "" {
			return "the process that this one replaces", "restart mpgate instead (systemctl restart mpgate)"
		}
	}
	return "", ""
}

// explainHeld explains a bind error if this gateway itself uses the address.
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
