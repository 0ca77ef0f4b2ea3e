package listener

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"

	"mpgate/mptcp"
)

// A Spare is a socket that an earlier process bound itself and that this process inherited, from
// systemd's file-descriptor store or from the process that it replaces. A listener with the same
// address takes it instead of opening one. An unused spare is not an error.
type Spare struct {
	Name    string // in the store; "" if it does not come from there
	Address string
	Inode   uint64 // of the socket, which identifies equal descriptors
	Origin  Origin
	Why     string // why it was not taken; "": no listener has its address
}

// storeName is how mpgate names its own sockets in the store.
var storeName = regexp.MustCompile(`^mpgate-[0-9]+$`)

// AddSpare puts a spare socket in; the set owns the file from then on.
func (in *Inherited) AddSpare(name string, f *os.File, origin Origin) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.spares = append(in.spares, &entry{name: name, file: f, origin: origin})
}

// Stored are the sockets that came out of systemd's store, taken or not.
func (in *Inherited) Stored() []Spare {
	if in == nil {
		return nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	var out []Spare
	for _, e := range in.spares {
		if e.origin == Store {
			out = append(out, e.spare())
		}
	}
	return out
}

// CloseSpares closes the unused spares, and returns them.
func (in *Inherited) CloseSpares() []Spare {
	if in == nil {
		return nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	var out []Spare
	for _, e := range in.spares {
		e.dropped = ""
		if !e.taken {
			out = append(out, e.spare())
			e.taken = true
			e.file.Close()
		}
	}
	return out
}

func (e *entry) spare() Spare {
	if e.info.Inode == 0 && !e.taken {
		e.info = Spare{Name: e.name, Origin: e.origin, Address: describe(e.file), Inode: inodeOf(e.file)}
	}
	return e.info
}

// takeSpare takes the spare socket for an address, or returns nil. One of the wrong protocol is
// closed, because no other could be bound to the address; onDrop is called first.
func (in *Inherited) takeSpare(ctx context.Context, o *Options, address string) *InheritedFile {
	if in == nil {
		return nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, e := range in.spares {
		if e.taken || !boundTo(ctx, e.file, address) {
			continue
		}
		k, err := kindOf(e.file)
		if err != nil || !k.stream || !k.listening {
			continue
		}
		info := e.spare()
		e.taken = true
		switch {
		case k.transport == mptcp.Unix && !strings.HasPrefix(address, "unix:@") && fileOf(strings.TrimPrefix(address, "unix:")).path == "":
			info.Why = "its path was removed"
		case k.transport != mptcp.Unix && k.transport != wanted(o.MPTCP):
			info.Why = fmt.Sprintf("it is a %s socket, but %s is configured", k.transport, wanted(o.MPTCP))
		case k.transport != mptcp.Unix && k.device != o.Interface:
			info.Why = fmt.Sprintf("it is bound to device %q, but interface = %q", k.device, o.Interface)
		default:
			return &InheritedFile{e.file, e.origin}
		}
		in.drop(e, info, k.address)
	}
	return nil
}

// drop closes a spare that conflicts with a socket to open.
func (in *Inherited) drop(e *entry, info Spare, address string) {
	e.taken, e.info, e.dropped = true, info, address
	e.file.Close()
	if in.OnDrop != nil {
		in.OnDrop(info)
	}
}

// wanted is what the kernel should grant for a mode on this host.
func wanted(m mptcp.Mode) mptcp.Transport {
	switch {
	case m == mptcp.Off || mptcp.Disabled():
		return mptcp.TCP
	case m == mptcp.Require || mptcp.Probe().Usable:
		return mptcp.MPTCP
	}
	return mptcp.TCP
}

// boundTo reports whether a socket is bound to an address as written in Options.
func boundTo(ctx context.Context, f *os.File, address string) bool {
	is, only6, ok := bindingOf(f)
	if !ok {
		return false
	}
	if path, isUnix := strings.CutPrefix(address, "unix:"); isUnix {
		return is.path == path
	}
	if is.path != "" {
		return false
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	want, err := net.ResolveTCPAddr("tcp", address)
	if err != nil || want.Port == 0 {
		return false
	}
	ap := want.AddrPort()
	if host == "" { // both IP versions
		return is.addr == netip.AddrPortFrom(netip.IPv6Unspecified(), ap.Port()) && !only6
	}
	if ap.Addr().Unmap() == netip.IPv6Unspecified() && !only6 {
		return false
	}
	return is.addr == netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// TakeListener takes the spare TCP socket at an address for a caller that accepts connections
// itself; nil if there is none.
func (in *Inherited) TakeListener(ctx context.Context, address string) net.Listener {
	f := in.takeSpare(ctx, &Options{MPTCP: mptcp.Off}, address)
	if f == nil {
		return nil
	}
	defer f.Close()
	l, err := net.FileListener(f.File)
	if err != nil {
		return nil
	}
	return l
}

// binding is where a socket is bound: a path or an address.
type binding struct {
	addr netip.AddrPort
	path string
}
