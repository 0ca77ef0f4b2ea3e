package filter

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"mpgate/proxy/message"
	"mpgate/proxy/target"
	"mpgate/proxy/template"
	"mpgate/telemetry"
)

// FieldEdit is what is done with the header fields of one name.
type FieldEdit struct {
	Name string
	// Add keeps the fields there are. Otherwise Values replace them.
	Add bool
	// Values are one field each. One whose text is empty makes no field.
	Values []template.Template
}

// edit is a FieldEdit, compiled.
type edit struct {
	FieldEdit
	name  []byte
	known message.ID
}

// compileEdits orders edits: by name, replacements before additions.
func compileEdits(list []FieldEdit) []edit {
	edits := make([]edit, len(list))
	for i, e := range list {
		edits[i] = edit{e, []byte(e.Name), message.Lookup([]byte(e.Name))}
	}
	slices.SortStableFunc(edits, func(a, b edit) int {
		return cmp.Or(strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)), compareBool(a.Add, b.Add))
	})
	return edits
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// applyEdits edits a header. All values are those before the first edit.
func applyEdits(edits []edit, r *Request, h *message.Header) {
	r.scratch, r.ends = r.scratch[:0], r.ends[:0]
	for i := range edits {
		for j := range edits[i].Values {
			from := len(r.scratch)
			r.scratch = r.Append(r.scratch, &edits[i].Values[j])
			r.scratch = trimFrom(r.scratch, from)
			r.ends = append(r.ends, len(r.scratch))
		}
	}
	from, n := 0, 0
	for i := range edits {
		e := &edits[i]
		if !e.Add {
			e.remove(h)
		}
		for range e.Values {
			to := r.ends[n]
			if to > from {
				h.AddName(e.name, r.scratch[from:to])
			}
			from, n = to, n+1
		}
	}
}

func (e *edit) remove(h *message.Header) {
	if e.known != message.Other {
		h.Del(e.known)
	} else {
		h.DelName(e.name)
	}
}

// trimFrom removes white space at both ends of b[from:], which no field value may have (RFC 9110
// section 5.5).
func trimFrom(b []byte, from int) []byte {
	for len(b) > from && b[len(b)-1] == ' ' {
		b = b[:len(b)-1]
	}
	first := from
	for first < len(b) && b[first] == ' ' {
		first++
	}
	return append(b[:from], b[first:]...)
}

// RequestHeaders edits the header of requests. It comes after the gateway's own fields are set
// (X-Forwarded-For and others), and can replace them.
type RequestHeaders struct {
	edits      []edit
	host       *template.Template // nil: Host stays
	serverHost bool               // Host is that of the server
}

// NewRequestHeaders makes a RequestHeaders. An edit of Host has one value, which sets the
// authority.
func NewRequestHeaders(list []FieldEdit) (*RequestHeaders, error) {
	f := &RequestHeaders{}
	var rest []FieldEdit
	for _, e := range list {
		if !strings.EqualFold(e.Name, "Host") {
			rest = append(rest, e)
			continue
		}
		if e.Add || len(e.Values) != 1 {
			return nil, errors.New("has several values of Host; a request has exactly one")
		}
		f.host = &e.Values[0]
		f.serverHost = f.host.String() == "{server_host}"
	}
	f.edits = compileEdits(rest)
	return f, nil
}

// Name implements Filter.
func (*RequestHeaders) Name() string { return "request_headers" }

// FilterRequest implements RequestFilter.
func (f *RequestHeaders) FilterRequest(r *Request) (done bool) {
	if f.host != nil && !f.setHost(r) {
		return r.End(Answer{Status: 400, End: telemetry.EndBadRequest, Text: "the request gives no valid host for the server"})
	}
	applyEdits(f.edits, r, &r.Header)
	if r.Explain != nil {
		f.explain(r)
	}
	return false
}

// explain says what the fields are now.
func (f *RequestHeaders) explain(r *Request) {
	switch {
	case f.serverHost:
		r.Explain("request_headers: Host is that of the server")
	case f.host != nil:
		r.Explain(fmt.Sprintf("request_headers: Host is %s", r.Host))
	}
	for i := range f.edits {
		e := &f.edits[i]
		if values := r.appendHeader(nil, e.Name); len(values) > 0 {
			r.Explain(fmt.Sprintf("request_headers: %s is %s", e.Name, values))
		} else {
			r.Explain("request_headers: " + e.Name + " is not sent")
		}
	}
}

// setHost reports whether the new authority is valid.
func (f *RequestHeaders) setHost(r *Request) (ok bool) {
	// the server is selected later; a request without a host gets that of the server
	if f.serverHost {
		r.Host, r.Port = nil, nil
		return true
	}
	from := len(r.Scratch)
	r.Scratch = r.Append(r.Scratch, f.host)
	host, port, err := target.Host(r.Scratch[from:], &r.Scratch)
	if err != nil {
		return false
	}
	r.Host, r.Port = host, port
	return true
}

// FilterTrailer implements TrailerFilter: what is replaced in the header cannot come in the
// trailer, which some servers join with it.
func (f *RequestHeaders) FilterTrailer(trailer *message.Header) {
	for i := range f.edits {
		if !f.edits[i].Add {
			f.edits[i].remove(trailer)
		}
	}
}

// ResponseHeaders edits the header of all final responses, those of the gateway itself included.
type ResponseHeaders struct{ edits []edit }

// NewResponseHeaders makes a ResponseHeaders.
func NewResponseHeaders(list []FieldEdit) *ResponseHeaders {
	return &ResponseHeaders{compileEdits(list)}
}

// Name implements Filter.
func (*ResponseHeaders) Name() string { return "response_headers" }

// FilterResponse implements ResponseFilter.
func (f *ResponseHeaders) FilterResponse(r *Request, resp *message.Response) {
	applyEdits(f.edits, r, &resp.Header)
}
