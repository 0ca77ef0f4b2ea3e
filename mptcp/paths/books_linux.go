package paths

import "time"

// books count what paths carry.
type books struct{}

func (b *books) open()  {}
func (b *books) close() {}

func (m *Manager) keepBooks(now time.Time) bool { return false }
