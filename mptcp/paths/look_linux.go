package paths

import (
	"net/netip"
	"time"
)

// Look compares the namespace with the options once, as ManageWatch does, and changes nothing. It
// needs no privilege.
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

// RouteDevice returns the index of the interface by which packets from local to remote leave; 0 if
// there is no route.
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
