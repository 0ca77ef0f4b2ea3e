package limit

import "sync/atomic"

// Memory bounds what the tables of all limits hold. Each table has some memory besides; see table.
type Memory struct {
	Limit int64 // bytes; 64 MiB
	used  atomic.Int64
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
