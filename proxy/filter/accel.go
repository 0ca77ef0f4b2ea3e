package filter

import (
	"bytes"
	"errors"

	"mpgate/proxy/message"
	"mpgate/proxy/target"
)

// Accel is for routes whose servers may continue an exchange with X-Accel-Redirect. Package proxy
// follows the field. The filter keeps its fields between the gateway and the servers: clients
// neither get them nor tell a server how to make them, as Rack::Sendfile would have it
// (CVE-2025-61780).
type Accel struct{}

const accelPrefix, sendfileType = "X-Accel-", "X-Sendfile-Type"

// Name implements Filter.
func (Accel) Name() string { return "accel_redirect" }

// FilterRequest implements RequestFilter.
func (Accel) FilterRequest(r *Request) (done bool) {
	removeAsked(&r.Header)
	if r.Explain != nil {
		r.Explain("accel_redirect: an X-Accel-Redirect of the server is followed to an internal route")
	}
	return false
}

// FilterTrailer implements TrailerFilter.
func (Accel) FilterTrailer(trailer *message.Header) { removeAsked(trailer) }

// removeAsked removes the fields by which a proxy says how it wants to be answered, also if their
// names have _ or . for -: servers that hand fields to programs as variables cannot tell these
// apart.
func removeAsked(h *message.Header) {
	for i := range h.Len() {
		id, name, _, ok := h.At(i)
		if ok && id == message.Other && (beginsLike(name, accelPrefix) || len(name) == len(sendfileType) && beginsLike(name, sendfileType)) {
			h.DelAt(i)
		}
	}
}

// beginsLike reports whether a name begins with a text, without regard to case and separators.
func beginsLike(name []byte, text string) bool {
	if len(name) < len(text) {
		return false
	}
	for i := range len(text) {
		switch c := name[i]; {
		case text[i] == '-':
			if '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z' {
				return false
			}
		case c|0x20 != text[i]|0x20:
			return false
		}
	}
	return true
}

// FilterResponse implements ResponseFilter.
func (Accel) FilterResponse(_ *Request, resp *message.Response) { RemoveAccel(&resp.Header) }

// RemoveAccel removes all X-Accel- fields.
func RemoveAccel(h *message.Header) {
	for i := range h.Len() {
		if id, name, _, ok := h.At(i); ok && id == message.Other && isAccel(name) {
			h.DelAt(i)
		}
	}
}

func isAccel(name []byte) bool {
	return len(name) >= len(accelPrefix) && message.EqualFold(name[:len(accelPrefix)], accelPrefix)
}

// AccelRedirect returns the X-Accel-Redirect of a response, nil if there is none. Of several ones
// it is the first, and only is false.
func AccelRedirect(h *message.Header) (to []byte, only bool) {
	for i := range h.Len() {
		id, name, value, ok := h.At(i)
		if !ok || id != message.Other || !message.EqualFold(name, "X-Accel-Redirect") {
			continue
		}
		if to != nil {
			return to, false
		}
		to = value[:len(value):len(value)]
	}
	return to, true
}

// SetAccelTarget makes the path and the query of an X-Accel-Redirect those of the request. The path
// may have spaces, which are percent-encoded. One with dot segments is refused: the server may have
// made it of the name of a file that a client has chosen.
func (r *Request) SetAccelTarget(to []byte) error {
	path, query, hasQuery := bytes.Cut(to, []byte("?"))
	if hasDots(path) {
		return errors.New("the path has a dot segment or an encoded dot")
	}
	begin := len(r.Scratch)
	for _, c := range path {
		if c == ' ' {
			r.Scratch = append(r.Scratch, "%20"...)
		} else {
			r.Scratch = append(r.Scratch, c)
		}
	}
	path, flags, err := target.Path(r.Scratch[begin:len(r.Scratch):len(r.Scratch)], &r.Scratch)
	if err != nil {
		return err
	}
	begin = len(r.Scratch)
	r.Scratch = append(r.Scratch, query...)
	if query, err = target.Query(r.Scratch[begin:len(r.Scratch):len(r.Scratch)], &r.Scratch); err != nil {
		return err
	}
	r.Path, r.RawPath, r.Query, r.HasQuery = path, nil, query, hasQuery
	r.EncodedSlash = flags&target.EncodedSlash != 0
	r.Ambiguous = flags&^target.RepeatedSlash != 0
	return nil
}

// Passage is what the filters of one route know about an exchange. After an internal redirect there
// are two routes.
type Passage struct {
	matched    Target
	match      Match
	entered    int
	groups     []int
	grouped    bool
	addedSlash bool
	replaced   prefixes
	origin     origin
}

// Swap exchanges what r knows for p. With the zero value r is as before the first filter.
func (r *Request) Swap(p *Passage) {
	now := Passage{r.Matched, r.Match, r.entered, r.groups, r.grouped, r.AddedSlash, r.replaced, r.origin}
	r.Matched, r.Match, r.entered, r.groups, r.grouped = p.matched, p.match, p.entered, p.groups, p.grouped
	r.AddedSlash, r.replaced, r.origin = p.addedSlash, p.replaced, p.origin
	*p = now
}
