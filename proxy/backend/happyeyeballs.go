package backend

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mpgate/mptcp"
	"mpgate/task"
)

const (
	// attemptDelay is how long a connect waits before the next address is tried beside it (RFC 8305
	// section 5).
	attemptDelay = 250 * time.Millisecond
	// maxAttempts bounds the connects to addresses of one name at the same time.
	maxAttempts = 8
	// retestAfter is the time from a lost race to a test in the background whether the address can
	// be reached again.
	retestAfter = time.Minute
)

// preference is the order in which the addresses of a name are tried. An address that lost a race
// comes last until a test in the background reaches it, so that it costs attemptDelay once. The
// same holds for all addresses of its family if the other family won: a network without a working
// route fails for all of them.
type preference struct {
	turn atomic.Uint32 // so that each address gets its share of the connections

	mu       sync.Mutex // guards what follows
	lost     map[netip.Addr]time.Time
	families [2]time.Time // when a family lost to the other one; zero: it did not
	testing  bool
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// order returns addresses in the order in which to try them: the two families in turn, beginning
// with IPv6 (RFC 8305 section 4), then those that lost.
func (p *preference) order(addrs []netip.Addr) []netip.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	var good [2][]netip.Addr
	var bad []netip.Addr
	for _, a := range addrs {
		f := familyOf(a)
		if _, lost := p.lost[a]; lost || !p.families[f].IsZero() {
			bad = append(bad, a)
		} else {
			good[f] = append(good[f], a)
		}
	}
	turn := int(p.turn.Add(1) - 1)
	order := addrs[:0:0]
	for i := range max(len(good[0]), len(good[1])) {
		for _, list := range [][]netip.Addr{good[1], good[0]} {
			if i < len(list) {
				order = append(order, list[(i+turn)%len(list)])
			}
		}
	}
	return append(order, bad...)
}

// note records the outcome of a race that winner won, and tried before it were addresses that lost.
func (p *preference) note(winner netip.Addr, before []netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.lost, winner)
	p.families[familyOf(winner)] = time.Time{}
	now := time.Now()
	for _, a := range before {
		if p.lost == nil {
			p.lost = map[netip.Addr]time.Time{}
		}
		p.lost[a] = now
		if f := familyOf(a); f != familyOf(winner) {
			p.families[f] = now
		}
	}
}

// due returns an address that lost so long ago that it should be tested, of those that the name has
// at present. It forgets what is known about others. One test is made at a time.
func (p *preference) due(addrs []netip.Addr, now time.Time) (a netip.Addr, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.lost) == 0 && p.families == [2]time.Time{} || p.testing {
		return a, false
	}
	for old := range p.lost {
		if !slices.Contains(addrs, old) {
			delete(p.lost, old)
		}
	}
	for _, a := range addrs {
		at, lost := p.lost[a]
		if family := p.families[familyOf(a)]; !lost && !family.IsZero() {
			at, lost = family, true
		}
		if lost && now.Sub(at) >= retestAfter {
			p.testing = true
			return a, true
		}
	}
	return a, false
}

// tested records the outcome of a test.
func (p *preference) tested(a netip.Addr, reached bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.testing = false
	if reached {
		delete(p.lost, a)
		p.families[familyOf(a)] = time.Time{}
		return
	}
	if p.lost == nil {
		p.lost = map[netip.Addr]time.Time{}
	}
	p.lost[a] = time.Now()
}

// dialed is the outcome of a connect to one address.
type dialed struct {
	index  int
	conn   *net.TCPConn
	result mptcp.Result
	err    error
}

// dialAny connects to one of the addresses of a name (Happy Eyeballs, RFC 8305): when a connect
// fails, or takes longer than attemptDelay, the next address is tried beside it. The first
// connection is used. Before ctx ends, all addresses are tried as far as the time allows.
func (s *Server) dialAny(ctx context.Context, addrs []netip.Addr) (net.Conn, netip.Addr, mptcp.Result, error) {
	addrs = s.reachable(addrs)
	order := s.preference.order(addrs)
	if len(order) == 1 {
		nc, r, err := asConn(s.dialer.Dial(ctx, netip.AddrPortFrom(order[0], s.port)))
		return nc, order[0], r, err
	}
	won := s.race(ctx, order)
	if won.err != nil {
		return nil, netip.Addr{}, won.result, won.err
	}
	winner := order[won.index]
	s.preference.note(winner, order[:won.index])
	s.retest(addrs)
	return won.conn, winner, won.result, nil
}

// reachable returns the addresses of the family of the source address, if there is one.
func (s *Server) reachable(addrs []netip.Addr) []netip.Addr {
	source := s.dialer.Source
	if !source.IsValid() {
		return addrs
	}
	same := slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return a.Is4() != source.Is4() })
	if len(same) == 0 {
		return addrs // the connect says what is wrong
	}
	return same
}

// race returns the first connection, or the last error.
func (s *Server) race(ctx context.Context, order []netip.Addr) (won dialed) {
	ctx, cancel := context.WithCancel(ctx)
	outcomes := make(chan dialed, len(order))
	var group task.Group
	start := func(i int) {
		name := "backend " + s.backend.Name() + ": connect to " + s.Address
		group.Go(name, func() {
			c, r, err := s.dialer.Dial(ctx, netip.AddrPortFrom(order[i], s.port))
			outcomes <- dialed{i, c, r, err}
		}, func(*task.Panic) { outcomes <- dialed{index: i, err: ErrInternal} })
	}
	started, ended := 0, 0
	defer func() {
		cancel()
		group.Wait()
		for range started - ended {
			if late := <-outcomes; late.err == nil {
				late.conn.Close()
			}
		}
	}()
	timer := time.NewTimer(attemptDelay)
	defer timer.Stop()
	next := func() {
		// The first one says that ctx has ended.
		if started < len(order) && started-ended < maxAttempts && (started == 0 || ctx.Err() == nil) {
			start(started)
			started++
			timer.Reset(attemptDelay)
		}
	}
	next()
	for {
		select {
		case won = <-outcomes:
			if ended++; won.err == nil {
				return won
			}
			if next(); started == ended {
				return won
			}
		case <-timer.C:
			next()
		}
	}
}

// retest tests in the background one address that lost a race a while ago.
func (s *Server) retest(addrs []netip.Addr) {
	a, ok := s.preference.due(addrs, time.Now())
	if !ok {
		return
	}
	s.start("test of an address", func(ctx context.Context) {
		reached := false
		defer func() { s.preference.tested(a, reached) }()
		limit := s.backend.connLimit
		if !limit.tryAcquire() {
			return
		}
		defer limit.Release()
		ctx, cancel := context.WithTimeout(ctx, s.backend.options.ConnectTimeout)
		defer cancel()
		if c, _, err := s.dialer.Dial(ctx, netip.AddrPortFrom(a, s.port)); err == nil {
			reached = true
			c.Close()
		}
	})
}
