package limit

import "sync/atomic"

// perKey limits the requests of each key at the same time. The number of a key is how many there
// are.
type perKey struct {
	*table
	most int64
}

// enter adds a request, unless there are as many as there may be.
func (l *perKey) enter(key uint64) (ok, shared bool) {
	s := l.lock(key)
	defer s.mu.Unlock()
	n, shared := l.number(s, key, 0)
	if *n >= l.most {
		return false, shared
	}
	*n++
	return true, shared
}

// leave removes one that has entered. shared is what enter has returned.
func (l *perKey) leave(key uint64, shared bool) {
	s := l.lock(key)
	defer s.mu.Unlock()
	if shared {
		s.shared--
		return
	}
	if p := s.find(key); p != nil {
		p.number--
	}
}

// inAll limits the requests at the same time.
type inAll struct {
	most int64
	now  atomic.Int64
}

func (l *inAll) enter() bool {
	if l.now.Add(1) <= l.most {
		return true
	}
	l.now.Add(-1)
	return false
}

func (l *inAll) leave() { l.now.Add(-1) }
