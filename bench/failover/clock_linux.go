package failover

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"time"

	"mpgate/internal/lab"
)

// clock notices when the lab itself is held up, by what else the machine does: it
// sends a datagram every few milliseconds over a link of its own, without delay, which the same
// emulator runs, and looks when it arrives.
type clock struct {
	from, into *net.UDPConn
	ended      sync.WaitGroup

	mu    sync.Mutex
	holds []hold
}

// hold is a time in which the lab stalled.
type hold struct{ from, to time.Time }

const (
	clockEvery = 5 * time.Millisecond
	// heldUp is the least that counts.
	heldUp = 10 * time.Millisecond
)

var clockLink = lab.LinkSpec{Name: "clock", A: "ticking", B: "hearing", Engine: lab.Emulator}

func startClock(ctx context.Context, l *lab.Lab) (*clock, error) {
	c := &clock{}
	link := l.Link(clockLink.Name)
	err := l.Place("hearing").Do(func() (err error) {
		c.into, err = net.ListenUDP("udp4", &net.UDPAddr{IP: link.AddrB.Addr().AsSlice()})
		return err
	})
	if err == nil {
		err = l.Place("ticking").Do(func() (err error) {
			c.from, err = net.DialUDP("udp4", nil, c.into.LocalAddr().(*net.UDPAddr))
			return err
		})
	}
	if err != nil {
		c.stop()
		return nil, fmt.Errorf("clock: %w", err)
	}
	c.ended.Go(func() { c.tick(ctx) })
	c.ended.Go(c.hear)
	return c, nil
}

func (c *clock) stop() {
	for _, u := range []*net.UDPConn{c.from, c.into} {
		if u != nil {
			u.Close()
		}
	}
	c.ended.Wait()
}

// tick sends the time. Where it comes late itself, this process was held up.
func (c *clock) tick(ctx context.Context) {
	tick := time.NewTicker(clockEvery)
	defer tick.Stop()
	last := time.Now()
	var b [8]byte
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		c.note(last.Add(clockEvery), now)
		last = now
		binary.NativeEndian.PutUint64(b[:], uint64(now.UnixNano()))
		if _, err := c.from.Write(b[:]); err != nil {
			return
		}
	}
}

func (c *clock) hear() {
	var b [8]byte
	for {
		n, err := c.into.Read(b[:])
		if err != nil {
			return
		}
		if n == len(b) {
			c.note(time.Unix(0, int64(binary.NativeEndian.Uint64(b[:]))), time.Now())
		}
	}
}

func (c *clock) note(due, was time.Time) {
	if was.Sub(due) < heldUp {
		return
	}
	c.mu.Lock()
	c.holds = append(c.holds, hold{due, was})
	c.mu.Unlock()
}

// heldUp says whether the lab stalled between two times.
func (c *clock) heldUp(from, to time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.holds {
		if h.from.Before(to) && h.to.After(from) {
			return true
		}
	}
	return false
}
