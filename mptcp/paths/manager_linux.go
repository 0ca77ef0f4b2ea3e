package paths

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/mptcp"
	"mpgate/task"
)

const (
	// The kernel sends no notifications about endpoints and limits: they are read this often.
	lookEvery = 5 * time.Second
	// How often a sample is taken while connections send, and while none does.
	busyTick = 20 * time.Millisecond
	// While one looks as if it were going to be judged.
	suspectTick = 5 * time.Millisecond
	idleTick    = 100 * time.Millisecond
	// Without fail-over there is less to do.
	slowTick = time.Second
	// What was put off is tried again, less and less often.
	firstRetry = 50 * time.Millisecond
	lastRetry  = 5 * time.Second
	// A step that panicked is tried again after this time.
	afterPanic = time.Second
)

// A Manager manages the paths of one network namespace: that of the thread that opened it.
type Manager struct {
	pm   *mptcp.PathManager
	diag *mptcp.Diag
	rt   *rtnetlink
	wake chan struct{}
	// calls are executed by Run, until it has ended.
	calls chan func()
	ended chan struct{}

	mu      sync.Mutex
	next    *Options // of Update, not yet taken
	status  Status
	source  Source // of the options in force
	devices []int  // of the paths
	running bool

	sources atomic.Pointer[sourceTable]
	names   atomic.Pointer[map[netip.Addr]string] // of the paths, for PathAt

	// The fields below are used by Run only.
	o          Options
	paths      []*path
	byAddr     map[netip.Addr]*path
	found      *host
	egresses   map[addrPair]egress
	egressesAt time.Time
	owned      map[key]ownedEndpoint
	contested  map[key]string
	limits     ownedLimits
	last       plan // as last made
	inKernel   mptcp.Limits
	notes      []string
	errs       map[string]string // of reading and writing, by operation
	lookAt     time.Time
	retryAt    time.Time
	retryIn    time.Duration
	lastID     uint8
	info       mptcp.Info
	sample     sample
	journal    journal
	accounting accounting
}

// ownedLimits remembers the limits before they were changed.
type ownedLimits struct {
	set               bool
	previous, current mptcp.Limits
	contested         bool
}

// Open checks the options and the privileges that they need; a missing one is a *PrivilegeError.
// Nothing is changed before Run.
func Open(o Options) (*Manager, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	m := &Manager{wake: make(chan struct{}, 1), calls: make(chan func()), ended: make(chan struct{}), egresses: map[addrPair]egress{}, owned: map[key]ownedEndpoint{}, contested: map[key]string{}, errs: map[string]string{}}
	var err error
	if m.diag, err = mptcp.OpenDiag(); err == nil {
		if m.rt, err = openRtnetlink(); err == nil {
			m.pm, err = mptcp.OpenPathManager()
		}
	}
	if err == nil {
		err = m.allowed(&o)
	}
	if err != nil {
		m.closeSockets()
		return nil, err
	}
	m.o = o.withDefaults()
	m.status = Status{Manage: m.o.Manage, Failover: m.o.Failover} // until the first look
	m.accounting.open()
	return m, nil
}

// Close closes a manager that was not run.
func (m *Manager) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.running {
		m.closeSockets()
	}
}

func (m *Manager) closeSockets() {
	if m.diag != nil {
		m.diag.Close()
	}
	if m.rt != nil {
		m.rt.close()
	}
	if m.pm != nil {
		m.pm.Close()
	}
	m.accounting.close()
}

// allowed tries an operation that changes nothing, because the capability is needed in the user
// namespace that owns the network namespace.
func (m *Manager) allowed(o *Options) error {
	what := o.privileged()
	if what == "" {
		return nil
	}
	if _, err := m.pm.SetFlags(mptcp.Endpoint{}); errors.Is(err, unix.EPERM) {
		return &PrivilegeError{What: what, Err: unix.EPERM}
	}
	return nil
}

// Update replaces the options, including Hooks, Source and Logger; Run applies them.
func (m *Manager) Update(o Options) error {
	err := o.check()
	if err == nil {
		err = m.allowed(&o)
	}
	if err != nil {
		return err
	}
	o = o.withDefaults()
	m.mu.Lock()
	m.next = &o
	m.mu.Unlock()
	m.wakeUp()
	return nil
}

// Status returns the state as last read.
func (m *Manager) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status
}

// PathAt returns the name of the path that has a local address, "" if none has. It does not block,
// and is safe for concurrent use.
func (m *Manager) PathAt(local netip.Addr) string {
	if names := m.names.Load(); names != nil {
		return (*names)[local]
	}
	return ""
}

func (m *Manager) wakeUp() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Run manages the paths until the context is done; then it removes what it made, unless Keep is
// set. It may be called once, and its goroutine's thread should be in the namespace of Open:
// sockets of its own (to probe silent paths) are made in it.
func (m *Manager) Run(ctx context.Context) error {
	m.mu.Lock()
	m.running = true
	m.mu.Unlock()
	defer close(m.ended)
	m.openJournal()
	m.takeHandover()
	var hears, listens task.Group
	listenCtx, unlisten := context.WithCancel(ctx)
	hears.Go("paths: news of links", func() {
		task.Keep(listenCtx, "paths: news of links", func() { m.rt.listen(m.wakeUp) })
	}, nil)
	if m.accounting.events != nil {
		listens.Go("paths: MPTCP events", func() {
			task.Keep(listenCtx, "paths: MPTCP events", func() { m.accounting.listen(listenCtx) })
		}, nil)
	}
	defer func() {
		task.Call("paths: end", m.end)
		unlisten()
		listens.Wait()
		m.closeSockets()
		hears.Wait()
	}()
	tick := time.NewTimer(0)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-m.wake:
			m.lookAt = time.Time{}
		case order := <-m.calls:
			task.Call("paths: order", order)
		case <-tick.C:
		}
		if task.Call("paths", func() { m.step(time.Now()) }) != nil {
			tick.Reset(afterPanic)
			continue
		}
		tick.Reset(m.pause())
	}
}

// step does what is due.
func (m *Manager) step(now time.Time) {
	m.takeOptions()
	if !now.Before(m.lookAt) {
		m.lookAt = now.Add(lookEvery)
		m.look(now)
	}
	if m.o.Failover != FailoverOff {
		m.watch(now)
	}
	m.maintain(now)
	if m.accountIfDue(now) {
		m.publish()
	}
}

func (m *Manager) pause() time.Duration {
	d := slowTick
	if m.o.Failover != FailoverOff {
		d = idleTick
		if m.sample.busy() {
			d = busyTick
		}
		if m.sample.suspect {
			d = suspectTick
		}
	}
	for _, p := range m.paths {
		if !p.rejoin.at.IsZero() {
			d = min(d, max(time.Until(p.rejoin.at), time.Millisecond))
		}
		switch p.state {
		case Silent:
			d = min(d, busyTick)
		case Returning:
			d = min(d, max(time.Until(m.readyAt(p)), time.Millisecond))
		}
	}
	if !m.retryAt.IsZero() {
		d = min(d, max(time.Until(m.retryAt), time.Millisecond))
	}
	return d
}

// takeOptions applies new options, if there are any.
func (m *Manager) takeOptions() {
	m.mu.Lock()
	next := m.next
	m.next = nil
	m.mu.Unlock()
	if next != nil {
		m.replace(*next)
	}
}

// replace applies new options. Paths that are unchanged keep their state.
func (m *Manager) replace(o Options) {
	m.unfollow()
	m.o = o
	for k := range m.contested {
		delete(m.owned, k)
	}
	clear(m.contested)
	m.limits.contested = false
	m.journal.handedOver = false
	m.takeHandover()
	m.lookAt = time.Time{}
}

// maintain restores paths whose hold has expired, and repeats what was postponed.
func (m *Manager) maintain(now time.Time) {
	for _, p := range m.paths {
		if p.state == Silent {
			m.probePath(p, now)
		}
		if !p.settlingSince.IsZero() && p.state != Down && !now.Before(m.settlesAt(p)) {
			m.settled(p)
		}
		if p.state == Returning && !now.Before(m.readyAt(p)) {
			m.restore(p, now)
		}
		if !p.rejoin.at.IsZero() && !now.Before(p.rejoin.at) {
			m.rejoin(p, now)
		}
	}
	if !m.retryAt.IsZero() && !now.Before(m.retryAt) {
		m.sync()
	}
}

// noteError records the error of an operation, or that it succeeded.
func (m *Manager) noteError(what string, err error) {
	switch {
	case err == nil:
		delete(m.errs, what)
	case m.errs[what] != err.Error():
		m.errs[what] = err.Error()
		m.o.Logger.Error("MPTCP paths: "+what, "err", err)
	}
}

// publish updates what Status returns.
func (m *Manager) publish() {
	m.updateSources()
	s := Status{Manage: m.o.Manage, Failover: m.o.Failover, Endpoints: slices.Clone(m.last.statuses), Limits: m.inKernel, Notes: slices.Clone(m.notes)}
	if m.o.Manage != ManageOff {
		s.WantedLimits = m.o.Limits
	}
	var devices []int
	names := map[netip.Addr]string{}
	for _, p := range m.paths {
		for _, a := range p.addrs {
			names[a] = p.Name
		}
		s.Paths = append(s.Paths, p.status())
		if p.index != 0 && !slices.Contains(devices, p.index) {
			devices = append(devices, p.index)
		}
	}
	for what, err := range m.errs {
		s.Notes = append(s.Notes, fmt.Sprintf("%s: %s", what, err))
	}
	slices.Sort(s.Notes)
	m.names.Store(&names)
	m.mu.Lock()
	m.status, m.source, m.devices = s, m.o.Source, devices
	m.mu.Unlock()
}
