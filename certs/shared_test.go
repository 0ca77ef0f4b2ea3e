package certs

import (
	"strings"
	"testing"

	"github.com/caddyserver/certmagic"
)

// Two managers, as of two processes, share a storage.
func TestACMESharedStorage(t *testing.T) {
	t.Parallel()
	p := newPebble(t, pebbleOptions{})
	storage := &certmagic.FileStorage{Path: t.TempDir()}
	share := func(o *ManagerOptions) { o.Storage = storage }
	m1, ev1 := newManager(t, share)
	m2, ev2 := newManager(t, share)
	for _, challenge := range []string{HTTP01, TLSALPN01} {
		before := p.Issued()
		o := Options{Policy: Policy{ACME: p.acme(challenge, strings.ToLower(challenge)+".example.test")}}
		name := o.Policy.ACME.Domains[0]
		// Only the second is asked by the CA, only the first has begun: the
		// challenge comes by the storage.
		set2 := p.serve2(m2, o)
		set1, err := m1.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(set1.Close)
		set1.Start()
		wait(t, "the first manager's certificate", ev1.notAfter)
		set2.Start()
		wait(t, "the second manager's certificate", ev2.notAfter)
		a, b := set1.shape.def.sources[0].cur.Load(), set2.shape.def.sources[0].cur.Load()
		if !a.Leaf.Equal(b.Leaf) || p.Issued()-before != 1 {
			t.Errorf("%s: %d certificates were issued, want 1", challenge, p.Issued()-before)
		}
		p.leaf(name, p.Roots())
	}
	// Both at once.
	before := p.Issued()
	o := Options{Policy: Policy{ACME: p.acme(HTTP01, "both.example.test")}}
	set2 := p.serve2(m2, o)
	set1, err := m1.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set1.Close)
	set1.Start()
	set2.Start()
	wait(t, "the first manager's certificate", ev1.notAfter)
	wait(t, "the second manager's certificate", ev2.notAfter)
	if n := p.Issued() - before; n != 1 {
		t.Errorf("%d certificates were issued, want 1", n)
	}
	// A third, later: from storage, before Start.
	m3, _ := newManager(t, share)
	if set3, err := m3.Open(o); err != nil || set3.shape.def.sources[0].cur.Load() == nil {
		t.Errorf("what is stored does not serve at once (%v)", err)
	}
}

// serve2 opens and puts to the front, and does not start.
func (p *pebbleCA) serve2(m *Manager, o Options) *Set {
	p.t.Helper()
	o.Listener = "web"
	set, err := m.Open(o)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(set.Close)
	p.set.Store(set)
	p.front.Store(m)
	return set
}
