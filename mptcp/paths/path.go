package paths

import (
	"net/netip"
	"slices"
	"time"
)

// selection selects subflows: those whose local address is one of addrs, and those that leave by p
// or, if that is down, by no path.
type selection struct {
	addrs []netip.Addr
	p     *path
}

// path is a path and its state.
type path struct {
	resolved
	state       State
	since       time.Time
	reason      string // of a path that is not up
	downAt      time.Time
	downAtStart bool // down since the start: its first up is not counted as a return

	// renewals holds endpoints to be removed and added again once the path is back: a
	// subflow that has ended is not made again while its endpoint stays.
	renewals map[key]bool
	waiting  int // connections that prevent the renewal

	// settlingSince is when it came back or got an address; zero once it has settled.
	settlingSince time.Time

	rejoin rejoin
	joins  joinCount // of this pass of the accounting
	// unjoined is why no connection gets a subflow, of a path that is up otherwise; "": some do, or
	// nothing is known.
	unjoined      string
	unjoinedSince time.Time
	unjoinedTo    addrPair  // that a subflow should have
	lackedPasses  int       // in a row in which all connections lacked a subflow
	routed        bool      // when it was last looked at, there was a route for that
	rejoinedAt    time.Time // when joins were last tried again

	flaps      int // returns in a row that did not last
	returnedAt time.Time
	holdUntil  time.Time

	silence silence
	probe   probe
	totals  Totals
}

const (
	// A path that stays up for this long has recovered; one that fails earlier is flapping.
	flapWindow = 30 * time.Second
	minHold    = time.Second
	maxHold    = time.Minute
	// Links and addresses appear before the routes that a network manager adds, and a join sent
	// before these is lost, or delayed by a second. So no notification about the interface must
	// have arrived for this long,
	settleTime = 50 * time.Millisecond
	// but the wait ends here at the latest.
	maxSettleTime = 500 * time.Millisecond
)

// hold is how long a path must stay up before it is used again; 0 for the first return.
func (p *path) hold() time.Duration {
	if p.flaps == 0 {
		return 0
	}
	return min(minHold<<min(p.flaps-1, 10), maxHold)
}

// fail notes that the path is down.
func (p *path) fail(state State, why string, now time.Time) {
	if p.state == Up {
		p.downAt = now
		if p.returnedAt.IsZero() || now.Sub(p.returnedAt) >= flapWindow {
			p.flaps = 0
		} else {
			p.flaps++
		}
	}
	p.state, p.reason, p.since = state, why, now
}

// back notes that what failed is there again.
func (p *path) back(now time.Time) {
	p.state, p.since = Returning, now
	p.holdUntil = now.Add(p.hold())
	if d := p.hold(); d > 0 {
		p.reason = "it flaps: held for " + d.String()
	}
}

func (p *path) status() PathStatus {
	s := PathStatus{
		Name: p.Name, Declared: p.declared, Interface: p.device, Addresses: slices.Clone(p.addrs), Role: p.Role, Backup: p.Backup,
		State: p.state, Since: p.since, Waiting: p.waiting, Totals: p.totals,
	}
	switch {
	case p.state != Up:
		s.Why = p.reason
	case p.unjoined != "":
		s.State, s.Why, s.Since = Unjoined, p.unjoined, p.unjoinedSince
	}
	return s
}

// without gives those of a that are not in b.
func without(a, b []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, x := range a {
		if !slices.Contains(b, x) {
			out = append(out, x)
		}
	}
	return out
}

// probe tests a silent path: it sends a SYN from the path's address to a server that we have a
// connection to. Any answer shows that the path works.
type probe struct {
	local   netip.Addr
	remote  netip.AddrPort // invalid: no server is known; only joins can tell
	cutAt   time.Time
	fd      int // 0: none
	sentAt  time.Time
	renewAt time.Time // of the next renewal of endpoints, if no server is known
	// renewedAt is when that was done first: before it nobody could answer.
	renewedAt time.Time
	wait      time.Duration
}

const (
	// The kernel repeats a lost SYN after a second; that is awaited first.
	firstRejoin = 1500 * time.Millisecond
	maxRejoins  = 5
	// maxMissed bounds what is remembered of connections that had a subflow on a path.
	maxMissed = 4096
)

// rejoin schedules the renewal of a path's endpoints, because a join on them may have been lost.
type rejoin struct {
	at   time.Time // zero: not at all
	wait time.Duration
	left int
	// missed are the tokens, sorted, of connections that had a subflow on the path when it was cut:
	// other clients may never have used its address, and other servers may not be reached by it.
	missed []uint32
	// replaced: connections to servers that were made while the path was down have been retired;
	// logged: that is logged.
	replaced, logged bool
	// repaired: no connection could have a subflow until now.
	repaired bool
}

func (r *rejoin) begin(now time.Time) {
	r.at, r.wait, r.left = now.Add(firstRejoin), firstRejoin, maxRejoins
	r.replaced, r.logged, r.repaired = false, false, false
}

func (r *rejoin) end() {
	r.at, r.missed = time.Time{}, nil
}

// addrPair are the addresses of a subflow: what a route depends on.
type addrPair struct{ local, remote netip.Addr }

// joinCount counts the connections of one pass.
type joinCount struct {
	using   int // have a subflow on the path
	lacking int // have none, and could
	full    int // of these, have as many subflows as the limit allows
	pair    addrPair
}
