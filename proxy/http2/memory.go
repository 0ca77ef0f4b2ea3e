package http2

import (
	"math"
	"runtime/debug"
	"sync/atomic"
)

// Memory accounts for what the peers of several connections make them hold: bodies that were not
// taken yet, pieces that wait for a peer's window, and what may still come in windows that grew.
// What a peer was granted is always accepted. The limit decides what is granted from then on:
//
//	below a half      windows grow
//	three quarters    pressed, until below a half: windows shrink as bytes come, and new streams get small ones
//	full              a connection that holds much itself starts no more streams
//
// So what is held stays within the limit, and beyond it minWindow for each stream and twice
// connWindow for each connection. The zero value has no limit.
type Memory struct {
	Limit   int64 // bytes; 0 is none
	used    atomic.Int64
	pressed atomic.Bool
}

const (
	maxMemory = 256 << 20
	minMemory = 4 << 20
)

// MemoryLimit is a limit that suits this process: an eighth of what the runtime keeps it below
// (debug.SetMemoryLimit), and 256 MiB at most.
func MemoryLimit() int64 {
	if all := debug.SetMemoryLimit(-1); all != math.MaxInt64 {
		return min(maxMemory, max(minMemory, all/8))
	}
	return maxMemory
}

// Used is how many bytes are accounted for.
func (m *Memory) Used() int64 { return m.used.Load() }

// Full says whether the limit is reached: then nothing should begin that makes connections hold
// more.
func (m *Memory) Full() bool { return m != nil && m.Limit > 0 && m.used.Load() >= m.Limit }

// Pressed says whether memory is short: connections hold, or have promised to take, three
// quarters of the limit, and since then always more than a half.
func (m *Memory) Pressed() bool { return m != nil && m.pressed.Load() }

// hold accounts for n bytes, whatever the limit.
func (m *Memory) hold(n int) {
	if m == nil {
		return
	}
	if used := m.used.Add(int64(n)); m.Limit > 0 && used >= m.Limit/4*3 && !m.pressed.Load() {
		m.pressed.Store(true)
	}
}

func (m *Memory) release(n int) {
	if m == nil {
		return
	}
	if used := m.used.Add(int64(-n)); used <= m.Limit/2 && m.pressed.Load() {
		m.pressed.Store(false)
	}
}

// growth is by how much a window may grow: a part of what is left of the first half, so that others
// can grow too.
func (m *Memory) growth() int64 {
	if m == nil || m.Limit <= 0 {
		return maxStreamWindow
	}
	return max(0, m.Limit/2-m.used.Load()) / 4
}
