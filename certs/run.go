// What runs: one task, Manager.Run, and below it one for each ACME name.

package certs

import (
	"context"
	"errors"
	"slices"
	"time"

	"mpgate/task"
)

// start hands the ACME names of sh to Run. Those that have failed are tried again at once, because
// the reload may have fixed the cause.
func (m *Manager) start(sh *shape) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range sh.policies {
		for _, o := range p.owned {
			switch d, ok := o.(*managed); {
			case !ok:
			case !d.queued:
				d.queued = true
				m.pending = append(m.pending, d)
			case d.status().Err != nil:
				select {
				case d.again <- struct{}{}:
				default:
				}
			}
		}
	}
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Run watches files, rotates ticket keys, and obtains and renews certificates
// until ctx ends; then it closes m. It must be run once, as a named task.
// The error is nil, or that it was called twice.
func (m *Manager) Run(ctx context.Context) error {
	m.mu.Lock()
	if m.running {
		m.mu.Unlock()
		return errors.New("the certificate manager is already running")
	}
	m.running = true
	m.mu.Unlock()
	stop := task.AfterDone(ctx, "certificates: end", m.cancel)
	defer stop()

	var tasks task.Group
	poll, rotate := time.NewTicker(m.o.FilePoll), time.NewTicker(m.o.TicketRotation)
	defer poll.Stop()
	defer rotate.Stop()
	for {
		select {
		case <-m.ctx.Done():
			tasks.Wait()
			m.Close()
			return nil
		case <-poll.C:
			task.Call("certificates: files", m.pollFiles)
		case <-rotate.C:
			task.Call("certificates: ticket keys", m.rotateTickets)
		case <-m.wake:
			for _, d := range m.takePending() {
				name := "certificate of " + d.domain
				tasks.Go(name, func() { task.Keep(d.ctx, name, d.run) }, nil)
			}
		}
	}
}

func (m *Manager) takePending() []*managed {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.pending
	m.pending = nil
	return out
}

func (m *Manager) pollFiles() {
	pairs, locals, changed := m.watched()
	if f := m.o.Hooks.Changed; f != nil && len(changed) > 0 {
		f(changed)
	}
	now := time.Now()
	for _, p := range pairs {
		task.Call("certificate "+p.name, func() {
			p.poll()
			p.checkExpiry(now)
		})
	}
	for _, l := range locals {
		task.Call("certificate "+l.name, func() { l.poll(now) })
	}
}

// watched returns the sources with files, and the files of policies that changed.
func (m *Manager) watched() (pairs []*pair, locals []*local, changed []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.pairs {
		pairs = append(pairs, p)
	}
	for _, l := range m.locals {
		locals = append(locals, l)
	}
	return pairs, locals, m.changedFiles()
}

// changedFiles are the files of policies that have changed since the last check; m.mu is held.
func (m *Manager) changedFiles() []string {
	var names []string
	for _, p := range m.policies {
		for _, w := range p.r.files {
			if w.changed() {
				w.note()
				names = append(names, w.path)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (m *Manager) rotateTickets() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.policies {
		p.tickets.rotate(p.cfg)
	}
}
