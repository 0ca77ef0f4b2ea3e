package lab

import (
	"fmt"
	"math"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tick is the least time between two rounds of the loop under load. It bounds
// the cost of waking up; packets wait in the TUN device meanwhile. Half of it is
// taken off again where times are stamped, so delays are right on average.
//
// The first atOnce rounds in each window do without: what is sparse, such as
// handshakes and single requests, is not held up.
const (
	tick   = 400 * time.Microsecond
	window = 10 * time.Millisecond
	atOnce = 8
)

// batch bounds what is read from one device a round, so that others get a turn.
const batch = 512

// emulated is a link between two TUN devices: pipes[0] goes from fds[0] to
// fds[1], pipes[1] back.
type emulated struct {
	fds       [2]int
	pipes     [2]*pipe
	unplugged bool
}

func newEmulated(l childLink, a, b int, seed, index uint64) *emulated {
	e := &emulated{fds: [2]int{a, b}}
	for i, path := range []Path{l.There, l.Back} {
		e.pipes[i] = newPipe(path, l.MTU, seed, 2*index+uint64(i))
		e.pipes[i].box = l.Box
	}
	return e
}

func monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

// loop moves packets until the control socket closes:
//
//	sleep to the next tick -> wait for input or the next release -> control -> read -> write
func (c *child) loop() error {
	fds := []unix.PollFd{{Fd: controlFd, Events: unix.POLLIN}}
	for _, l := range c.links {
		for _, fd := range l.fds {
			fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		}
	}
	round := monotonic()
	start, rounds := round, 0
	for {
		before, slept := monotonic(), int64(0)
		if before-start > int64(window) {
			start, rounds = before, 0
		}
		if rounds++; rounds > atOnce {
			if slept = round + int64(tick) - before; slept > 0 {
				poll(nil, slept)
				before = monotonic()
			}
		}
		poll(fds, c.next()-before-int64(tick)/4) // timers are late rather than early
		round = monotonic()
		arrived := round
		if round-before < int64(tick)/4 && slept > 0 {
			arrived -= slept / 2 // came at some time during the sleep
		}
		if fds[0].Revents != 0 {
			if done, err := c.control(round); done || err != nil {
				return err
			}
		}
		for i, f := range fds[1:] {
			if f.Revents != 0 {
				if err := c.links[i/2].read(i%2, arrived); err != nil {
					return err
				}
			}
		}
		for _, l := range c.links {
			l.write(0, round+int64(tick)/2)
			l.write(1, round+int64(tick)/2)
		}
	}
}

// next is when the next packet is due.
func (c *child) next() int64 {
	next := int64(math.MaxInt64)
	for _, l := range c.links {
		for _, p := range l.pipes {
			if !p.idle() {
				next = min(next, p.next())
			}
		}
	}
	return next
}

func (l *emulated) read(from int, now int64) error {
	p := l.pipes[from]
	for range batch {
		b := p.buffer()
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(l.fds[from]), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		switch errno {
		case 0:
			if l.unplugged { // the kernel notices only after a while
				p.Count.Refused++
				p.recycle(b)
			} else {
				p.push(b[:n], now)
			}
			continue
		case unix.EAGAIN, unix.EINTR:
			p.recycle(b)
			return nil
		}
		return fmt.Errorf("read from TUN: %w", errno)
	}
	return nil
}

func (l *emulated) write(from int, now int64) {
	p := l.pipes[from]
	for {
		b := p.pop(now)
		if b == nil {
			return
		}
		errno := unix.EIO
		if !l.unplugged {
			_, _, errno = unix.RawSyscall(unix.SYS_WRITE, uintptr(l.fds[1-from]), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
		}
		if errno == 0 {
			p.Count.Packets++
			p.Count.Bytes += uint64(len(b))
		} else { // EIO: the interface is down
			p.Count.Refused++
		}
		p.recycle(b)
	}
}

// poll waits at most for wait nanoseconds; not at all if that is negative.
func poll(fds []unix.PollFd, wait int64) {
	ts := unix.NsecToTimespec(max(0, wait))
	limit := &ts
	if wait > int64(time.Hour) {
		limit = nil
	}
	var first *unix.PollFd
	if len(fds) > 0 {
		first = &fds[0]
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(first)), uintptr(len(fds)),
		uintptr(unsafe.Pointer(limit)), 0, 0, 0)
	if errno != 0 { // EINTR: the events were not written
		for i := range fds {
			fds[i].Revents = 0
		}
	}
}
