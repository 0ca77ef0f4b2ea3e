package mptcp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/task"
)

func (d *Dialer) learns() bool { return d.Memory != nil && d.Mode == Prefer }

// dialPlain dials without asking for MPTCP, for a reason that was learned.
func (d *Dialer) dialPlain(ctx context.Context, to netip.AddrPort, why Reason) (*net.TCPConn, Result, error) {
	plain := *d
	plain.Mode, plain.Memory = Off, nil
	start := time.Now()
	c, _, err := plain.dial(ctx, to)
	if err != nil {
		return nil, Result{}, err
	}
	if d.learns() {
		d.Memory.plainTook(to, time.Since(start), time.Now())
	}
	return c, Result{Transport: Fallback, Reason: why, Learned: true}, nil
}

// attempt is one of the two SYNs.
type attempt struct {
	f     *os.File
	began time.Time
	plain bool
	err   error
	took  time.Duration
}

// race connects fd, a socket that asks for MPTCP and that it owns:
//
//	0 ms          the SYN that asks for MPTCP
//	250 ms        or twice the known round-trip time: no answer, so a plain one beside it
//	900 ms        the first is given up (see giveUpAfter)
//
// The first answer counts, also if it is a refusal; the other socket is closed.
func (d *Dialer) race(ctx context.Context, fd int, to netip.AddrPort) (*net.TCPConn, Result, error) {
	won, vanished, err := d.run(ctx, fd, to)
	if err != nil {
		d.Memory.failed(to)
		return nil, Result{}, err
	}
	defer won.f.Close()
	c, err := d.conn(won.f, to)
	if err != nil {
		d.Memory.failed(to)
		return nil, Result{}, err
	}
	var r Result
	switch {
	case !won.plain:
		r = resultOf(won.f)
	case vanished:
		r = Result{Transport: Fallback, Reason: Blackhole}
	default:
		r = Result{Transport: Fallback, Reason: PeerOrPath}
	}
	d.Memory.connected(to, r, vanished, won.took, time.Now())
	return c, r, nil
}

// run says which attempt connected, its file open, and whether the other vanished.
func (d *Dialer) run(ctx context.Context, fd int, to netip.AddrPort) (won *attempt, vanished bool, err error) {
	alone := d.Memory.raceDelay(to)
	first := &attempt{began: time.Now()}
	if first.f, err = begin(fd, to); err != nil {
		return nil, false, err
	}
	firstCtx, giveUp := context.WithDeadline(ctx, first.began.Add(alone))
	first.wait(firstCtx)
	giveUp()
	if !errors.Is(first.err, context.DeadlineExceeded) || ctx.Err() != nil {
		return first.result()
	}
	second := &attempt{plain: true, began: time.Now()}
	if second.f, err = d.beginPlain(to); err != nil {
		// Nothing to race it with: it goes on alone.
		first.wait(ctx)
		return first.result()
	}
	return d.waitBoth(ctx, first, second)
}

// raceDelay is what comes of an attempt that has no other beside it.
func (a *attempt) result() (*attempt, bool, error) {
	if a.err != nil {
		a.f.Close()
		return nil, false, a.err
	}
	return a, false, nil
}

func (a *attempt) wait(ctx context.Context) {
	_ = a.f.SetWriteDeadline(time.Time{})
	a.err = wait(ctx, a.f)
	a.took = time.Since(a.began)
}

func (d *Dialer) beginPlain(to netip.AddrPort) (*os.File, error) {
	fd, err := unix.Socket(family(to.Addr()), unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
	if err != nil {
		return nil, err
	}
	if err := d.prepare(fd, to); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return begin(fd, to)
}

// waitBoth waits for the first of two. It does not return before the other's wait has ended.
func (d *Dialer) waitBoth(ctx context.Context, first, second *attempt) (won *attempt, vanished bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	firstCtx, giveUp := context.WithDeadline(ctx, first.began.Add(max(giveUpAfter, 2*second.began.Sub(first.began))))
	ended := make(chan *attempt, 2)
	var waits task.Group
	for _, w := range []struct {
		*attempt
		ctx context.Context
	}{{first, firstCtx}, {second, ctx}} {
		waits.Go("dial", func() { w.wait(w.ctx); ended <- w.attempt }, func(p *task.Panic) { w.err = p; ended <- w.attempt })
	}
	answer := <-ended
	if !answer.answered() {
		answer = <-ended
	}
	cancel()
	giveUp()
	waits.Wait()
	// Both may have connected.
	if answer.plain && first.err == nil {
		answer = first
	}
	for _, a := range []*attempt{first, second} {
		if a != answer || a.err != nil {
			a.f.Close()
		}
	}
	if answer.err != nil {
		return nil, false, answer.err
	}
	// A plain SYN that had to be repeated proves nothing: the server may have been restarting.
	return answer, answer.plain && answer.took < time.Second, nil
}

// answered: the attempt says something about the server. One that was given up, or that this host
// could not make, does not.
func (a *attempt) answered() bool {
	return a.err == nil || errors.Is(a.err, unix.ECONNREFUSED) || errors.Is(a.err, unix.ECONNRESET) ||
		errors.Is(a.err, unix.ENETUNREACH) || errors.Is(a.err, unix.EHOSTUNREACH)
}
