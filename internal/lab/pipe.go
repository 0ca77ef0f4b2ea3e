package lab

import (
	"math/rand/v2"
	"time"
)

// jitterStep is how often the delay takes a new value; between two it moves in
// a straight line. Independent jitter for each packet would reorder, or, where
// the order is kept as here, only add to the mean.
const jitterStep = 20 * time.Millisecond

// pipe is one direction of an emulated link: packets go through
//
//	silence -> box -> loss -> [ waiting for the rate | in flight ] -> out
//
// in order. Times are nanoseconds on the monotonic clock. It has no clock and
// does no I/O of its own.
type pipe struct {
	path   Path
	mtu    int
	room   int // bytes that may wait
	silent bool
	box    Box
	rng    *rand.Rand

	// slots is a ring, indexed modulo its length (a power of two): head to mid
	// are in flight, mid to tail wait for their turn at the rate.
	slots           []slot
	head, mid, tail uint64
	waiting         int   // bytes in mid to tail
	sent            int64 // when the packet before mid had been sent at the rate
	due             int64 // when the packet at mid will have been; valid if mid < tail
	last            int64 // latest release so far: order is kept
	free            [][]byte

	jitterFrom, jitterTo, jitterAt int64

	Count Counters
}

type slot struct {
	data    []byte
	arrived int64
	release int64
}

// Counters count one direction of a link. Bytes are those of IP packets in the
// emulator and of frames in the kernel.
type Counters struct {
	Packets, Bytes uint64 // delivered
	Lost           uint64 // packets lost at random
	Overflow       uint64 // packets that found the queue full
	Silenced       uint64 // packets that vanished while the link was silent
	Boxed          uint64 // packets that the middlebox changed or dropped
	Refused        uint64 // packets that met an interface which is down or unplugged
}

func newPipe(path Path, mtu int, seed1, seed2 uint64) *pipe {
	p := &pipe{mtu: mtu, rng: rand.New(rand.NewPCG(seed1, seed2)), slots: make([]slot, 64)}
	p.set(path, 0)
	return p
}

// set changes the path. What is in flight keeps its time of arrival; what
// waits leaves at the new rate.
func (p *pipe) set(path Path, now int64) {
	p.path, p.room = path, path.queueBytes(p.mtu)
	p.jitterFrom, p.jitterTo, p.jitterAt = 0, 0, now
	if p.mid < p.tail {
		p.due = now + p.serialize(len(p.at(p.mid).data))
	}
}

func (p *pipe) at(i uint64) *slot { return &p.slots[i&uint64(len(p.slots)-1)] }

// buffer returns one to read the next packet into.
func (p *pipe) buffer() []byte {
	if n := len(p.free); n > 0 {
		b := p.free[n-1]
		p.free = p.free[:n-1]
		return b
	}
	return make([]byte, p.mtu)
}

func (p *pipe) recycle(b []byte) { p.free = append(p.free, b[:cap(b)]) }

// serialize is the time that n bytes take at the rate.
func (p *pipe) serialize(n int) int64 {
	if p.path.Rate == 0 {
		return 0
	}
	return int64(n+frameOverhead) * 8 * int64(time.Second) / p.path.Rate
}

// push takes a packet that arrived at now, in a buffer from p.buffer.
func (p *pipe) push(data []byte, now int64) {
	if p.silent {
		p.Count.Silenced++
		p.recycle(data)
		return
	}
	acted, drop := p.box.apply(data)
	if acted {
		p.Count.Boxed++
	}
	if drop {
		p.recycle(data)
		return
	}
	if p.path.Loss > 0 && p.rng.Float64() < p.path.Loss {
		p.Count.Lost++
		p.recycle(data)
		return
	}
	p.advance(now)
	size := len(data) + frameOverhead
	if p.path.Rate > 0 && p.waiting+size > p.room {
		p.Count.Overflow++
		p.recycle(data)
		return
	}
	if p.tail-p.head == uint64(len(p.slots)) {
		p.grow()
	}
	*p.at(p.tail) = slot{data: data, arrived: now}
	p.waiting += size
	if p.mid == p.tail {
		p.due = max(now, p.sent) + p.serialize(len(data))
	}
	p.tail++
	p.advance(now)
}

func (p *pipe) grow() {
	old := p.slots
	p.slots = make([]slot, 2*len(old))
	for i := p.head; i < p.tail; i++ {
		*p.at(i) = old[i&uint64(len(old)-1)]
	}
}

// advance moves packets that have been sent at the rate into flight.
func (p *pipe) advance(now int64) {
	for p.mid < p.tail && p.due <= now {
		s := p.at(p.mid)
		p.sent = p.due
		p.waiting -= len(s.data) + frameOverhead
		s.release = max(p.sent+p.delay(p.sent), p.last)
		p.last = s.release
		p.mid++
		if p.mid < p.tail {
			n := p.at(p.mid)
			p.due = max(n.arrived, p.sent) + p.serialize(len(n.data))
		}
	}
}

func (p *pipe) delay(now int64) int64 {
	d := int64(p.path.Delay)
	if p.path.Jitter == 0 {
		return d
	}
	if now >= p.jitterAt {
		p.jitterFrom = p.jitterTo
		if now-p.jitterAt > int64(jitterStep) { // was idle: no line to follow
			p.jitterFrom = p.draw()
		}
		p.jitterTo, p.jitterAt = p.draw(), now+int64(jitterStep)
	}
	part := float64(p.jitterAt-now) / float64(jitterStep)
	return max(0, d+p.jitterTo+int64(part*float64(p.jitterFrom-p.jitterTo)))
}

func (p *pipe) draw() int64 { return int64((2*p.rng.Float64() - 1) * float64(p.path.Jitter)) }

// pop returns the next packet that has arrived by now, nil if there is none.
// It must go back by recycle.
func (p *pipe) pop(now int64) []byte {
	p.advance(now)
	if p.head == p.mid || p.at(p.head).release > now {
		return nil
	}
	s := p.at(p.head)
	p.head++
	data := s.data
	s.data = nil
	return data
}

// idle says that nothing is on its way.
func (p *pipe) idle() bool { return p.head == p.tail }

// next is when something is to be done, if not idle.
func (p *pipe) next() int64 {
	if p.head < p.mid {
		return p.at(p.head).release
	}
	return p.due
}
