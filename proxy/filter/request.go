package filter

import (
	"context"
	"net/netip"

	"mpgate/proxy/message"
	"mpgate/proxy/target"
	"mpgate/proxy/template"
	"mpgate/telemetry"
)

// Request is a request on its way, with what the gateway knows about it. It is reused: nothing of
// it may be kept after FilterEnd.
type Request struct {
	// Request is what will be forwarded. Path and Query stay canonical, whatever a filter does.
	*message.Request
	// Record has the names of the listener and the route, the client, and the ID. The client is the
	// one behind trusted proxies; it is not valid for a peer on a unix socket.
	Record *telemetry.Record
	// Matched is the target by which the route was found, before filters changed it.
	Matched Target
	// Match says how the path of the route matched it; nil if nothing is known about that.
	Match Match
	// Fields are added to the response, whoever gives it.
	Fields message.Header
	// Answer is how the exchange ends, if a filter ends it.
	Answer Answer
	// Status is that of the response; 0 before it is known.
	Status int
	// Context ends when the exchange must end.
	Context context.Context
	// Explain, if set, asks for an explanation: nothing is forwarded. A filter that would ask
	// others or count must not do so; it calls Explain with what it would do.
	Explain func(note string)

	entered int // filters of the chain that have seen the request
	kept    []kept
}

// Match is the match of a route's path with the path of a request.
type Match interface {
	// Path is the path that was matched: canonical, with one slash for several in a row.
	Path() []byte
	// Star returns the part Path[from:to] that the last * of the route's path matched: all but the
	// first slash if the route has no path, nothing at the end if its path has no *.
	Star() (from, to int)
	// Groups returns the positions in Path of what the route's path_regex and its groups matched,
	// as regexp.FindSubmatchIndex does; nil if it has none.
	Groups() []int
}

// Target is the target of a request, canonical.
type Target struct {
	Host, Port, Path, Query []byte
	HasQuery                bool
}

// Answer is a response of the gateway's own. Its status, its reason and further fields are visible
// to the client.
type Answer struct {
	Status int
	End    telemetry.End
	// Text says what is wrong, in a few plain words: the body is made of it. A fixed text, as it is
	// logged.
	Text string
	// Body replaces the text if Type, its media type, is not "".
	Body []byte
	Type string
	// Bare means no body at all: the client may not read it.
	Bare bool
}

// kept is a value that a filter keeps for the time of an exchange.
type kept struct {
	owner Filter
	value any
}

// Reset empties r for the next exchange and keeps its memory.
func (r *Request) Reset() {
	r.Fields.Reset()
	clear(r.kept)
	*r = Request{Request: r.Request, Record: r.Record, Fields: r.Fields, kept: r.kept[:0]}
}

// Keep stores a value of f until the end of the exchange. A pointer costs no allocation.
func (r *Request) Keep(f Filter, value any) {
	for i := range r.kept {
		if r.kept[i].owner == f {
			r.kept[i].value = value
			return
		}
	}
	r.kept = append(r.kept, kept{f, value})
}

// Kept returns what f stored; nil if it stored nothing.
func (r *Request) Kept(f Filter) any {
	for i := range r.kept {
		if r.kept[i].owner == f {
			return r.kept[i].value
		}
	}
	return nil
}

// End is how the exchange ends: FilterRequest returns it.
func (r *Request) End(a Answer) (done bool) {
	r.Answer = a
	return true
}

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
		return append(dst, target.ServerHost(rec.Server)...)
	case template.Status:
		return appendStatus(dst, r.Status)
	case template.SNI:
		return append(dst, rec.SNI...)
	case template.ClientTransport:
		return append(dst, rec.ClientTransport...)
	case template.Header:
		return r.appendHeader(dst, p.Text)
	case template.Cookie:
		return append(dst, r.Header.Cookie(p.Text)...)
	case template.Param:
		return target.AppendParam(dst, r.Matched.Query, p.Text)
	}
	return dst
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
