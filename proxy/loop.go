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
// Connections that are passed through carry no mark. A loop is one that we ourselves have
// made, or the same ClientHello, which holds 32 random bytes, many times at once.

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

	mu      sync.Mutex          // guards what follows
	hellos  map[uint64]int      // by hash, of the connections that are being passed through
	dialled map[addrPair]string // those of them to servers, with their route
}

// addrPair are those of a connection. One port may be used for connections to several places.
type addrPair struct{ from, to netip.AddrPort }

func newLoops() *loops {
	l := &loops{seed: maphash.MakeSeed(), hellos: map[uint64]int{}, dialled: map[addrPair]string{}}
	hex.Encode(l.process[:], binary.BigEndian.AppendUint32(nil, rand.Uint32()))
	return l
}

// detectLoop marks the request. One that has returned to this gateway is answered.
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

// hasMark reports whether a request that others, or we, have marked has had this mark, or too many
// of ours. The marks are joined in scratch.
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

// report logs a loop, now and then.
func (l *loops) report(p *Proxy, text string, attrs ...any) {
	now, last := time.Now().UnixNano(), l.reported.Load()
	if now-last >= int64(loopReportEvery) && l.reported.CompareAndSwap(last, now) {
		p.options.Logger.Warn(text, attrs...)
	}
}

// passedConn is a connection that is passed through.
type passedConn struct {
	loops   *loops
	hello   uint64
	dialled addrPair // the connection to the server
}

// pass notes a connection that is to be passed through; nil: it has come back.
func (l *loops) pass(c addrPair, route string, hello []byte) *passedConn {
	var h maphash.Hash
	h.SetSeed(l.seed)
	_, _ = h.WriteString(route)
	_, _ = h.Write(hello)
	p := &passedConn{loops: l, hello: h.Sum64()}
	l.mu.Lock()
	defer l.mu.Unlock()
	if by, ok := l.dialled[c]; ok && by == route || l.hellos[p.hello] >= maxSameHello {
		return nil
	}
	l.hellos[p.hello]++
	return p
}

// setServer notes the connection to the server. Nothing may have been sent on that yet.
func (p *passedConn) setServer(c addrPair, route string) {
	if c == (addrPair{}) {
		return
	}
	p.dialled = c
	p.loops.mu.Lock()
	p.loops.dialled[c] = route
	p.loops.mu.Unlock()
}

// end is for a connection to the server that is about to be closed.
func (p *passedConn) end() {
	l := p.loops
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hellos[p.hello]--; l.hellos[p.hello] == 0 {
		delete(l.hellos, p.hello)
	}
	delete(l.dialled, p.dialled)
}

// addrPairOf are the ends of a connection, both zero of one over a unix socket.
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
