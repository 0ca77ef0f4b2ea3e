package filter

import (
	"net/netip"

	"mpgate/proxy/template"
)

// AppendKey appends bytes that tell apart those whom a template names. An IPv6 client is named by
// its /64, of which a client has all addresses. Values that only read the same together are another
// key.
func (r *Request) AppendKey(dst []byte, t *template.Template) []byte {
	parts := t.Parts()
	for i := range parts {
		p := &parts[i]
		switch p.Kind {
		case template.Literal: // the same in every key
		case template.Client:
			dst = appendNetwork(dst, ClientNetwork(r.Record.Client))
		default:
			from := len(dst)
			dst = dropControls(r.appendVariable(dst, p), from)
			dst = append(dst, 0) // in no value
		}
	}
	return dst
}

// appendNetwork appends the length and the bytes of an address.
func appendNetwork(dst []byte, a netip.Addr) []byte {
	if !a.IsValid() {
		return append(dst, 0)
	}
	b := a.As16()
	return append(append(dst, byte(len(b))), b[:]...)
}

// ClientNetwork returns the address, or the first one of the /64 of an IPv6 client. All hosts of a
// link share the /64 of link-local addresses, so each of those is by itself.
func ClientNetwork(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.Is4() || !a.IsValid() || a.IsLinkLocalUnicast() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}
