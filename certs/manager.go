// The manager holds what generations of the configuration share.

package certs

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
)

// Storage is where ACME keeps accounts, keys and certificates, and its locks.
// Managers that share one obtain one certificate among them.
type Storage = certmagic.Storage

// Hooks are called on events; each may be nil. They must return quickly and may be called from
// several goroutines.
type Hooks struct {
	// NotAfter reports the expiry of a certificate that is now in use.
	NotAfter func(name string, t time.Time)
	// Error reports that renewing or reloading failed, and with nil that it succeeded again. kind
	// is as in Status.
	Error func(kind, name string, err error)
	// Changed reports that files changed whose content is part of a policy (ClientCA, ACME.CARoot):
	// sets that are opened from then on see the new content, those that are open keep the old one.
	Changed func(files []string)
	// Handshake counts handshakes, see Set.Done.
	Handshake func(listener string, result Result)
}

// ManagerOptions are for NewManager. Only Dir, or Storage and no use of local
// certificates, must be set.
type ManagerOptions struct {
	// Dir is the state directory: Dir/acme and Dir/local are made below it.
	Dir string
	// Storage replaces the files in Dir/acme.
	Storage Storage
	Log     *slog.Logger
	Hooks   Hooks
	// UserAgent is sent to CAs, as RFC 8555 section 6.1 requires.
	UserAgent string

	FilePoll       time.Duration // how often files are checked; 0 is 5s
	TicketRotation time.Duration // 0 is 12h: a ticket lives 12 to 24 hours
	RenewCheck     time.Duration // how often renewal is checked; 0 is 10m
	RetryFirst     time.Duration // the wait after a first failure, doubled each time; 0 is 1m
	RetryMax       time.Duration // 0 is 6h
}

func (o *ManagerOptions) defaults() {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&o.FilePoll, 5*time.Second)
	def(&o.TicketRotation, 12*time.Hour)
	def(&o.RenewCheck, 10*time.Minute)
	def(&o.RetryFirst, time.Minute)
	def(&o.RetryMax, 6*time.Hour)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Storage == nil && o.Dir != "" {
		o.Storage = &certmagic.FileStorage{Path: filepath.Join(o.Dir, "acme")}
	}
}

// Manager is one for each gateway. It starts nothing by itself: Run does, and
// owns every goroutine.
type Manager struct {
	o          ManagerOptions
	log        *slog.Logger
	ctx        context.Context // ends with Close
	cancel     context.CancelFunc
	challenges challenges
	slots      chan struct{} // limits how many certificates are obtained at once

	mu       sync.Mutex
	closed   bool
	running  bool
	pending  []*managed // started sets' names that Run has yet to begin with
	wake     chan struct{}
	shapes   map[string]*shape
	policies map[string]*policy
	pairs    map[Pair]*pair
	managed  map[string]*managed
	issuers  map[string]*issuer
	locals   map[string]*local
	magic    *certmagic.Cache
}

// NewManager makes a manager. It opens no file.
func NewManager(o ManagerOptions) *Manager {
	o.defaults()
	m := &Manager{
		o: o, log: o.Log,
		slots:    make(chan struct{}, 8),
		wake:     make(chan struct{}, 1),
		shapes:   map[string]*shape{},
		policies: map[string]*policy{},
		pairs:    map[Pair]*pair{},
		managed:  map[string]*managed{},
		issuers:  map[string]*issuer{},
		locals:   map[string]*local{},
	}
	m.challenges.m = m
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m
}

// Open makes the TLS of one listener: it checks o, reads its files, and takes over from sets that
// are open what is equal. Nothing is obtained before Start. The error is Faults if the options are
// invalid.
func (m *Manager) Open(o Options) (*Set, error) {
	all, faults := resolve(o)
	if err := faults.err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, errors.New("the certificate manager is closed")
	}
	if err := m.openLocal(all); err != nil {
		return nil, Faults{{"tls.local", err}}
	}
	sh := &shape{}
	var keys []string
	for _, r := range all {
		p, err := m.policy(r)
		if err != nil {
			for _, p := range sh.policies {
				m.dropPolicy(p)
			}
			return nil, Faults{{r.key, err}}
		}
		sh.policies = append(sh.policies, p)
		keys = append(keys, fmt.Sprint(p.id))
		for _, h := range r.Policy.Hosts {
			table, key := sh.byName.slot(h)
			table[key] = p
		}
	}
	sh.key = strings.Join(keys, " ")
	if old := m.shapes[sh.key]; old != nil {
		for _, p := range sh.policies {
			m.dropPolicy(p) // old holds them
		}
		old.refs++
		return &Set{m: m, listener: o.Listener, shape: old}, nil
	}
	sh.def = sh.policies[0]
	sh.refs = 1
	sh.cfg = &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			return sh.configFor(m, hello)
		},
	}
	m.shapes[sh.key] = sh
	return &Set{m: m, listener: o.Listener, shape: sh}, nil
}

// policy returns the policy that r describes, the old one if there is one.
func (m *Manager) policy(r *resolved) (*policy, error) {
	ident, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	key := fileSum(ident)
	if p := m.policies[key]; p != nil {
		p.refs++
		for _, lp := range r.pairs {
			m.pairs[lp.Pair].adopt(lp)
		}
		return p, nil
	}
	p := newPolicy(key, r)
	if err := m.provide(p); err != nil {
		p.refs = 1
		m.dropPolicy(p)
		return nil, err
	}
	p.refs = 1
	m.policies[key] = p
	p.attach()
	if bare := p.uncovered(); len(bare) > 0 {
		m.log.Warn("no certificate covers some hosts of a TLS policy", "listener", r.Listener, "hosts", bare)
	}
	return p, nil
}

// provide gets or creates the sources of p's certificates.
func (m *Manager) provide(p *policy) error {
	for _, lp := range p.r.pairs {
		s := m.pairs[lp.Pair]
		if s == nil {
			s = newPair(m, lp)
			m.pairs[lp.Pair] = s
		} else {
			s.adopt(lp)
		}
		s.refs++
		p.sources, p.owned = append(p.sources, &s.source), append(p.owned, s)
	}
	if a := p.r.Policy.ACME; a != nil {
		for _, d := range a.Domains {
			s, err := m.manage(p.r.issuer, d)
			if err != nil {
				return err
			}
			s.refs++
			p.sources, p.owned = append(p.sources, &s.source), append(p.owned, s)
		}
	}
	if p.r.Policy.Local {
		s, err := m.localCert(p.r.Policy)
		if err != nil {
			return err
		}
		s.refs++
		p.sources, p.owned = append(p.sources, &s.source), append(p.owned, s)
	}
	return nil
}

func (m *Manager) release(sh *shape) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if sh.refs--; sh.refs > 0 {
		return
	}
	delete(m.shapes, sh.key)
	for _, p := range sh.policies {
		m.dropPolicy(p)
	}
}

func (m *Manager) dropPolicy(p *policy) {
	if p.refs--; p.refs > 0 {
		return
	}
	delete(m.policies, p.ident)
	p.detach()
	for _, o := range p.owned {
		switch s := o.(type) {
		case *pair:
			if s.refs--; s.refs == 0 {
				delete(m.pairs, s.at.Pair)
				m.endMetric(&s.source)
			}
		case *local:
			if s.refs--; s.refs == 0 {
				delete(m.locals, s.key)
				m.endMetric(&s.source)
			}
		case *managed:
			if s.refs--; s.refs == 0 {
				delete(m.managed, s.key)
				s.cancel()
				m.dropIssuer(s.issuer)
				m.endMetric(&s.source)
			}
		}
	}
}

// dropIssuer removes is when no name uses it.
func (m *Manager) dropIssuer(is *issuer) {
	for _, d := range m.managed {
		if d.issuer == is {
			return
		}
	}
	delete(m.issuers, is.o.key)
	is.http.CloseIdleConnections()
}

// endMetric ends the metric of a certificate that is no longer used; m.mu is held. Where another
// one has the same name, such as a second local one, the metric continues as that one's.
func (m *Manager) endMetric(s *source) {
	var until time.Time
	failing := false
	for _, o := range m.sources() {
		if o.name != s.name || o == s {
			continue
		}
		if c := o.cur.Load(); c != nil && (until.IsZero() || c.Leaf.NotAfter.Before(until)) {
			until = c.Leaf.NotAfter
		}
		failing = failing || o.status().Err != nil
	}
	if f := m.o.Hooks.Error; f != nil && !failing && s.status().Err != nil {
		f(s.kind, s.name, nil)
	}
	if f := m.o.Hooks.NotAfter; f != nil {
		f(s.name, until)
	}
}

func (m *Manager) locked(f func() []*source) []*source {
	m.mu.Lock()
	defer m.mu.Unlock()
	return f()
}

// sources are all in use; m.mu is held.
func (m *Manager) sources() []*source {
	var all []*source
	for _, s := range m.pairs {
		all = append(all, &s.source)
	}
	for _, s := range m.managed {
		all = append(all, &s.source)
	}
	for _, s := range m.locals {
		all = append(all, &s.source)
	}
	return all
}

// Close ends everything that Run started; Run then returns. Sets continue to serve their
// certificates. It need not be called if Run is.
func (m *Manager) Close() {
	m.cancel()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	m.closed = true
	if m.magic != nil {
		m.magic.Stop()
	}
	for _, is := range m.issuers {
		is.http.CloseIdleConnections()
	}
}

// Status returns what is known of each certificate in use, sorted by name.
func (m *Manager) Status() []Status {
	sources := m.locked(m.sources)
	out := make([]Status, len(sources))
	for i, s := range sources {
		out[i] = s.status()
	}
	slices.SortFunc(out, func(a, b Status) int {
		return strings.Compare(a.Name+"\x00"+a.Kind, b.Name+"\x00"+b.Kind)
	})
	return out
}
