package proxy

import (
	"bytes"
	"net/netip"

	"mpgate/proxy/message"
)

// vouch makes the request say only what the gateway knows about where it came from. What a client says
// of others counts only if it is a trusted proxy. Via is not written: origins that see it switch compression
// off (docs/decisions).
func (x *exchange) vouch() {
	h := &x.req.Header
	x.cleanNames(h)
	peer := x.conn.peer.Addr()
	trusted := peer.IsValid() && x.view.trusts(peer)
	x.forwardedFor(h, peer, trusted)
	if !trusted || !h.Has(message.XForwardedProto) {
		h.Del(message.XForwardedProto)
		h.AddString(message.XForwardedProto, x.req.Scheme)
	}
	if !trusted || !h.Has(message.XForwardedHost) {
		h.Del(message.XForwardedHost)
		if len(x.req.Host) > 0 {
			x.scratch = append(x.scratch[:0], x.req.Host...)
			if len(x.req.Port) > 0 {
				x.scratch = append(append(x.scratch, ':'), x.req.Port...)
			}
			h.Add(message.XForwardedHost, x.scratch)
		}
	}
	if !trusted {
		h.Del(message.Forwarded)
		dropForwarded(h)
	}
	if x.conn.tls != nil {
		for _, f := range x.conn.tls.fields {
			h.AddName([]byte(f.Name), []byte(f.Value))
		}
	}
	h.Del(message.XRequestID)
	h.Add(message.XRequestID, x.rec.ID[:])
}

// cleanNames takes fields off a request's head or trailer that a server might take for the gateway's word: names that
// some servers read as others, and those that tell who the client is by its certificate.
func (x *exchange) cleanNames(h *message.Header) {
	if !x.route.KeepUnsafeNames {
		x.rec.DroppedFields += dropUnsafe(h)
	}
	for _, name := range x.view.VouchedNames {
		h.DelName([]byte(name))
	}
}

// forwardedFor writes X-Forwarded-For and X-Real-IP, and finds the client's address: going from right to left,
// the first that is not a trusted proxy's.
func (x *exchange) forwardedFor(h *message.Header, peer netip.Addr, trusted bool) {
	x.scratch = x.scratch[:0]
	if trusted {
		x.scratch, x.rec.Client = x.chain(h, peer)
	}
	h.Del(message.XForwardedFor)
	h.Del(message.XRealIP)
	if !peer.IsValid() { // a unix socket has no address to tell
		return
	}
	if len(x.scratch) > 0 {
		x.scratch = append(x.scratch, ", "...)
	}
	x.scratch = append(x.scratch, x.conn.peerText...)
	h.Add(message.XForwardedFor, x.scratch)
	if x.rec.Client == peer {
		h.Add(message.XRealIP, x.conn.peerText)
		return
	}
	x.scratch = x.rec.Client.AppendTo(x.scratch[:0])
	h.Add(message.XRealIP, x.scratch)
}

// chain joins the X-Forwarded-For fields that a trusted proxy sent, and finds the client in them. An
// element that is no address ends the search: what stands before it is anybody's word.
func (x *exchange) chain(h *message.Header, peer netip.Addr) (list []byte, client netip.Addr) {
	list = x.scratch[:0]
	for i := h.Index(message.XForwardedFor, 0); i >= 0; i = h.Index(message.XForwardedFor, i+1) {
		_, _, value, _ := h.At(i)
		if len(value) == 0 {
			continue
		}
		if len(list) > 0 {
			list = append(list, ", "...)
		}
		list = append(list, value...)
	}
	client = peer
	for rest := list; len(rest) > 0 && x.view.trusts(client); {
		var last []byte
		if i := bytes.LastIndexByte(rest, ','); i >= 0 {
			rest, last = rest[:i], rest[i+1:]
		} else {
			rest, last = nil, rest
		}
		a, ok := parseAddr(bytes.Trim(last, " \t"))
		if !ok {
			break
		}
		client = a
	}
	return list, client
}

// parseAddr reads an address, with a port or in brackets as some proxies write it. It runs only for what trusted
// proxies send.
func parseAddr(b []byte) (netip.Addr, bool) {
	s := string(b)
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap().WithZone(""), true
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	if n := len(s); n > 2 && s[0] == '[' && s[n-1] == ']' {
		if a, err := netip.ParseAddr(s[1 : n-1]); err == nil {
			return a.Unmap().WithZone(""), true
		}
	}
	return netip.Addr{}, false
}

// dropForwarded takes off what else is called X-Forwarded-*: frameworks build URLs of X-Forwarded-Port and -Prefix.
func dropForwarded(h *message.Header) {
	for i := range h.Len() {
		if id, name, _, ok := h.At(i); ok && id == message.Other && message.IsForwarded(name) {
			h.DelAt(i)
		}
	}
}

// dropUnsafe takes off fields whose names a server may read as those of others: CGI and its heirs turn
// "-", "_" and "." into the same character, so that Remote_User would pass for what the gateway vouches for.
func dropUnsafe(h *message.Header) (n int) {
	for i := range h.Len() {
		id, name, _, ok := h.At(i)
		if id != message.Other || !ok {
			continue
		}
		for _, c := range name {
			if c == '_' || c == '.' {
				h.DelAt(i)
				n++
				break
			}
		}
	}
	return n
}
