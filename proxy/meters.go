package proxy

import (
	"sync"
	"sync/atomic"

	"mpgate/telemetry"
)

// meterPage is how many routes share a page of meters.
const meterPage = 64

type page [meterPage]atomic.Pointer[telemetry.ExchangeMeter]

// meters are the meters of a listener's exchanges, by route. Most pairs of a listener and a route
// are never used, so the first exchange that needs a meter creates it. Later lookups take no lock.
// Nil has nil meters.
type meters struct {
	create func(route string) *telemetry.ExchangeMeter
	routes *Routes // nil: none
	pages  []atomic.Pointer[page]

	mu    sync.Mutex // held while a page or a meter is made
	ended bool
}

// newMeters returns the meters of routes at l. create is a method of l.metrics.
func (l *Listener) newMeters(create func(listener, route string) *telemetry.ExchangeMeter, routes *Routes) *meters {
	if l.metrics == nil || routes == nil {
		return nil
	}
	return &meters{
		create: func(route string) *telemetry.ExchangeMeter { return create(l.name, route) },
		routes: routes,
		pages:  make([]atomic.Pointer[page], (len(routes.list)+meterPage-1)/meterPage),
	}
}

// of returns the meter of a route.
func (m *meters) of(r *Route) *telemetry.ExchangeMeter {
	if m == nil {
		return nil
	}
	if p := m.pages[r.index/meterPage].Load(); p != nil {
		if one := p[r.index%meterPage].Load(); one != nil {
			return one
		}
	}
	return m.newMeter(r)
}

func (m *meters) newMeter(r *Route) *telemetry.ExchangeMeter {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended { // an exchange outlasts its generation
		one := m.create(r.Name)
		one.Release()
		return one
	}
	p := m.pages[r.index/meterPage].Load()
	if p == nil {
		p = new(page)
		m.pages[r.index/meterPage].Store(p)
	}
	one := p[r.index%meterPage].Load()
	if one == nil {
		one = m.create(r.Name)
		p[r.index%meterPage].Store(one)
	}
	return one
}

// end releases the meters. next, if not nil, first acquires the meters of the routes that both
// have, so that none of these is released completely.
func (m *meters) end(next *meters) {
	if m == nil {
		return
	}
	m.mu.Lock()
	m.ended = true // nothing is stored from here on
	m.mu.Unlock()
	for i := range m.pages {
		p := m.pages[i].Load()
		if p == nil {
			continue
		}
		for j := range p {
			one := p[j].Load()
			if one == nil {
				continue
			}
			next.adopt(m.routes.list[i*meterPage+j].Name)
			one.Release()
		}
	}
}

// adopt creates the meter of the route with that name, if there is such a route.
func (m *meters) adopt(route string) {
	if m == nil {
		return
	}
	if r := m.routes.byName[route]; r != nil {
		m.of(r)
	}
}
