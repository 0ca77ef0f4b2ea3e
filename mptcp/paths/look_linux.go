package paths

import (
	"net/netip"
	"time"
)

// Look compares once and changes nothing: what is wanted of a namespace with what
// is there, as ManageWatch does. It needs no privilege.
func Look(o Options) (Status, error) {
	o.Failover, o.Hooks, o.Logger = FailoverOff, Hooks{}, nil
	o.Manage = min(o.Manage, ManageWatch)
	m, err := Open(o)
	if err != nil {
		return Status{}, err
	}
	defer m.Close()
	m.look(time.Now())
	return m.Status(), nil
}

// RouteDevice is the interface, by its index, by which packets from local to
// remote leave; 0 if they do not leave at all.
func RouteDevice(local, remote netip.Addr) (int, error) {
	r, err := openRtnetlink()
	if err != nil {
		return 0, err
	}
	defer r.close()
	index, err := r.device(addrPair{local, remote})
	if isUnreachable(err) {
		return 0, nil
	}
	return index, err
}
