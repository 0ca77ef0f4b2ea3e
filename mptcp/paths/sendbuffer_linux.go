package paths

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/mptcp"
)

// What a path has lost is sent again on the working ones, behind all that is queued there. The
// kernel lets a send buffer grow to a multiple of the largest window that a subflow ever had,
// and never shrink: with a buffer of 1 MB left from the slow start, a path of 100 Mbit/s has
// 90 ms in its queue before what was lost leaves, and the reader waits that long. So the
// buffers of connections that send over several paths are kept at what their paths hold.
//
// A buffer that was set grows no more by itself: that is done here, at each look, as long
// as the connection is followed. Then it is given all that the kernel may ever have.

const (
	minBuffer = 128 << 10 // bytes
	// growth is how many round trips' worth of data may be held: more than one, so that the rate
	// can grow.
	growth = 1.25
	// pause is how long the sender may be delayed before the queue is empty.
	pause = 5 * time.Millisecond
	// rateEvery is the interval of a rate: longer than the pauses in which one path waits for the
	// other.
	rateEvery = 100 * time.Millisecond
	// A buffer must be too large at this many samples in a row to be made smaller.
	maxOversized = 10
)

// buffer is the state of the send buffer of a connection that is followed.
type buffer struct {
	set       int // bytes; 0: it is the kernel's affair
	oversized int // looks at which it was too large,
	maxNeed   int // and the most that was needed at one of them
	// rates are bytes a second, each of rateEvery.
	rates [3]float64
	next  int
	since time.Time // of the one that is being taken, and what had been acknowledged then
	acked uint64
}

// measure measures the rate at which the peer acknowledges. With a long round trip, ACKs arrive in
// one burst for each.
func (b *buffer) measure(acked uint64, rtt time.Duration, now time.Time) {
	switch d := now.Sub(b.since); {
	case b.since.IsZero() || acked < b.acked:
		b.since, b.acked = now, acked
	case d >= max(rateEvery, rtt):
		b.rates[b.next] = float64(acked-b.acked) / d.Seconds()
		b.next = (b.next + 1) % len(b.rates)
		b.since, b.acked = now, acked
	}
}

// need returns what the subflows can use: the data of one round trip of the slowest subflow, as
// data of the others waits for it.
func (b *buffer) need(rtt time.Duration) int {
	held := time.Duration(growth*float64(rtt)) + pause
	return max(int(slices.Max(b.rates[:])*held.Seconds()), minBuffer)
}

// pathsInUse gives the longest round-trip time, and whether there is more than one path.
func (m *Manager) pathsInUse() (rtt time.Duration, several bool) {
	var first *path
	for k := range m.info.Subflows {
		s := &m.info.Subflows[k]
		if s.State != mptcp.StateEstablished && s.State != mptcp.StateCloseWait {
			continue
		}
		rtt = max(rtt, s.RTT)
		if p := m.egressOf(s).path; first == nil {
			first = p
		} else if p != nil && p != first {
			several = true
		}
	}
	return rtt, several
}

// fit returns the size to set; 0: leave it. A buffer that the kernel tunes is set if more than
// twice the need is queued.
func (b *buffer) fit(need, queued int, several bool) int {
	over := several && queued > 2*need
	if b.set > 0 {
		if need > b.set {
			b.oversized = 0
			return need
		}
		over = need < b.set*3/4
	}
	over = over && b.rates[len(b.rates)-1] > 0 // before, the best of them is none
	if !over {
		b.oversized, b.maxNeed = 0, 0
		return 0
	}
	b.maxNeed = max(b.maxNeed, need)
	if b.oversized++; b.oversized < maxOversized {
		return 0
	}
	n := b.maxNeed
	b.oversized, b.maxNeed = 0, 0
	return n
}

// limitBuffer adjusts the buffer of the connection that was just read.
func (m *Manager) limitBuffer(f *followed, now time.Time) {
	b := &f.buffer
	rtt, several := m.pathsInUse()
	b.measure(m.info.SndUna, rtt, now)
	need := min(b.need(rtt), m.sample.maxBuffer)
	if n := b.fit(need, int(m.info.WriteSeq-m.info.SndUna), several); n > 0 {
		f.setBuffer(n)
	}
}

// restoreBuffer gives the largest buffer to a connection that is no longer followed.
func (m *Manager) restoreBuffer(f *followed) {
	if f.buffer.set > 0 {
		f.setBuffer(m.sample.maxBuffer)
		f.buffer = buffer{}
	}
}

// setBuffer needs CAP_NET_ADMIN, as fail-over does: without it net.core.wmem_max would
// bound the size. The error of a connection that has been closed meanwhile does not matter.
func (f *followed) setBuffer(n int) {
	_ = f.Raw.Control(func(fd uintptr) {
		// The kernel doubles it.
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, n/2)
	})
	f.buffer.set = n
}

// maxSendBuffer returns the size to which the kernel lets a send buffer grow.
func maxSendBuffer() int {
	b, _ := os.ReadFile("/proc/sys/net/ipv4/tcp_wmem")
	if fields := strings.Fields(string(b)); len(fields) == 3 {
		if n, err := strconv.Atoi(fields[2]); err == nil {
			return n
		}
	}
	return 4 << 20
}
