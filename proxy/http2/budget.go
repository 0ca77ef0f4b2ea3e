package http2

import "time"

// bucket is a budget for what costs us work and the peer nothing: it starts full, fills by rate,
// and by what the peer does that is useful. The zero value is no budget; see newBucket.
type bucket struct {
	left, max int
	rate      int // a second
	filled    time.Time
}

func newBucket(most, rate int) bucket {
	return bucket{left: most, max: most, rate: rate, filled: time.Now()}
}

// take spends n and says whether there was as much.
func (b *bucket) take(n int) bool {
	if b.left -= n; b.left >= 0 {
		return true
	}
	now := time.Now() // only now is it worth to ask for the time
	b.earn(int(min(now.Sub(b.filled), time.Hour).Seconds()*float64(b.rate)), b.max)
	b.filled = now
	return b.left >= 0
}

// earn adds n to what is left, up to a most.
func (b *bucket) earn(n, most int) { b.left = max(b.left, min(most, b.left+n)) }

// What a connection's budgets hold, and gain a second.
const (
	// Streams that the peer resets, or makes us reset, before they are complete. A browser that
	// leaves a page resets all of its streams at once.
	resetBudget, resetRate = 400, 40
	// Frames that carry nothing: SETTINGS, PING, PRIORITY, empty DATA, unknown ones; and
	// WINDOW_UPDATE.
	controlBudget, controlRate = 2000, 200
	// A data frame earns credit for the PINGs of a peer that answers each.
	earnedByData = 4
	// A byte of data does for WINDOW_UPDATEs, as many as a peer sends that tells of every 4 KiB for
	// the stream and the connection; and that for all that it may have held back, which is what its
	// windows are.
	bytesAnUpdate = 2 << 10
	updatesSaved  = 64 << 10

	maxContinuations = 64       // frames of one header block
	maxSettings      = 100      // in a frame: each may be a walk over all streams
	usualSettings    = 8        // as many more in a frame count as a further frame
	maxInterim       = 32       // 1xx responses before a final one
	maxControlHeld   = 64 << 10 // bytes of control frames that wait because the peer does not read
)
