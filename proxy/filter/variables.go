package filter

import (
	"net/netip"

	"mpgate/proxy/message"
	"mpgate/proxy/target"
	"mpgate/proxy/template"
)

// Append appends the text of a template. Values from the client never bring a control character
// into it.
func (r *Request) Append(dst []byte, t *template.Template) []byte {
	parts := t.Parts()
	for i := range parts {
		if parts[i].Kind == template.Literal {
			dst = append(dst, parts[i].Text...)
			continue
		}
		from := len(dst)
		dst = dropControls(r.appendVariable(dst, &parts[i]), from)
	}
	return dst
}

// AppendURL appends the text of a template that is a part of a URL. The values of variables that
// are not parts of the request's own URL are percent-encoded, so that they cannot end the part in
// which they stand.
func (r *Request) AppendURL(dst []byte, t *template.Template) []byte {
	parts := t.Parts()
	for i := range parts {
		if parts[i].Kind == template.Literal {
			dst = append(dst, parts[i].Text...)
			continue
		}
		dst = r.appendURLPart(dst, &parts[i])
	}
	return dst
}

func (r *Request) appendURLPart(dst []byte, p *template.Part) []byte {
	switch p.Kind {
	case template.Scheme, template.Host, template.Port, template.Path, template.Query, template.URI, template.Capture:
		return r.appendVariable(dst, p)
	}
	r.scratch = r.appendVariable(r.scratch[:0], p)
	return target.AppendEscaped(dst, r.scratch)
}

// dropControls removes the control characters of b[from:].
func dropControls(b []byte, from int) []byte {
	n := from
	for _, c := range b[from:] {
		if c >= ' ' && c != 0x7f {
			b[n] = c
			n++
		}
	}
	return b[:n]
}

func (r *Request) appendVariable(dst []byte, p *template.Part) []byte {
	rec := r.Record
	switch p.Kind {
	case template.Host:
		return append(dst, r.Matched.Host...)
	case template.Port:
		return append(dst, r.Matched.Port...)
	case template.Scheme:
		return append(dst, rec.Scheme.String()...)
	case template.Method:
		return append(dst, r.Method...)
	case template.Path:
		return append(dst, r.Matched.Path...)
	case template.Query:
		return append(dst, r.Matched.Query...)
	case template.URI:
		dst = append(dst, r.Matched.Path...)
		if r.Matched.HasQuery {
			dst = append(append(dst, '?'), r.Matched.Query...)
		}
		return dst
	case template.Client:
		return appendAddr(dst, rec.Client)
	case template.ID:
		return append(dst, rec.IDText()...)
	case template.Listener:
		return append(dst, rec.Listener...)
	case template.Route:
		return append(dst, rec.Route...)
	case template.Server:
		return append(dst, rec.Server...)
	case template.ServerHost:
		return append(dst, target.ServerHost(rec.ServerName())...)
	case template.Status:
		return appendStatus(dst, r.Status)
	case template.SNI:
		return append(dst, rec.SNI...)
	case template.ClientTransport:
		if r.Conn != nil {
			dst = append(dst, r.Conn.Transport()...)
		}
		return dst
	case template.ClientPath:
		if r.Conn != nil {
			dst = append(dst, r.Conn.Path()...)
		}
		return dst
	case template.Header:
		return r.appendHeader(dst, p.Text)
	case template.Cookie:
		return append(dst, r.Header.Cookie(p.Text)...)
	case template.Param:
		return target.AppendParam(dst, r.Matched.Query, p.Text)
	case template.Capture:
		return append(dst, r.group(p.Number)...)
	}
	return dst
}

// group is what the group n of the route's path_regex matched.
func (r *Request) group(n int) []byte {
	if r.Match == nil {
		return nil
	}
	if !r.grouped {
		r.groups, r.grouped = r.Match.Groups(), true
	}
	if 2*n+1 >= len(r.groups) || r.groups[2*n] < 0 {
		return nil
	}
	return r.Match.Path()[r.groups[2*n]:r.groups[2*n+1]]
}

func appendAddr(dst []byte, a netip.Addr) []byte {
	if !a.IsValid() {
		return dst
	}
	return a.AppendTo(dst)
}

func appendStatus(dst []byte, status int) []byte {
	if status < 100 || status > 999 {
		return dst
	}
	return append(dst, byte('0'+status/100), byte('0'+status/10%10), byte('0'+status%10))
}

// appendHeader appends the values of a field of the request, joined by commas (RFC 9110 section
// 5.3).
func (r *Request) appendHeader(dst []byte, name string) []byte {
	found := false
	for i := range r.Header.Len() {
		_, n, value, ok := r.Header.At(i)
		if !ok || !message.EqualFold(n, name) {
			continue
		}
		if found {
			dst = append(dst, ", "...)
		}
		dst, found = append(dst, value...), true
	}
	return dst
}
