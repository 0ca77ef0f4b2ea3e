package backend

import "time"

// Cause is a set of reasons for which a request is sent again.
type Cause uint16

const (
	OnConnect Cause = 1 << iota // the server could not be reached; nothing was sent
	OnReset                     // the connection ended before a byte of a response
	OnTimeout                   // no response within Retry.TryTimeout
	On429                       // a response with this status
	On500
	On502
	On503
	On504
)

// causeOfStatus are the causes that are statuses.
var causeOfStatus = map[int]Cause{429: On429, 500: On500, 502: On502, 503: On503, 504: On504}

const onStatus = On429 | On500 | On502 | On503 | On504

// MaxTries is the greatest Retry.Tries.
const MaxTries = 10

// Retry says when a request is sent again. What a server has certainly not processed is sent again
// in any case, and does not count as a try (RFC 9113 section 8.7).
type Retry struct {
	Tries     int   // for one request, from 1 to MaxTries
	On        Cause // 0: for no reason
	AnyMethod bool  // also requests whose methods are not idempotent
	Body      int   // the longest body that is kept to be sent again, in bytes
	// TryTimeout is how long a try may take until the head of the response, if another one may
	// follow; 0: an equal part of the response timeout.
	TryTimeout time.Duration
	// Budget bounds the retries as a share of the requests of the last 10 s, but not below 10 a
	// second. Those after OnConnect are not counted: no server got the request.
	Budget float64
}

// DefaultRetry is the Retry if nothing else is configured.
var DefaultRetry = Retry{Tries: 3, On: OnConnect | OnReset, Body: 64 << 10, Budget: 0.2}

// SetRules sets when the request is sent again; nil: as the backend says. Tries must be valid.
func (a *Attempt) SetRules(r *Retry) {
	if r != nil {
		a.rules = r
	}
}

// Rules returns when the request is sent again.
func (a *Attempt) Rules() *Retry { return a.rules }

// TryTime returns how long a try may take until the head of the response; 0: as long as the
// response timeout allows.
func (a *Attempt) TryTime() time.Duration {
	switch r := a.rules; {
	case r.On&OnTimeout == 0 || r.Tries < 2:
		return 0
	case r.TryTimeout > 0:
		return r.TryTimeout
	default:
		return a.backend.options.ResponseTimeout / time.Duration(r.Tries)
	}
}

// OnStatus returns the cause that a status of a response is, if the request is sent again for it;
// else 0.
func (r *Retry) OnStatus(status int) Cause {
	if r.On&onStatus == 0 {
		return 0
	}
	return causeOfStatus[status] & r.On
}

// AfterSending reports whether a request may be sent again although a server may have got it.
func (r *Retry) AfterSending() bool { return r.Tries > 1 && r.On&^OnConnect != 0 }

// MayRetry reports whether a request may be sent again for a cause, and takes that from the budget.
// After OnReset there must be another server: the request may be why this one has failed.
func (a *Attempt) MayRetry(c Cause) bool {
	a.elsewhere = a.elsewhere || c == OnReset
	return a.spent < a.rules.Tries && (c != OnReset || a.hasOther(time.Now())) && a.MayRepeat(c)
}

// hasOther reports whether there is a server that was not tried and is available, maybe without a
// free place.
func (a *Attempt) hasOther(now time.Time) bool {
	return a.anyEligible(a.backend.list(), now)
}

func (a *Attempt) anyEligible(servers []*Server, now time.Time) bool {
	for _, s := range servers {
		if a.eligible(s, now) {
			return true
		}
	}
	return false
}

// MayRepeat is MayRetry for a request whose connection was an idle one: that the server had closed
// it says little about the server, and the try does not count.
func (a *Attempt) MayRepeat(c Cause) bool {
	b := a.backend
	if a.rules.On&c == 0 || a.rules.Tries < 2 {
		return false
	}
	if !b.budget.take(a.rules.Budget, time.Now()) {
		b.queue.meter.RetryRefused()
		return false
	}
	return true
}
