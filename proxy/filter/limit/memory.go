package limit

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Memory bounds what the tables of all limits hold. Each table has some memory besides; see table.
type Memory struct {
	Limit int64         // bytes; 64 MiB
	Every time.Duration // how often Run looks for memory to give back; 1 minute
	used  atomic.Int64

	mu     sync.Mutex
	tables map[*table]struct{} // those in use
}

// Run gives back what tables have grown by and no longer need, until the context ends.
func (m *Memory) Run(ctx context.Context) error {
	every := m.Every
	if every == 0 {
		every = time.Minute
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			m.shrink()
		}
	}
}

func (m *Memory) shrink() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for t := range m.tables {
		t.shrink()
	}
}

func (m *Memory) add(t *table) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tables == nil {
		m.tables = map[*table]struct{}{}
	}
	m.tables[t] = struct{}{}
}

func (m *Memory) remove(t *table) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.tables, t)
}

// take reports whether n bytes are left, and takes them. A nil Memory is not bounded.
func (m *Memory) take(n int64) bool {
	if m == nil {
		return true
	}
	limit := m.Limit
	if limit == 0 {
		limit = 64 << 20
	}
	if m.used.Add(n) <= limit {
		return true
	}
	m.used.Add(-n)
	return false
}

func (m *Memory) give(n int64) {
	if m != nil {
		m.used.Add(-n)
	}
}
