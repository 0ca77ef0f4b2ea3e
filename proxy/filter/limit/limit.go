package limit

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/proxy/template"
	"mpgate/telemetry"
)

// Options describe a Limit. A limit of 0 is none.
type Options struct {
	Body     int64 // bytes of a request's body
	Rate     Rate  // for each key
	Burst    int   // requests of a key at once; Rate.Events by default
	PerKey   int   // requests of a key at the same time
	Requests int   // requests at the same time
	// Key tells apart those whom Rate and PerKey count; the client by default. It can only use what
	// is known before the request is answered.
	Key template.Template
	// DryRun: requests beyond the limits are counted and noted in the record, and served.
	DryRun bool
	Policy string // the name of the rate in the fields for clients; "limit"
	Memory *Memory
	Meter  *telemetry.LimitMeter
}

// Limit is the filter.
type Limit struct {
	body     int64
	rate     *rate
	perKey   *perKey
	inAll    *inAll
	key      template.Template
	dryRun   bool
	meter    *telemetry.LimitMeter
	tooLarge *filter.BodyError
	note     string
}

// New makes a filter.
func New(o Options) *Limit {
	l := &Limit{body: o.Body, key: o.Key, dryRun: o.DryRun, meter: o.Meter}
	if o.Key.String() == "" {
		l.key, _ = template.Parse("{client}")
	}
	if o.Burst == 0 {
		o.Burst = o.Rate.Events
	}
	if o.Policy == "" {
		o.Policy = "limit"
	}
	if o.Rate.Events > 0 {
		l.rate = newRate(o.Rate, o.Burst, o.Policy, o.Memory)
	}
	if o.PerKey > 0 {
		l.perKey = &perKey{newTable(o.Memory, nil), int64(o.PerKey)}
	}
	if o.Requests > 0 {
		l.inAll = &inAll{most: int64(o.Requests)}
	}
	l.tooLarge = &filter.BodyError{Answer: tooLarge}
	l.note = describe(&o)
	return l
}

// Name implements filter.Filter.
func (*Limit) Name() string { return "limit" }

// The answers to requests beyond a limit.
var (
	tooLarge   = filter.Answer{Status: 413, End: telemetry.EndLimited, Text: "the request body is too large for this route"}
	tooFast    = filter.Answer{Status: 429, End: telemetry.EndLimited, Text: "too many requests in a short time"}
	tooManyOf  = filter.Answer{Status: 429, End: telemetry.EndLimited, Text: "too many requests at the same time"}
	tooManyAll = filter.Answer{Status: 503, End: telemetry.EndLimited, Text: "this route serves as many requests as it may"}
)

// admitted is what a request holds while it is served.
type admitted struct {
	body
	key           uint64
	byKey, shared bool // counted for its key; together with others
	inAll         bool
}

var pool = sync.Pool{New: func() any { return new(admitted) }}

// FilterRequest implements filter.RequestFilter.
func (l *Limit) FilterRequest(r *filter.Request) (done bool) {
	if r.Explain != nil {
		return l.explain(r)
	}
	if l.body > 0 && r.ContentLength > l.body && l.exceeded(r, telemetry.LimitBody) {
		return r.End(tooLarge)
	}
	var text [128]byte
	key := text[:0]
	if l.rate != nil || l.perKey != nil {
		key = r.AppendKey(key, &l.key)
	}
	if l.rate != nil && !l.admitRate(r, key) {
		return r.End(tooFast)
	}
	if l.perKey == nil && l.inAll == nil {
		return false
	}
	a := l.admitted(r)
	if l.perKey != nil && !l.admitKey(r, a, key) {
		return l.busy(r, tooManyOf)
	}
	if l.inAll != nil {
		a.inAll = l.inAll.enter()
		if !a.inAll && l.exceeded(r, telemetry.LimitRequests) {
			return l.busy(r, tooManyAll)
		}
	}
	return false
}

// admitted returns what the request holds.
func (l *Limit) admitted(r *filter.Request) *admitted {
	if a, ok := r.Kept(l).(*admitted); ok {
		return a
	}
	a := pool.Get().(*admitted)
	r.Keep(l, a)
	return a
}

// exceeded notes a request beyond a limit, and reports whether it is refused.
func (l *Limit) exceeded(r *filter.Request, which telemetry.Limit) bool {
	l.meter.Exceeded(which, l.dryRun)
	if l.dryRun && r.Record.DryRun == "" {
		r.Record.DryRun = which.String()
	}
	return !l.dryRun
}

var (
	rateLimit       = []byte("RateLimit")
	rateLimitPolicy = []byte("RateLimit-Policy")
	oneSecond       = []byte("1")
)

// admitRate tells the client of its bucket (draft-ietf-httpapi-ratelimit-headers-11).
func (l *Limit) admitRate(r *filter.Request, key []byte) (ok bool) {
	s, ok := l.rate.take(l.rate.hash(key), time.Now())
	if s.shared {
		l.meter.Shared()
	}
	ok = ok || !l.exceeded(r, telemetry.LimitRate)
	if l.dryRun {
		return ok
	}
	var text [96]byte
	r.Fields.AddName(rateLimitPolicy, l.rate.policy)
	r.Fields.AddName(rateLimit, l.rate.appendState(text[:0], s))
	if !ok {
		r.Fields.Add(message.RetryAfter, strconv.AppendInt(text[:0], seconds(int64(s.wait)), 10))
	}
	return ok
}

func (l *Limit) admitKey(r *filter.Request, a *admitted, key []byte) (ok bool) {
	a.key = l.perKey.hash(key)
	a.byKey, a.shared = l.perKey.enter(a.key)
	if a.shared {
		l.meter.Shared()
	}
	return a.byKey || !l.exceeded(r, telemetry.LimitPerKey)
}

// busy refuses a request that may be accepted once another has ended.
func (l *Limit) busy(r *filter.Request, a filter.Answer) (done bool) {
	r.Fields.Add(message.RetryAfter, oneSecond)
	return r.End(a)
}

// FilterRequestBody implements filter.RequestBodyFilter. The codec sees to it that a body is not
// longer than declared. What follows a change of protocols is no body.
func (l *Limit) FilterRequestBody(r *filter.Request, src message.BodyReader) message.BodyReader {
	if l.body == 0 || r.ContentLength != message.Unknown || r.Upgrade != nil {
		return src
	}
	a := l.admitted(r)
	a.body = body{src: src, limit: l, r: r, left: l.body}
	return &a.body
}

// FilterEnd implements filter.EndFilter.
func (l *Limit) FilterEnd(r *filter.Request) {
	a, ok := r.Kept(l).(*admitted)
	if !ok {
		return
	}
	if a.byKey {
		l.perKey.leave(a.key, a.shared)
	}
	if a.inAll {
		l.inAll.leave()
	}
	*a = admitted{}
	pool.Put(a)
}

// Release gives back what the filter holds in the metrics and of the memory. Requests may still
// come.
func (l *Limit) Release() {
	if l.rate != nil {
		l.rate.release()
	}
	if l.perKey != nil {
		l.perKey.release()
	}
	l.meter.Release()
}

// explain says what limits the request.
func (l *Limit) explain(r *filter.Request) (done bool) {
	r.Explain(l.note)
	return l.body > 0 && r.ContentLength > l.body && !l.dryRun && r.End(tooLarge)
}

// describe says what a limit accepts.
func describe(o *Options) string {
	var parts []string
	key := o.Key.String()
	if key == "" {
		key = "{client}"
	}
	if o.Body > 0 {
		parts = append(parts, "bodies of up to "+size(o.Body))
	}
	if o.Rate.Events > 0 {
		parts = append(parts, fmt.Sprintf("%d requests in %s for each %s, %d of them at once", o.Rate.Events, period(o.Rate.Per), key, o.Burst))
	}
	if o.PerKey > 0 {
		parts = append(parts, fmt.Sprintf("%d at the same time for each %s", o.PerKey, key))
	}
	if o.Requests > 0 {
		parts = append(parts, fmt.Sprintf("%d at the same time in all", o.Requests))
	}
	note := "limit accepts " + strings.Join(parts, ", ")
	if o.DryRun {
		note += "; dry_run: what exceeds that is served"
	}
	return note
}

// size is a number of bytes in the largest unit of which it is a multiple.
func size(n int64) string {
	for _, u := range []struct {
		name  string
		bytes int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + " " + u.name
		}
	}
	return strconv.FormatInt(n, 10) + " bytes"
}

func period(d time.Duration) string {
	switch d {
	case time.Second:
		return "a second"
	case time.Minute:
		return "a minute"
	case time.Hour:
		return "an hour"
	}
	return d.String()
}
