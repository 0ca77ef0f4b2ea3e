package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Hedge says when a request is sent a second time while the first copy has no answer.
type Hedge struct {
	After  HedgeAfter `toml:"after" default:"p95" help:"Wait for an answer before a second copy is sent: a percentile of the recent waits, or a time."`
	Budget Percent    `toml:"budget" default:"5%" min:"0.1%" max:"50%" help:"Most second copies, as a share of the requests."`
}

// HedgeAfter is how long a request waits for its answer: Time, or if that is 0, as long as Percent
// of the requests take at most.
type HedgeAfter struct {
	Time    time.Duration
	Percent int
}

// minHedgePercent and maxHedgePercent bound HedgeAfter.Percent.
const (
	minHedgePercent = 50
	maxHedgePercent = 99
)

// String is "200ms" or "p95".
func (a HedgeAfter) String() string {
	if a.Time > 0 {
		return duration(a.Time)
	}
	return "p" + strconv.Itoa(a.Percent)
}

var hedgeAfters = withPattern(of(hedgeAfter, HedgeAfter.String), `^(p[5-9][0-9]|(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$`)

func hedgeAfter(s, _ string) (a HedgeAfter, problem string) {
	if digits, ok := strings.CutPrefix(s, "p"); ok && allDigits(digits) {
		n, err := strconv.Atoi(digits)
		if err != nil || n < minHedgePercent || n > maxHedgePercent || len(digits) > 2 {
			return a, fmt.Sprintf("is out of range; must be from p%d to p%d", minHedgePercent, maxHedgePercent)
		}
		return HedgeAfter{Percent: n}, ""
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return a, `is neither a percentile nor a duration; write for example "p95" or "200ms"`
	case d < time.Millisecond:
		return a, "is too short; must be at least 1ms"
	}
	return HedgeAfter{Time: d}, ""
}

// checkHedge reports a wait that is never over. n is the table of the backend.
func (l *loader) checkHedge(b *Backend, n *node) {
	if h := b.Hedge; h != nil && h.After.Time >= b.ResponseTimeout {
		after := n.get("hedge").get("after")
		l.fault(after.at, "is not shorter than response_timeout, which is %s%s", duration(b.ResponseTimeout), after.got())
	}
}
