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

	"mpgate/proxy/message"
	"mpgate/telemetry"
)

// A configuration may forward a request back to the gateway, directly or through other proxies. It
// would circulate until a limit stops it, and use a connection for each pass. So requests carry a
// mark (RFC 8586, CDN-Loop), which other proxies forward; see docs/decisions. A second pass through
// the gateway is not yet a loop: one listener may forward to another of the same process, and a
// server may send requests of its own with the fields that it received. A mark identifies the
// listener, the route and the target of a pass, and a loop is the same mark again.
//
// Connections that are forwarded unparsed carry no mark. A loop is a connection that this process
// has made for the same route, also by way of other routes; or many concurrent connections with the
// same ClientHello, which contains 32 random bytes. Other bytes that return through other proxies
// cannot be told from new ones: the limit of connections ends such a loop.

const (
	processDigits = 8
	markDigits    = processDigits + 16
	// maxPasses limits the passes of a request whose target changes.
	maxPasses = 10
	// maxSameHello is not 1 because some test clients always send the same ClientHello.
	maxSameHello = 32
	// loopReportEvery limits how often a loop is logged, because clients retry.
	loopReportEvery = time.Minute
)

// loops is the state for the detection of loops.
type loops struct {
	seed     maphash.Seed
	process  [processDigits]byte // a random name of this process
	reported atomic.Int64        // when a loop was logged, in ns since 1970

	mu      sync.Mutex               // guards what follows
	hellos  map[uint64]int           // by hash, of the connections that are being passed through
	arrived map[addrPair]*passedConn // the connections that are forwarded unparsed
	dialled map[addrPair]*passedConn // their connections to servers
}

// addrPair identifies a connection: one local port may be used for connections to several
// addresses.
type addrPair struct{ from, to netip.AddrPort }

func newLoops() *loops {
	l := &loops{
		seed: maphash.MakeSeed(), hellos: map[uint64]int{},
		arrived: map[addrPair]*passedConn{}, dialled: map[addrPair]*passedConn{},
	}
	hex.Encode(l.process[:], binary.BigEndian.AppendUint32(nil, rand.Uint32()))
	return l
}

// detectLoop marks the request. It answers one that has returned to this gateway, and returns true.
func (x *exchange) detectLoop() bool {
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
		if x.hasMark(mark[:]) {
			l.report(x, "request loop: a request returned to this gateway and was answered with 508; "+
				"check the addresses of the servers", "host", string(x.req.Host))
			x.answer(errorAnswer(508, telemetry.EndLimit, "the request returned to this gateway"))
			return true
		}
		h.Del(message.CDNLoop)
	}
	x.scratch = append(x.scratch, mark[:]...)
	h.Add(message.CDNLoop, x.scratch)
	return false
}

// hasMark reports whether a request already has this mark, or too many marks of this process. It
// joins the marks in scratch.
func (x *exchange) hasMark(mark []byte) bool {
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

// report logs a loop, at most once per loopReportEvery.
func (l *loops) report(x *exchange, text, key, value string) {
	now, last := time.Now().UnixNano(), l.reported.Load()
	if now-last >= int64(loopReportEvery) && l.reported.CompareAndSwap(last, now) {
		x.proxy.options.Logger.Warn(text, "listener", x.rec.Listener, "route", x.rec.Route, "backend", x.rec.Backend,
			key, value, "id", string(x.rec.IDText()))
	}
}

// passedConn is a connection that is forwarded unparsed.
type passedConn struct {
	loops   *loops
	route   string
	arrived addrPair    // the connection itself
	before  *passedConn // the one whose connection to a server it is; nil: another's
	hello   uint64      // hash; 0: it has no ClientHello
	dialled addrPair    // the connection to the server
}

// pass registers a connection that is to be forwarded. It returns nil if the connection is part of
// a loop. hello is nil for one that has no ClientHello.
func (l *loops) pass(c addrPair, route string, hello []byte) *passedConn {
	p := &passedConn{loops: l, route: route, arrived: c}
	if hello != nil {
		var h maphash.Hash
		h.SetSeed(l.seed)
		_, _ = h.WriteString(route)
		_, _ = h.Write(hello)
		p.hello = max(1, h.Sum64())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.before = l.dialled[c]; p.before.cameBy(route) {
		return nil
	}
	if p.hello != 0 {
		if l.hellos[p.hello] >= maxSameHello {
			return nil
		}
		l.hellos[p.hello]++
	}
	if c != (addrPair{}) {
		l.arrived[c] = p
	}
	return p
}

// cameBy reports whether a connection has come by way of a route.
func (p *passedConn) cameBy(route string) bool {
	for ; p != nil; p = p.before {
		if p.route == route {
			return true
		}
	}
	return false
}

// setServer records the connection to the server, and reports whether it leads to no loop. That
// connection may have been accepted here before, and been forwarded.
func (p *passedConn) setServer(c addrPair) bool {
	if c == (addrPair{}) {
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
		if p.cameBy(next.route) {
			return false
		}
	}
	return true
}

// end is called before the connection to the server is closed.
func (p *passedConn) end() {
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

// addrPairOf returns the addresses of a connection; both are zero for a unix socket.
func addrPairOf(from, to net.Addr) (e addrPair) {
	f, _ := from.(*net.TCPAddr)
	t, _ := to.(*net.TCPAddr)
	if f == nil || t == nil {
		return addrPair{}
	}
	clean := func(a netip.AddrPort) netip.AddrPort {
		return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
	}
	return addrPair{clean(f.AddrPort()), clean(t.AddrPort())}
}
