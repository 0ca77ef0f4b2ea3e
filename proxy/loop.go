package proxy

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/maphash"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/telemetry"
)

// A configuration may lead a request back to the gateway, directly or over other proxies, where it
// would go round until a limit stops it, and take a connection for each round. Requests carry a
// mark for that (RFC 8586, CDN-Loop), which other proxies pass on; see docs/decisions. A second
// pass through the gateway is not yet a loop: one listener may forward to another of the same
// process, and a server may send requests of its own with the fields that it got. So a mark says by
// which listener and route a request for which target has passed, and a loop is the same once more.
//
// Connections that are forwarded unopened carry no mark. A loop is one that we ourselves have made
// for the same route, also by way of other routes; or the same ClientHello, which holds 32 random
// bytes, many times at once. Other bytes that come back by way of others cannot be told from new
// ones: the limit of connections ends such a loop.

const (
	processDigits = 8
	markDigits    = processDigits + 16
	// maxPasses bounds the passes of a request whose target changes on its way.
	maxPasses = 10
	// maxSameHello is not 1 because there are clients for tests that always send the same.
	maxSameHello = 32
	// loopReportEvery is how often a loop is logged: the client may be trying again and again.
	loopReportEvery = time.Minute
)

// loops is what a Proxy knows for finding loops.
type loops struct {
	seed     maphash.Seed
	process  [processDigits]byte // a name of this process that says nothing of it to others
	reported atomic.Int64        // when a loop was logged, in ns since 1970

	mu      sync.Mutex        // guards what follows
	hellos  map[uint64]int    // by hash, of the connections that are being passed through
	arrived map[ends]*passing // the connections that are forwarded unopened
	dialled map[ends]*passing // those of them to servers
}

// ends are those of a connection. One port may be used for connections to several places.
type ends struct{ from, to netip.AddrPort }

func newLoops() *loops {
	l := &loops{seed: maphash.MakeSeed(), hellos: map[uint64]int{}, arrived: map[ends]*passing{}, dialled: map[ends]*passing{}}
	hex.Encode(l.process[:], binary.BigEndian.AppendUint32(nil, rand.Uint32()))
	return l
}

// returns marks the request. One that has returned to this gateway is answered.
func (x *exchange) returns() bool {
	l := x.proxy.loops
	b := x.scratch[:0]
	for _, part := range [...]string{x.client.listener.name, x.route.Name} {
		b = append(append(b, part...), 0)
	}
	for _, part := range [...][]byte{x.req.Method, x.req.Host, x.req.Path, x.req.Query} {
		b = append(append(b, part...), 0)
	}
	x.scratch = b
	var sum [8]byte
	var mark [markDigits]byte
	binary.BigEndian.PutUint64(sum[:], maphash.Bytes(l.seed, b))
	copy(mark[:], l.process[:])
	hex.Encode(mark[processDigits:], sum[:])

	h := &x.req.Header
	x.scratch = x.scratch[:0]
	if h.Has(message.CDNLoop) {
		if x.marked(mark[:]) {
			l.report(x.proxy, "request loop: a request returned to this gateway and was answered with 508; check the addresses of the servers",
				"listener", x.rec.Listener, "route", x.route.Name, "backend", x.rec.Backend, "host", string(x.req.Host), "id", string(x.rec.IDText()))
			x.answer(filter.Answer{Status: 508, End: telemetry.EndLimit, Text: "the request returned to this gateway"})
			return true
		}
		h.Del(message.CDNLoop)
	}
	x.scratch = append(x.scratch, mark[:]...)
	h.Add(message.CDNLoop, x.scratch)
	return false
}

// marked reports whether a request that others, or we, have marked has had this mark, or too many
// of ours. The marks are joined in scratch.
func (x *exchange) marked(mark []byte) bool {
	h := &x.req.Header
	passes := 0
	for i := h.Index(message.CDNLoop, 0); i >= 0; i = h.Index(message.CDNLoop, i+1) {
		_, _, value, _ := h.At(i)
		for element := range bytes.SplitSeq(value, comma) {
			id, _, _ := bytes.Cut(element, []byte(";")) // parameters
			id = bytes.Trim(id, " \t")
			if len(id) == markDigits && bytes.Equal(id[:processDigits], mark[:processDigits]) {
				if passes++; passes >= maxPasses || bytes.Equal(id, mark) {
					return true
				}
			}
		}
		if len(value) > 0 {
			x.scratch = append(append(x.scratch, value...), ", "...)
		}
	}
	return false
}

// report logs a loop, now and then.
func (l *loops) report(p *Proxy, text string, attrs ...any) {
	now, last := time.Now().UnixNano(), l.reported.Load()
	if now-last >= int64(loopReportEvery) && l.reported.CompareAndSwap(last, now) {
		p.options.Logger.Warn(text, attrs...)
	}
}

// passing is a connection that is forwarded unopened.
type passing struct {
	loops   *loops
	route   string
	arrived ends     // the connection itself
	before  *passing // the one whose connection to a server it is; nil: another's
	hello   uint64   // hash; 0: it has no ClientHello
	dialled ends     // the connection to the server
}

// pass notes a connection that is to be forwarded; nil: it has come back. It has no ClientHello if
// hello is nil.
func (l *loops) pass(c ends, route string, hello []byte) *passing {
	p := &passing{loops: l, route: route, arrived: c}
	if hello != nil {
		var h maphash.Hash
		h.SetSeed(l.seed)
		_, _ = h.WriteString(route)
		_, _ = h.Write(hello)
		p.hello = max(1, h.Sum64())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.before = l.dialled[c]; p.before.passed(route) {
		return nil
	}
	if p.hello != 0 {
		if l.hellos[p.hello] >= maxSameHello {
			return nil
		}
		l.hellos[p.hello]++
	}
	if c != (ends{}) {
		l.arrived[c] = p
	}
	return p
}

// passed reports whether a connection has come by way of a route.
func (p *passing) passed(route string) bool {
	for ; p != nil; p = p.before {
		if p.route == route {
			return true
		}
	}
	return false
}

// to notes the connection to the server, and reports whether it leads to no loop. It may have
// arrived here before, and been forwarded.
func (p *passing) to(c ends) bool {
	if c == (ends{}) {
		return true
	}
	l := p.loops
	l.mu.Lock()
	defer l.mu.Unlock()
	p.dialled, l.dialled[c] = c, p
	next := l.arrived[c]
	if next == nil {
		return true
	}
	next.before = p
	for ; next != nil; next = l.arrived[next.dialled] {
		if p.passed(next.route) {
			return false
		}
	}
	return true
}

// end is for a connection to the server that is about to be closed.
func (p *passing) end() {
	l := p.loops
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.hello != 0 {
		if l.hellos[p.hello]--; l.hellos[p.hello] == 0 {
			delete(l.hellos, p.hello)
		}
	}
	delete(l.dialled, p.dialled)
	delete(l.arrived, p.arrived)
}

// endsOf are the ends of a connection, both zero of one over a unix socket.
func endsOf(from, to net.Addr) (e ends) {
	f, _ := from.(*net.TCPAddr)
	t, _ := to.(*net.TCPAddr)
	if f == nil || t == nil {
		return ends{}
	}
	clean := func(a netip.AddrPort) netip.AddrPort {
		return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
	}
	return ends{clean(f.AddrPort()), clean(t.AddrPort())}
}
