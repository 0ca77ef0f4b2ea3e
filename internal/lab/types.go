package lab

import "net/netip"

// Congestion says what congestion control connections between places use.
type Congestion struct {
	Name string
	// Means is how that was brought about: "default" (the host's), "namespace"
	// (the sysctl of each place), or "route" (the congctl of each route: the
	// host does not allow its namespaces this one).
	Means string
}

// Proto is TCP or MPTCP.
type Proto bool

const (
	TCP   Proto = false
	MPTCP Proto = true
)

func (p Proto) String() string {
	if p {
		return "mptcp"
	}
	return "tcp"
}

// Direction says which way of a link is meant.
type Direction uint8

const (
	Both Direction = iota
	AtoB
	BtoA
)

func (d Direction) has(i int) bool { return d == Both || int(d) == i+1 }

// Flags of an MPTCP endpoint (linux/mptcp.h).
type Flags uint32

const (
	Signal Flags = 1 << iota
	Subflow
	Backup
	FullMesh
)

// Endpoint is an MPTCP endpoint of a place. ID 0 lets the kernel choose, Dev
// "" is any interface.
type Endpoint struct {
	Addr  netip.Addr
	ID    uint8
	Port  uint16
	Flags Flags
	Dev   string
}
