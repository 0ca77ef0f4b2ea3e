package paths

import (
	"time"

	"mpgate/mptcp"
)

// Snapshot reads up to most connections now, 12 us each. It is safe for concurrent use.
func (m *Manager) Snapshot(most int) Snapshot {
	m.mu.Lock()
	s := Snapshot{Time: time.Now(), Status: m.status}
	source, devices := m.source, m.devices
	m.mu.Unlock()
	i := infos.Get().(*mptcp.Info)
	defer infos.Put(i)
	if source == nil {
		return s
	}
	for c := range source {
		switch {
		case len(s.Connections) >= most:
			s.More++
			continue
		case i.Read(c.Raw) != nil:
			continue
		}
		// Without it only the backup flag is missing: not an error.
		_ = m.diag.Fill(i, devices...)
		one := ConnSnapshot{Side: c.Side, Token: i.Token}
		for k := range i.Subflows {
			f := &i.Subflows[k]
			one.Subflows = append(one.Subflows, SubflowSnapshot{
				ID: f.ID, Path: s.pathAt(f), Local: f.Local, Remote: f.Remote, State: f.State.String(), Backup: f.Backup, RTT: f.RTT,
				DeliveryRate: f.DeliveryRate, BytesSent: f.BytesSent, BytesReceived: f.BytesReceived, BytesRetrans: f.BytesRetrans, Unacked: f.Unacked,
			})
		}
		s.Connections = append(s.Connections, one)
	}
	return s
}

// pathAt finds the path by the local address.
func (s *Status) pathAt(f *mptcp.Subflow) string {
	for _, p := range s.Paths {
		for _, a := range p.Addresses {
			if a == f.Local.Addr() {
				return p.Name
			}
		}
	}
	return ""
}
