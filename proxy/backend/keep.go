package backend

import (
	"math/rand/v2"
	"time"
)

// DefaultKeepIdle is the default of Keep.Idle.
const DefaultKeepIdle = 64

// Keep says how long connections to servers are kept for further requests.
type Keep struct {
	// Idle is how many connections to one server stay idle for longer than a moment; 0: 64, less
	// than 0: none, not even for a moment.
	Idle     int
	Requests int           // that a connection carries; 0: no limit
	Age      time.Duration // after which it carries no further request; 0: no limit
}

// usedUp reports whether a connection that has carried n requests carries no further ones.
func (k *Keep) usedUp(n int) bool { return k.Requests > 0 && n >= k.Requests }

// until returns when a connection that was opened at a time carries no further requests; zero: no
// limit. The connections that were opened together do not end together.
func (k *Keep) until(opened time.Time) time.Time {
	if k.Age <= 0 {
		return time.Time{}
	}
	return opened.Add(k.Age - rand.N(k.Age/8+1))
}
