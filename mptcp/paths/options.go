package paths

import (
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"syscall"
	"time"

	"mpgate/mptcp"
)

// Manage is what is done about the namespace's endpoints and limits.
type Manage uint8

const (
	// ManageOff: nothing, and they are not read.
	ManageOff Manage = iota
	// ManageWatch: differences are reported. No privilege is needed.
	ManageWatch
	// ManageSync: they are made what Options say. It needs CAP_NET_ADMIN.
	ManageSync
)

// Values are the texts of all constants, in their order.
func (Manage) Values() []string { return []string{"off", "watch", "sync"} }

func (m Manage) String() string { return word(int(m), m.Values()...) }

// Failover says when subflows are ended. Both ways need CAP_NET_ADMIN.
type Failover uint8

const (
	FailoverOff Failover = iota
	// FailoverLink: when the link of their path goes down or loses its address.
	FailoverLink
	// FailoverActive: also when their path falls silent.
	FailoverActive
)

// Values are the texts of all constants, in their order.
func (Failover) Values() []string { return []string{"off", "link", "active"} }

func (f Failover) String() string { return word(int(f), f.Values()...) }

// Role says which connections a path is for.
type Role uint8

const (
	// Both sides.
	Both Role = iota
	// ForListeners: it is announced to clients.
	ForListeners
	// ForBackends: it is used for dials.
	ForBackends
)

// Values are the texts of all constants, in their order.
func (Role) Values() []string { return []string{"both", "listener", "backend"} }

func (r Role) String() string { return word(int(r), r.Values()...) }

func word(i int, words ...string) string {
	if i < len(words) {
		return words[i]
	}
	return fmt.Sprintf("unknown(%d)", i)
}

// A Path carries subflows: all addresses of an interface, or one address.
type Path struct {
	Name string
	// Interface, Address or both. An interface alone stands for all its addresses
	// of global scope that are neither temporary nor deprecated.
	Interface string
	Address   netip.Addr
	Role      Role
	// Backup: its subflows carry only while no other does.
	Backup bool
	// Announce the address to clients and do not dial from it, also where no
	// interface of this host has it (it is translated on the way).
	Announce bool
	// Port to announce, 0 for that of the connection.
	Port uint16
}

// Side is where a connection stands.
type Side uint8

const (
	// Front: a client's, accepted by a listener.
	Front Side = iota
	// Back: to a server, dialled.
	Back
)

func (s Side) String() string { return word(int(s), "listener", "backend") }

// A Conn is a live connection of this process.
type Conn struct {
	Raw  syscall.RawConn
	Side Side
	// Owner, if set, is asked to replace this connection when it has lost a subflow permanently. It
	// is called after the iteration over the source.
	Owner interface{ Retire() }
}

// Source yields the live connections of this process; those that do not use
// MPTCP may be among them. It is iterated up to 40 times a second, and the iteration stops after
// about 64 connections, so it must begin at a different connection each time (as a range over a map
// does) and must not copy the list first. The loop body is fast and does not call back; a lock may
// be held meanwhile.
type Source = iter.Seq[Conn]

// Cut tells that the subflows of a path were ended.
type Cut struct {
	Path, Why string
	// Subflows ended; Spared is how many were not, being the last of their connection.
	Subflows, Spared int
	// Stalled is for how long data had been waiting for an ACK; 0 where a link went down.
	Stalled time.Duration
	// Took is the time from detection until the last subflow was ended.
	Took time.Duration
}

// Return tells that a path is back.
type Return struct {
	Path string
	// After is how long it was down.
	After time.Duration
	// Failures in a row lead to a longer hold before the next return.
	Hold time.Duration
}

// Hooks are called by the manager's task: they must not block.
type Hooks struct {
	// Up reports whether a path carries data: once for each path at the start, then at each change.
	Up func(path string, up bool)
	// Gone: a path is no longer declared.
	Gone   func(path string)
	Cut    func(Cut)
	Return func(Return)
}

// Options of a Manager. The zero value does nothing.
type Options struct {
	Manage   Manage
	Adopt    bool // sync: endpoints made by others may be changed to what a path needs
	Keep     bool // sync: leave all as it is at the end
	Failover Failover
	Fullmesh bool
	// Limits of the namespace; nil leaves them alone.
	Limits *mptcp.Limits
	// Paths, 8 addresses at most. With none, and Failover set, every interface
	// with an address is a path that is watched.
	Paths []Path

	// Floor is the least time without an ACK that counts as silence (default 50 ms),
	// Factor how many round-trip times that must be (default 4), with 12 ms for the
	// kernel's timers. A path gets a longer threshold if it has recovered from longer gaps.
	Floor  time.Duration
	Factor float64

	// Journal, if set, is the file in which sync records its endpoints and limits. With Recover,
	// the manager takes over those that an earlier process recorded there, as far as the kernel
	// still has them unchanged.
	Journal string
	Recover bool

	// Handover is what a manager before this one made: from Run or Update on this one owns it.
	Handover *Handover
	// Predecessor reports whether that manager still has connections; until it has none, no
	// endpoint is removed. nil: it has none. It is called often.
	Predecessor func() bool

	// Source of the connections; nil: none.
	Source Source
	Hooks  Hooks
	Logger *slog.Logger // nil: nothing is logged
}

const (
	defaultFloor  = 50 * time.Millisecond
	defaultFactor = 4
	// maxEndpoints is MPTCP_PM_ADDR_MAX.
	maxEndpoints = 8
)

func (o Options) withDefaults() Options {
	if o.Floor <= 0 {
		o.Floor = defaultFloor
	}
	if o.Factor <= 0 {
		o.Factor = defaultFactor
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Source == nil {
		o.Source = func(func(Conn) bool) {}
	}
	return o
}

// check returns all errors that can be found without reading the host.
func (o *Options) check() error {
	var errs []error
	names := map[string]bool{}
	for i, p := range o.Paths {
		at := fmt.Sprintf("path %d (%q)", i+1, p.Name)
		switch {
		case p.Name == "":
			errs = append(errs, fmt.Errorf("path %d has no name", i+1))
		case names[p.Name]:
			errs = append(errs, fmt.Errorf("%s: the name is used twice", at))
		}
		names[p.Name] = true
		if p.Interface == "" && !p.Address.IsValid() {
			errs = append(errs, fmt.Errorf("%s has neither interface nor address", at))
		}
		if p.Role == ForBackends && (p.Announce || p.Port != 0) {
			errs = append(errs, fmt.Errorf("%s is announced to clients, and its role is %q; the role %q or %q would be right", at, p.Role, ForListeners, Both))
		}
		if p.Announce && !p.Address.IsValid() {
			errs = append(errs, fmt.Errorf("%s: announce needs an address", at))
		}
	}
	if l := o.Limits; l != nil && (l.Subflows > maxEndpoints || l.AddrAccepted > maxEndpoints) {
		errs = append(errs, fmt.Errorf("limits are above %d (got %d subflows, %d addresses accepted)", maxEndpoints, l.Subflows, l.AddrAccepted))
	}
	return errors.Join(errs...)
}

// privileged returns the setting that needs a privilege, "" for none.
func (o *Options) privileged() (what string) {
	switch {
	case o.Manage == ManageSync:
		return `manage = "sync"`
	case o.Failover != FailoverOff:
		return fmt.Sprintf("failover = %q", o.Failover)
	}
	return ""
}

// A PrivilegeError reports a missing privilege.
type PrivilegeError struct {
	What string // the setting that needs it
	Err  error
}

func (e *PrivilegeError) Error() string {
	return e.What + " needs CAP_NET_ADMIN; remedy: AmbientCapabilities=CAP_NET_ADMIN in the unit, or setcap cap_net_admin+ep on the program (" + e.Err.Error() + ")"
}

func (e *PrivilegeError) Unwrap() error { return e.Err }
