package paths

import (
	"net/netip"
	"slices"
	"time"

	"mpgate/mptcp"
)

// connectionsAtRisk counts our connections that would lose their only subflow, or one that
// carries, if the endpoints of those addresses were deleted.
//
// And those of clients that send us much, if an announced address is taken back: where Linux 6.18
// as a client has lost a subflow, and is told of its address again while it sends, the subflow that
// it then makes may carry a mapping that does not fit (MPTcpExtDSSNotMatching): it is reset, and
// the upload continues with a piece missing. That befell, in a lab without delay, 14 to 70 of 100
// where the old subflow still was there, and 1 of 51 where it had been reset before, no more than
// at any join while much is sent; but when that is so cannot be seen from here. It does not happen
// to a client that sends requests.
//
// While connections are left at a predecessor, whose subflows are not known here, the answer is
// one.
func (m *Manager) connectionsAtRisk(announced bool, addrs ...netip.Addr) int {
	if m.predecessorBusy() {
		return 1
	}
	n := 0
	for c := range m.o.Source {
		if m.info.Read(c.Raw) != nil {
			continue
		}
		if announced && c.Side == Front && m.isUploading() {
			n++
			continue
		}
		living, others := 0, 0
		on := false
		for i := range m.info.Subflows {
			s := &m.info.Subflows[i]
			if !s.Live() {
				continue
			}
			carries := s.State == mptcp.StateEstablished && !m.egressOf(s).dead
			switch at := slices.Contains(addrs, s.Local.Addr()); {
			case at && carries:
				living++
			case carries:
				others++
			}
			on = on || slices.Contains(addrs, s.Local.Addr())
		}
		if living > 0 || on && others == 0 {
			n++
		}
	}
	return n
}

// quietSender is how long a peer must have sent nothing to count as idle, if the kernel does not
// count bytes.
const quietSender = time.Second

// uploadBytes is how much a client must have sent since the pass before the last, 5 to 10 s, to
// count as uploading. One that sends less sends only requests.
const uploadBytes = 64 << 10

// isUploading reports whether much data has arrived on m.info recently. A pause does not mean that
// the upload is over: it stalls while the server does not read, as when a path to the servers
// fails.
func (m *Manager) isUploading() bool {
	if m.info.Has&mptcp.HasBytes != 0 {
		return m.accounting.receivedSince(m.info.Token, m.info.BytesReceived) >= uploadBytes
	}
	if m.info.Has&mptcp.HasTimes != 0 {
		return m.info.LastDataReceived < quietSender
	}
	return slices.ContainsFunc(m.info.Subflows, func(s mptcp.Subflow) bool { return s.BytesReceived > 0 && s.LastDataReceived < quietSender })
}
