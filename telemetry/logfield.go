package telemetry

import (
	"fmt"
	"strings"
)

// LogField is a field that the configuration adds to the access log: a header field of the request
// as it was received, or of the response as it is sent.
type LogField struct {
	Name     string // in the log, and in the configuration
	Header   string
	Response bool
}

// String is the name.
func (f LogField) String() string { return f.Name }

// The fields that have a name of their own.
var (
	fieldUserAgent = LogField{Name: "user_agent", Header: "User-Agent"}
	fieldReferer   = LogField{Name: "referer", Header: "Referer"}
)

const (
	requestPrefix  = "header."
	responsePrefix = "response_header."
)

// secrets are the header fields whose values never stand in a log, in lower case.
var secrets = map[string]bool{"authorization": true, "proxy-authorization": true, "cookie": true, "set-cookie": true}

// maxLogField bounds the length of a header field's name in the log, in bytes.
const maxLogField = 64

// ParseLogField parses the name of a field: user_agent, referer, header.NAME or
// response_header.NAME. The error has the form "what is wrong; what would be right".
func ParseLogField(s string) (LogField, error) {
	f := LogField{Name: s}
	switch s {
	case fieldUserAgent.Name:
		return fieldUserAgent, nil
	case fieldReferer.Name:
		return fieldReferer, nil
	}
	var ok bool
	if f.Header, ok = strings.CutPrefix(s, requestPrefix); !ok {
		if f.Header, f.Response = strings.CutPrefix(s, responsePrefix); !f.Response {
			return LogField{}, fmt.Errorf("is not a field that can be added; must be user_agent, referer, header.NAME or response_header.NAME")
		}
	}
	switch {
	case !isFieldName(f.Header):
		return LogField{}, fmt.Errorf(`names no header field; must be for example "header.X-Name"`)
	case len(f.Header) > maxLogField:
		return LogField{}, fmt.Errorf("is too long; the name of the header field must have at most %d bytes", maxLogField)
	case secrets[strings.ToLower(f.Header)]:
		return LogField{}, fmt.Errorf("is a secret of clients, which must not stand in a log; leave it out")
	}
	return f, nil
}

// isFieldName reports whether s is made of letters, digits, "-" and "_".
func isFieldName(s string) bool {
	for _, c := range []byte(s) {
		if lower := lower(c); !('a' <= lower && lower <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return s != ""
}

// loggedHeader is the value of a header field of an exchange.
type loggedHeader struct {
	name     string
	response bool
	value    []byte
}

// AddHeader notes a header field that the access log wants. A name that is added several times has
// several values.
func (r *Record) AddHeader(name string, response bool, value []byte) {
	r.headers = append(r.headers, loggedHeader{name, response, value})
}

// ResetHeaders forgets the header fields of the request or of the response.
func (r *Record) ResetHeaders(response bool) {
	kept := r.headers[:0]
	for _, h := range r.headers {
		if h.response != response {
			kept = append(kept, h)
		}
	}
	r.headers = kept
}

// maxLogValue bounds the value of a header field in a line, in bytes before it is escaped.
const maxLogValue = 2 << 10

// appendHeader appends the values of a header field, joined by commas. The function put escapes
// them.
func (r *Record) appendHeader(b []byte, name string, response bool, put func(b, value []byte) []byte) []byte {
	room, found := maxLogValue, false
	for i := range r.headers {
		h := &r.headers[i]
		if h.name != name || h.response != response {
			continue
		}
		if found {
			b = append(b, ", "...)
		}
		value := h.value[:min(room, len(h.value))]
		b, found = put(b, value), true
		if room -= len(value); room == 0 {
			break
		}
	}
	return b
}

// headerField is the field of the log for f.
func headerField(f LogField, redact []string) field {
	put := appendEscaped[[]byte]
	if f.Header == fieldReferer.Header { // a path with a query like that of a request
		put = func(b, value []byte) []byte { return appendPath(b, value, redact) }
	}
	return field{name: f.Name, append: func(b []byte, r *Record) []byte {
		return r.appendHeader(b, f.Header, f.Response, put)
	}}
}

// headersOf are the names of the header fields of requests, or of responses.
func headersOf(fields []LogField, response bool) (names []string) {
	for _, f := range fields {
		if f.Response == response {
			names = append(names, f.Header)
		}
	}
	return names
}
