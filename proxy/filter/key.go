package filter

import (
	"net/netip"

	"mpgate/proxy/template"
)

// AppendKey appends what tells apart those whom a template names. It is Append, but an IPv6 client
// is named by its /64, of which a client has all addresses, and the values are separated: others
// that read the same together are another key.
func (r *Request) AppendKey(dst []byte, t *template.Template) []byte {
	parts := t.Parts()
	for i := range parts {
		p := &parts[i]
		switch p.Kind {
		case template.Literal:
			continue // the same in every key
		case template.Client:
			dst = appendAddr(dst, ClientNetwork(r.Record.Client))
		default:
			from := len(dst)
			dst = dropControls(r.appendVariable(dst, p), from)
		}
		dst = append(dst, 0) // in no value
	}
	return dst
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
