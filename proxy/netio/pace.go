package netio

import (
	"fmt"
	"os"
	"time"
)

// Pace bounds the slowness of a peer without an absolute deadline: in each Window spent waiting for it, it
// must move MinRate bytes a second on average, and at least one. The zero value bounds nothing. Only time
// spent waiting counts, so a slow source does not make its receiver look slow.
type Pace struct {
	Window  time.Duration
	MinRate int64 // bytes a second

	spent time.Duration
	bytes int64
}

// Wait accounts for a wait that brought n bytes, and gives an error that is os.ErrDeadlineExceeded when the
// peer was too slow over a whole window.
func (p *Pace) Wait(waited time.Duration, n int) error {
	if p.Window <= 0 {
		return nil
	}
	p.spent += waited
	p.bytes += int64(n)
	if p.spent < p.Window {
		return nil
	}
	bytes, rate := p.bytes, float64(p.bytes)/p.spent.Seconds()
	p.spent, p.bytes = 0, 0
	if bytes == 0 || rate < float64(p.MinRate) {
		return fmt.Errorf("%.0f bytes a second over %v: %w", rate, p.Window, os.ErrDeadlineExceeded)
	}
	return nil
}
