package failover

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"mpgate/internal/lab"
	"mpgate/mptcp"
	"mpgate/mptcp/paths"
)

// Measure does what o says. It needs root.
func Measure(ctx context.Context, o Options) (*Report, error) {
	o.Runs = max(o.Runs, 1)
	o.Path.Rate = cmp.Or(o.Path.Rate, 100*lab.Mbit)
	o.Warm, o.Away, o.After = cmp.Or(o.Warm, 1500*time.Millisecond), cmp.Or(o.Away, 2*time.Second), cmp.Or(o.After, 1500*time.Millisecond)
	o.Failover = cmp.Or(o.Failover, paths.FailoverActive)
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	spec := lab.Pair(2, o.Path)
	spec.Places = []lab.PlaceSpec{{Name: "client"}, {Name: "server"}}
	// The manager makes the endpoints of its side, and so do those runs without one.
	spec.Places[placeOf(o.Side)].NoEndpoints = true
	spec.Links = append(spec.Links, clockLink)
	l, err := lab.New(ctx, spec)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	if o.Late > 0 {
		// Else the kernel would find what no route leads to as a neighbour.
		for _, p := range spec.Places {
			if err := l.Place(p.Name).Sysctl("net.ipv4.conf.all.arp_ignore", "1"); err != nil {
				return nil, err
			}
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c, err := startClock(ctx, l)
	if err != nil {
		return nil, err
	}
	defer func() { cancel(); c.stop() }()
	r := &Report{Options: o, Congestion: l.Congestion()}
	for i := range o.Runs {
		for _, managed := range []bool{false, true} {
			if !managed && !o.Kernel {
				continue
			}
			b := bout{Options: o, lab: l, clock: c, managed: managed}
			run := b.run(ctx)
			r.Runs = append(r.Runs, run)
			o.Log("run %d managed %v: gap %v low %v done %v back %v before %.0f Mbit/s, cuts %+v (%d while the lab stood still), error %v\n\trates %v", i+1, managed,
				round(run.Gap), run.Low, round(run.Done), run.Back, run.Before/1e6, run.Cuts, run.HeldUp, run.Err, run.Rates)
		}
	}
	return r, ctx.Err()
}

// bout is one run.
type bout struct {
	Options
	lab     *lab.Lab
	clock   *clock
	managed bool

	mu   sync.Mutex
	cuts []paths.Cut
	at   []time.Time // of the cuts
	cut  time.Time
}

func side(i int) string { return [...]string{"client", "server"}[i] }

func (b *bout) run(ctx context.Context) Run {
	ctx, cancel := context.WithTimeout(ctx, b.Warm+b.Away+b.After+20*time.Second)
	defer cancel()
	run, err := b.transfer(ctx)
	run.Managed, run.Cuts = b.managed, b.cuts
	if run.Err = err; len(b.cuts) > 0 {
		run.Done = b.at[0].Sub(b.cut)
	}
	for i, c := range b.cuts {
		if b.clock.heldUp(b.at[i].Add(-c.Stalled), b.at[i]) {
			run.HeldUp++
		}
	}
	return run
}

// transfer is one connection with what happens to it.
func (b *bout) transfer(ctx context.Context) (Run, error) {
	var ours holder
	client, server := b.lab.Place("client"), b.lab.Place("server")
	stop, err := b.manage(ctx, &ours)
	if err != nil {
		return Run{}, err
	}
	defer stop()
	listener, err := server.Listen(ctx, lab.MPTCP, ":0")
	if err != nil {
		return Run{}, err
	}
	defer listener.Close()
	first := b.lab.Link("link1")
	to := netip.AddrPortFrom(first.AddrB.Addr(), uint16(listener.Addr().(*net.TCPAddr).Port))
	dialled, err := client.Dial(ctx, lab.MPTCP, first.AddrA.Addr(), to.String())
	if err != nil {
		return Run{}, err
	}
	defer dialled.Close()
	accepted, err := listener.AcceptTCP()
	if err != nil {
		return Run{}, err
	}
	defer accepted.Close()
	managed, other := accepted, dialled
	if b.Side == paths.Back {
		managed, other = dialled, accepted
	}
	ours.set(managed, b.Side)
	from, into := managed, other
	if b.Receive {
		from, into = other, managed
	}
	return b.pump(ctx, from, into)
}

// pump sends until the end, and takes the path away meanwhile.
func (b *bout) pump(ctx context.Context, from, into *net.TCPConn) (Run, error) {
	begin := time.Now()
	end := begin.Add(b.Warm + b.Away + b.After)
	_ = from.SetDeadline(end.Add(15 * time.Second))
	_ = into.SetDeadline(end.Add(15 * time.Second))
	// Subflows are made once data has passed both ways.
	if err := hello(from, into); err != nil {
		return Run{}, err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	sent := make(chan error, 1)
	wg.Go(func() { sent <- send(from, end, func() { b.describe(from, into) }) })
	received := make(chan error, 1)
	var reads []arrival
	wg.Go(func() {
		var err error
		reads, err = receive(into)
		received <- err
	})
	cut, back := begin.Add(b.Warm), begin.Add(b.Warm+b.Away)
	if b.Event != Nothing {
		if err := b.events(ctx, &cut, &back); err != nil {
			from.Close()
			into.Close()
			return Run{}, err
		}
	}
	if err := errors.Join(<-sent, <-received); err != nil {
		from.Close()
		into.Close()
		return Run{}, err
	}
	return judge(reads, float64(b.Path.Rate), cut, back, end), nil
}

func (b *bout) events(ctx context.Context, cut, back *time.Time) error {
	link, place := b.lab.Link("link2"), side(placeOf(b.Side))
	if err := until(ctx, *cut); err != nil {
		return err
	}
	*cut = time.Now()
	b.cut = *cut
	take, give := func() error { return link.Down(place) }, func() error { return link.Up(place) }
	if b.Event == Silence {
		take, give = func() error { return link.Silence(lab.Both, true) }, func() error { return link.Silence(lab.Both, false) }
	}
	if err := take(); err != nil {
		return err
	}
	if err := until(ctx, *back); err != nil {
		return err
	}
	*back = time.Now()
	if b.Late > 0 {
		if out, err := b.lab.Place(place).Command(ctx, "ip", "link", "set", link.Name, "up").CombinedOutput(); err != nil {
			return fmt.Errorf("link up: %w: %s", err, bytes.TrimSpace(out))
		}
		if err := until(ctx, back.Add(b.Late)); err != nil {
			return err
		}
	}
	return give()
}

func until(ctx context.Context, t time.Time) error {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func hello(a, b *net.TCPConn) error {
	one := []byte{1}
	for _, c := range [][2]*net.TCPConn{{a, b}, {b, a}} {
		if _, err := c[0].Write(one); err != nil {
			return err
		}
		if _, err := io.ReadFull(c[1], one); err != nil {
			return err
		}
	}
	return nil
}

// The bytes sent repeat a pattern whose length is no divisor of any buffer's.
const pattern = 65521

// patternBytes are random, and repeat after the length of the pattern.
func patternBytes(n int) []byte {
	b := make([]byte, pattern, n+pattern)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	for len(b) < n {
		b = append(b, b[:pattern]...)
	}
	return b[:n]
}

// differs says where a stream broke, and by how much it is shifted from there on.
func differs(got, want []byte, total, at int) error {
	i := 0
	for i < len(got) && got[i] == want[i] {
		i++
	}
	shift := "is not found in what was sent"
	if piece := got[i:min(i+32, len(got))]; len(piece) == 32 {
		if k := bytes.Index(patternBytes(2*pattern), piece); k >= 0 {
			shift = fmt.Sprintf("belongs %d bytes further on (modulo %d)", (k-(at+i)%pattern+pattern)%pattern, pattern)
		}
	}
	return fmt.Errorf("receive: what arrived is not what was sent: byte %d %s", total+i, shift)
}

func send(c *net.TCPConn, end time.Time, before func()) error {
	buf := patternBytes(pattern)
	for time.Now().Before(end) {
		if _, err := c.Write(buf); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	before()
	return c.CloseWrite()
}

func receive(c *net.TCPConn) ([]arrival, error) {
	want := patternBytes(2*pattern + 1<<18)
	buf := make([]byte, 1<<18)
	at, total, all := 0, 0, make([]arrival, 0, 1<<16)
	for {
		n, err := c.Read(buf)
		if n > 0 {
			all = append(all, arrival{time.Now(), n})
			if !bytes.Equal(buf[:n], want[at:at+n]) {
				return all, differs(buf[:n], want[at:at+n], total, at)
			}
			at = (at + n) % pattern
			total += n
		}
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, fmt.Errorf("receive: %w", err)
		}
	}
}

// holder is a source of one connection.
type holder struct {
	mu sync.Mutex
	c  []paths.Conn
}

func (h *holder) set(c *net.TCPConn, side paths.Side) {
	rc, err := c.SyscallConn()
	if err != nil {
		return
	}
	h.mu.Lock()
	h.c = append(h.c, paths.Conn{Raw: rc, Side: side})
	h.mu.Unlock()
}

func (h *holder) all(yield func(paths.Conn) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.c {
		if !yield(c) {
			return
		}
	}
}

// manage runs the manager, or makes the endpoints that it would have made.
func (b *bout) manage(ctx context.Context, ours *holder) (stop func(), err error) {
	place := b.lab.Place(side(placeOf(b.Side)))
	o := paths.Options{
		Manage: paths.ManageSync, Failover: b.Failover, Limits: &mptcp.Limits{Subflows: 8, AddrAccepted: 8}, Source: ours.all,
		Paths:  []paths.Path{{Name: "one", Interface: "link1"}, {Name: "two", Interface: "link2"}},
		Logger: slog.New(slog.NewTextHandler(logTo(b.Log), nil)),
		Hooks: paths.Hooks{Cut: func(c paths.Cut) {
			b.mu.Lock()
			b.cuts, b.at = append(b.cuts, c), append(b.at, time.Now())
			b.mu.Unlock()
		}},
	}
	if !b.managed {
		o.Failover, o.Keep = paths.FailoverOff, true
	}
	ctx, cancel := context.WithCancel(ctx)
	ready, done := make(chan error, 1), make(chan error, 1)
	go func() {
		done <- place.Do(func() error {
			m, err := paths.Open(o)
			if err != nil {
				ready <- err
				return err
			}
			wait := make(chan error, 1)
			go func() { wait <- inSync(ctx, m) }()
			go func() {
				err := <-wait
				if err == nil && !b.managed {
					cancel() // the endpoints are made: that was all
				}
				ready <- err
			}()
			return m.Run(ctx)
		})
	}()
	err = <-ready
	stop = func() {
		cancel()
		<-done
		if !b.managed {
			_ = place.FlushEndpoints()
		}
	}
	if err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

func inSync(ctx context.Context, m *paths.Manager) error {
	for {
		if s := m.Status(); len(s.Endpoints) > 0 && s.InSync() {
			return nil
		}
		if err := until(ctx, time.Now().Add(5*time.Millisecond)); err != nil {
			return fmt.Errorf("endpoints: %w: %+v", err, m.Status())
		}
	}
}

type logTo func(format string, args ...any)

func (l logTo) Write(p []byte) (int, error) {
	l("%s", bytes.TrimSpace(p))
	return len(p), nil
}

// placeOf is the index of a side's place.
func placeOf(s paths.Side) int {
	if s == paths.Back {
		return 0
	}
	return 1
}

// describe logs how the connection stands at the end.
func (b *bout) describe(conns ...*net.TCPConn) {
	for _, c := range conns {
		var i mptcp.Info
		rc, err := c.SyscallConn()
		if err == nil {
			err = i.Read(rc)
		}
		for _, s := range i.Subflows {
			b.Log("  subflow %d %s -> %s %s rtt %v sent %d received %d retransmitted %d", s.ID, s.Local, s.Remote, s.State, s.RTT,
				s.BytesSent, s.BytesReceived, s.BytesRetrans)
		}
		if err != nil {
			b.Log("  %v", err)
		}
	}
}
