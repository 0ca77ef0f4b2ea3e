package proxy

import (
	"bytes"
	"net/netip"
	"strings"

	"mpgate/proxy/message"
)

// takeForwarded reads the client's address and the request ID that a trusted proxy sends. It runs
// before the route is matched, which may depend on the client.
func (x *exchange) takeForwarded() {
	h := &x.req.Header
	if !h.Has(message.XForwardedFor) && !h.Has(message.XRequestID) || !x.peerTrusted() {
		return
	}
	x.joinForwardedFor(h)
	x.takeID()
}

// setForwarded sets the fields about the origin of the request. Those of a client are kept only if
// it is a trusted proxy. Via is not written, because origins that see it disable compression
// (docs/decisions).
func (x *exchange) setForwarded() {
	h := &x.req.Header
	x.cleanNames(h)
	trusted := x.peerTrusted()
	x.setForwardedFor(h)
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
	if x.client.tls != nil {
		for _, f := range x.client.tls.fields {
			h.AddName([]byte(f.Name), []byte(f.Value))
		}
	}
	if x.rec.GivenID == nil {
		h.Del(message.XRequestID)
		h.Add(message.XRequestID, x.rec.ID[:])
	}
}

// peerTrusted reports whether the peer is a trusted proxy. A peer on a unix socket has no address
// without a PROXY header.
func (x *exchange) peerTrusted() bool {
	if x.view.TrustCertificate && x.client.tls != nil && len(x.client.tls.state.VerifiedChains) > 0 {
		return true
	}
	if peer := x.client.peer.Addr(); peer.IsValid() {
		return x.view.trusts(peer)
	}
	return x.view.TrustUnix
}

const maxGivenID = 128

// takeID keeps the request ID of a trusted proxy, so that it is the same in the logs of both. It
// must be one field of characters that have no special meaning in logs and headers.
func (x *exchange) takeID() {
	h := &x.req.Header
	i := h.Index(message.XRequestID, 0)
	if i < 0 || h.Index(message.XRequestID, i+1) >= 0 {
		return
	}
	_, _, id, _ := h.At(i)
	if len(id) == 0 || len(id) > maxGivenID {
		return
	}
	for _, c := range id {
		if !isAlnum[c] && strings.IndexByte("-_.:+/=", c) < 0 {
			return
		}
	}
	x.rec.GivenID = id
}

// cleanNames removes fields from a request's head or trailer that a server might take for the
// gateway's: names that some servers equate with others, and names that identify the client by its
// certificate.
func (x *exchange) cleanNames(h *message.Header) {
	if !x.route.KeepUnsafeNames {
		x.rec.DroppedFields += dropUnsafe(h)
	}
	for _, name := range x.view.OwnNames {
		h.DelName([]byte(name))
	}
}

// setForwardedFor writes X-Forwarded-For and X-Real-IP.
func (x *exchange) setForwardedFor(h *message.Header) {
	h.Del(message.XForwardedFor)
	h.Del(message.XRealIP)
	peer := x.client.peer.Addr()
	if peer.IsValid() { // a unix socket has no address
		if len(x.forwarded) > 0 {
			x.forwarded = append(x.forwarded, ", "...)
		}
		x.forwarded = append(x.forwarded, x.client.peerText...)
	}
	if len(x.forwarded) > 0 {
		h.Add(message.XForwardedFor, x.forwarded)
	}
	switch {
	case !x.rec.Client.IsValid():
	case x.rec.Client == peer:
		h.Add(message.XRealIP, x.client.peerText)
	default:
		x.scratch = x.rec.Client.AppendTo(x.scratch[:0])
		h.Add(message.XRealIP, x.scratch)
	}
}

// joinForwardedFor joins the X-Forwarded-For fields of a trusted proxy and finds the client in
// them: from right to left, the first address that is not a trusted proxy's. An element that is not
// an address ends the search: what is to the left of it cannot be trusted.
func (x *exchange) joinForwardedFor(h *message.Header) {
	list := x.forwarded[:0]
	for i := h.Index(message.XForwardedFor, 0); i >= 0; i = h.Index(message.XForwardedFor, i+1) {
		_, _, value, _ := h.At(i)
		for first := true; len(value) > 0; {
			element, rest, _ := bytes.Cut(value, comma)
			value = rest
			if len(bytes.Trim(element, " \t")) == 0 {
				continue // empty elements mean nothing (RFC 9110 section 5.6.1.2)
			}
			switch {
			case len(list) == 0:
				element = bytes.TrimLeft(element, " \t")
			case first:
				list = append(list, ", "...)
			default:
				list = append(list, ',')
			}
			list, first = append(list, element...), false
		}
	}
	x.forwarded = list
	for rest, trusted := list, true; len(rest) > 0 && trusted; trusted = x.view.trusts(x.rec.Client) {
		last := rest
		if i := bytes.LastIndexByte(rest, ','); i >= 0 {
			rest, last = rest[:i], rest[i+1:]
		} else {
			rest = nil
		}
		a, ok := parseAddr(bytes.Trim(last, " \t"))
		if !ok {
			return
		}
		x.rec.Client = a
	}
}

var comma = []byte(",")

// parseAddr reads an address, with a port or in brackets as some proxies write it. Only trusted
// proxies send such input.
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

// dropForwarded removes all other X-Forwarded-* fields: frameworks build URLs from X-Forwarded-Port
// and -Prefix.
func dropForwarded(h *message.Header) {
	for i := range h.Len() {
		if id, name, _, ok := h.At(i); ok && id == message.Other && message.IsForwarded(name) {
			h.DelAt(i)
		}
	}
}

// isAlnum marks the letters and digits of ASCII.
var isAlnum = func() (t [256]bool) {
	for _, c := range "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" {
		t[c] = true
	}
	return t
}()

// dropUnsafe removes fields whose names a server may equate with others. CGI and its successors
// replace "-" by "_", and most keep "_" or also replace "."; some (lighttpd) write "_" for every
// byte that is not a letter or a digit. Remote_User and Remote!User would then count as the
// Remote-User that the gateway sets. Only "-" may separate words.
func dropUnsafe(h *message.Header) (n int) {
	for i := range h.Len() {
		id, name, _, ok := h.At(i)
		if id != message.Other || !ok {
			continue
		}
		for _, c := range name {
			if !isAlnum[c] && c != '-' {
				h.DelAt(i)
				n++
				break
			}
		}
	}
	return n
}
