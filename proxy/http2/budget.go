package http2

import "time"

// bucket is a budget for what costs us work and the peer nothing: it starts full, and fills at a
// rate and by what the peer does that is useful. The zero value is no budget; see newBucket.
type bucket struct {
	left, max int
	rate      int // a second
	filled    time.Time
}

func newBucket(most, rate int) bucket {
	return bucket{left: most, max: most, rate: rate, filled: time.Now()}
}

// take spends n and says whether that was available.
func (b *bucket) take(n int) bool {
	if b.left -= n; b.left >= 0 {
		return true
	}
	now := time.Now() // the time is needed only now
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
	// Frames that carry no data: SETTINGS, PING, PRIORITY, empty DATA, unknown ones; and
	// WINDOW_UPDATE.
	controlBudget, controlRate = 2000, 200
	// A DATA frame earns credit for the PINGs of a peer that answers each.
	earnedByData = 4
	// Data earns credit for WINDOW_UPDATEs: as many as a peer sends that announces every 4 KiB for
	// the stream and for the connection, and as much in advance as its windows may hold back.
	bytesAnUpdate = 2 << 10
	updatesSaved  = 64 << 10

	maxContinuations = 64       // frames of one header block
	maxSettings      = 100      // in a frame: each may need a loop over all streams
	usualSettings    = 8        // as many more in a frame count as a further frame
	maxInterim       = 32       // 1xx responses before a final one
	maxControlHeld   = 64 << 10 // bytes of control frames that wait while the peer does not read
)
