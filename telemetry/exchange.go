package telemetry

import (
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

type exchangeKey struct {
	listener, route string
	passthrough     bool
}

// ExchangeMeter counts the exchanges of one listener and route. Every Start is followed by exactly
// one End, whatever its outcome.
type ExchangeMeter struct {
	in  *Instruments
	key exchangeKey

	started  atomic.Uint64 // less the sum of ends: in flight
	ends     [endCount]atomic.Uint64
	bytesIn  atomic.Uint64
	bytesOut atomic.Uint64
	dropped  atomic.Uint64
	duration histogram
	methods  [methodCount]atomic.Pointer[codes] // made with the first exchange of that method

	mu      sync.Mutex
	filters map[string]*codes // of exchanges that a filter ended, by its key
}

// Start counts an exchange as in flight.
func (m *ExchangeMeter) Start() {
	if m != nil {
		m.started.Add(1)
	}
}

// End counts a finished exchange by its method, status, end, duration, bytes and dropped fields.
func (m *ExchangeMeter) End(r *Record) {
	if m == nil {
		return
	}
	if !m.key.passthrough {
		m.byMethod(methodOf(r.Method)).inc(r.Status)
		m.duration.observe(r.Duration)
	}
	if r.BytesIn > 0 {
		m.bytesIn.Add(uint64(r.BytesIn))
	}
	if r.BytesOut > 0 {
		m.bytesOut.Add(uint64(r.BytesOut))
	}
	if r.DroppedFields > 0 {
		m.dropped.Add(uint64(r.DroppedFields))
	}
	if r.Filter != "" {
		m.byFilter(r.Filter).inc(r.Status)
	}
	end := r.End
	if end >= endCount {
		end = EndInternal
	}
	m.ends[end].Add(1)
}

// Release ends the use of the handle; see Instruments.Exchange.
func (m *ExchangeMeter) Release() {
	if m != nil {
		m.in.exchanges.release(m.key, m)
	}
}

func (m *ExchangeMeter) used() bool { return m.started.Load() != 0 }

// keep: the meter of a route is created for an exchange, which may be about to start.
func (m *ExchangeMeter) keep() bool { return m.key.route != "" || m.used() }

// InFlight is how many exchanges have started and not ended.
func (m *ExchangeMeter) InFlight() int64 {
	if m == nil {
		return 0
	}
	// The ends first: an exchange that starts and ends between the two reads then counts as
	// running, rather than as a negative number.
	var ended uint64
	for i := range m.ends {
		ended += m.ends[i].Load()
	}
	return int64(m.started.Load() - ended)
}

func (m *ExchangeMeter) byMethod(i method) *codes {
	if c := m.methods[i].Load(); c != nil {
		return c
	}
	m.methods[i].CompareAndSwap(nil, new(codes))
	return m.methods[i].Load()
}

func (m *ExchangeMeter) byFilter(name string) *codes {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.filters[name] == nil {
		if m.filters == nil {
			m.filters = map[string]*codes{}
		}
		m.filters[name] = new(codes)
	}
	return m.filters[name]
}

// endedBy returns the counts of each filter.
func (m *ExchangeMeter) endedBy() map[string]*codes {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.filters)
}

type method uint8

const (
	methodOther method = iota
	methodGET
	methodHEAD
	methodPOST
	methodPUT
	methodDELETE
	methodPATCH
	methodOPTIONS
	methodCONNECT
	methodTRACE
	methodNone // no request line was read
	methodCount
)

var methodNames = [methodCount]string{"other", "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", ""}

// methodOf maps a request method to a label. Methods are case-sensitive (RFC 9110 section 9.1).
func methodOf(m []byte) method {
	switch string(m) {
	case "GET":
		return methodGET
	case "HEAD":
		return methodHEAD
	case "POST":
		return methodPOST
	case "PUT":
		return methodPUT
	case "DELETE":
		return methodDELETE
	case "PATCH":
		return methodPATCH
	case "OPTIONS":
		return methodOPTIONS
	case "CONNECT":
		return methodCONNECT
	case "TRACE":
		return methodTRACE
	case "":
		return methodNone
	}
	return methodOther
}

// codes counts by status code: registered codes in an array; other three-digit codes, which are
// rare, in a map.
type codes struct {
	named [namedCodes]atomic.Uint64

	mu    sync.Mutex
	other map[int]uint64
}

const namedCodes = 80

// codeSlots has the index in codes.named of each registered status code, and 0 for the others.
// Index 1 is code 0: no status.
var codeSlots, slotCodes = func() (slots [600]uint8, code [namedCodes]int) {
	slots[0] = 1
	next := uint8(2)
	for c := 100; c < len(slots); c++ {
		if http.StatusText(c) != "" {
			slots[c], code[next] = next, c
			next++
		}
	}
	return slots, code
}()

func (c *codes) inc(code int) {
	if code >= 0 && code < len(codeSlots) {
		if s := codeSlots[code]; s != 0 {
			c.named[s].Add(1)
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.other == nil {
		c.other = map[int]uint64{}
	}
	if _, ok := c.other[code]; ok || (code >= 100 && code <= 999) {
		c.other[code]++
	}
}

// each calls f for every code that was seen.
func (c *codes) each(f func(code int, n uint64)) {
	for s := 1; s < namedCodes; s++ {
		if n := c.named[s].Load(); n > 0 {
			f(slotCodes[s], n)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for code, n := range c.other {
		f(code, n)
	}
}

// bounds are the histograms' upper bounds.
var bounds = [...]time.Duration{
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute,
}

type histogram struct {
	buckets [len(bounds) + 1]atomic.Uint64 // not cumulative
	sum     atomic.Int64                   // nanoseconds
}

func (h *histogram) observe(d time.Duration) {
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(int64(d))
}

// read returns the count, the sum in seconds and the cumulative buckets.
func (h *histogram) read() (count uint64, sum float64, cumulative map[float64]uint64) {
	cumulative = make(map[float64]uint64, len(bounds))
	for i := range h.buckets {
		count += h.buckets[i].Load()
		if i < len(bounds) {
			cumulative[bounds[i].Seconds()] = count
		}
	}
	return count, time.Duration(h.sum.Load()).Seconds(), cumulative
}
