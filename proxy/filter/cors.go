package filter

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"mpgate/proxy/message"
	"mpgate/proxy/target"
	"mpgate/telemetry"
)

// CORS lets scripts of other origins use the responses of a route (Fetch standard, section 3.2). It
// answers preflights itself and replaces what servers say about it.
type CORS struct {
	every     bool
	exact     map[string]bool // origins
	wildcards []wildcard

	methods, headers, expose, maxAge []byte // values of fields
	everyMethod, everyHeader         bool   // the ones that a preflight asks for
	credentials                      bool
}

// CORSOptions are the options of a CORS.
type CORSOptions struct {
	// Origins are the origins that are let in, such as "https://a.example", with "*." for one label
	// before the name; "*" alone is every origin.
	Origins []string
	// Methods and Headers are what a request may use; "*" alone is all of them. No methods are GET,
	// HEAD and POST.
	Methods, Headers []string
	Expose           []string // fields of responses that scripts may read
	Credentials      bool     // with cookies and Authorization
	MaxAge           time.Duration
}

// origin is the Origin field of a request, as CORS found it.
type origin struct {
	value     []byte
	admitted  bool
	preflight bool
}

// wildcard is an origin with "*." for one label.
type wildcard struct{ before, after string }

// NewCORS makes a CORS. The error has the form "what is wrong; what would be right".
func NewCORS(o CORSOptions) (*CORS, error) {
	f := &CORS{exact: map[string]bool{}, credentials: o.Credentials}
	for _, s := range o.Origins {
		if s == "*" {
			f.every = true
			continue
		}
		canonical, err := ParseOrigin(s)
		if err != nil {
			return nil, err
		}
		if before, after, ok := strings.Cut(canonical, "*"); ok {
			f.wildcards = append(f.wildcards, wildcard{before, after})
		} else {
			f.exact[canonical] = true
		}
	}
	switch {
	case len(o.Origins) == 0:
		return nil, errors.New(`has no origins; must have for example origins = ["https://a.example"]`)
	case f.every && len(o.Origins) > 1:
		return nil, errors.New(`has "*" and other origins; write "*" alone`)
	case f.every && f.credentials:
		return nil, errors.New(`has the origin "*" with credentials: every site could act as its visitors; name the origins`)
	}
	if len(o.Methods) == 0 {
		o.Methods = []string{"GET", "HEAD", "POST"}
	}
	f.everyMethod, f.everyHeader = slices.Contains(o.Methods, "*"), slices.Contains(o.Headers, "*")
	f.methods = []byte(strings.Join(o.Methods, ", "))
	f.headers = []byte(strings.Join(o.Headers, ", "))
	f.expose = []byte(strings.Join(o.Expose, ", "))
	if o.MaxAge > 0 {
		f.maxAge = strconv.AppendInt(nil, int64(o.MaxAge/time.Second), 10)
	}
	return f, nil
}

// ParseOrigin returns an origin as browsers write it: in lower case, without the default port. The
// host may begin with "*." for one label. The error has the form "what is wrong; what would be
// right".
func ParseOrigin(s string) (canonical string, err error) {
	scheme, authority, ok := strings.Cut(s, "://")
	scheme = strings.ToLower(scheme)
	host, isWildcard := strings.CutPrefix(authority, "*.")
	var scratch []byte
	h, port, fault := target.Host([]byte(host), &scratch)
	switch {
	case s == "null":
		return "", errors.New("is the origin of every sandboxed page and local file; name other origins")
	case !ok || scheme != "https" && scheme != "http":
		return "", errors.New(`is not an origin; must be a scheme and a host, for example "https://a.example"`)
	case strings.ContainsAny(authority, "/?#@"):
		return "", errors.New(`has more than a scheme and a host; must be for example "https://a.example", without a slash at the end`)
	case fault != nil || isWildcard && h[0] == '[':
		return "", errors.New(`has no valid host; must be for example "https://a.example", or "https://*.a.example" for one label before it`)
	}
	canonical = scheme + "://"
	if isWildcard {
		canonical += "*."
	}
	canonical += string(h)
	if p := string(port); p != "" && (scheme != "https" || p != "443") && (scheme != "http" || p != "80") {
		canonical += ":" + p
	}
	return canonical, nil
}

// Name implements Filter.
func (*CORS) Name() string { return "cors" }

// FilterRequest implements RequestFilter.
func (f *CORS) FilterRequest(r *Request) (done bool) {
	h := &r.Header
	i := h.Index(message.Origin, 0)
	if i < 0 {
		return false
	}
	_, _, r.origin.value, _ = h.At(i)
	r.origin.admitted = f.admits(r.origin.value) && h.Index(message.Origin, i+1) < 0
	if string(r.Method) != "OPTIONS" || fieldNamed(h, "Access-Control-Request-Method") == nil {
		return false
	}
	r.origin.preflight = true
	return r.End(Answer{Status: 204, End: telemetry.EndOK, Bare: true})
}

// fieldNamed is the value of the first field with a name that is not well known; nil if there is
// none.
func fieldNamed(h *message.Header, name string) []byte {
	for i := range h.Len() {
		if id, n, value, ok := h.At(i); ok && id == message.Other && message.EqualFold(n, name) {
			return value
		}
	}
	return nil
}

func (f *CORS) admits(origin []byte) bool {
	if f.every || f.exact[string(origin)] {
		return true
	}
	for _, w := range f.wildcards {
		if w.match(origin) {
			return true
		}
	}
	return false
}

func (w *wildcard) match(origin []byte) bool {
	n := len(origin) - len(w.before) - len(w.after)
	if n < 1 || string(origin[:len(w.before)]) != w.before || string(origin[len(w.before)+n:]) != w.after {
		return false
	}
	for _, c := range origin[len(w.before) : len(w.before)+n] {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// FilterResponse implements ResponseFilter.
func (f *CORS) FilterResponse(r *Request, resp *message.Response) {
	h := &resp.Header
	for i := range h.Len() {
		if id, name, _, ok := h.At(i); ok && id == message.Other && hasPrefixFold(name, "Access-Control-") {
			h.DelAt(i)
		}
	}
	o := &r.origin
	if o.preflight {
		addVary(h, "Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers")
	} else if !f.every {
		addVary(h, "Origin")
	}
	if !o.admitted {
		return
	}
	if f.every {
		h.AddName([]byte("Access-Control-Allow-Origin"), []byte("*"))
	} else {
		h.AddName([]byte("Access-Control-Allow-Origin"), o.value)
	}
	if f.credentials {
		h.AddName([]byte("Access-Control-Allow-Credentials"), []byte("true"))
	}
	if o.preflight {
		f.allow(r, h)
	} else if len(f.expose) > 0 {
		h.AddName([]byte("Access-Control-Expose-Headers"), f.expose)
	}
}

// allow says in the response to a preflight what the request may use. A list of all is what the
// preflight asks for: "*" would not include Authorization, and means nothing with credentials.
func (f *CORS) allow(r *Request, h *message.Header) {
	methods, headers := f.methods, f.headers
	if f.everyMethod {
		methods = fieldNamed(&r.Header, "Access-Control-Request-Method")
	}
	if f.everyHeader {
		headers = fieldNamed(&r.Header, "Access-Control-Request-Headers")
	}
	h.AddName([]byte("Access-Control-Allow-Methods"), methods)
	if len(headers) > 0 {
		h.AddName([]byte("Access-Control-Allow-Headers"), headers)
	}
	if f.maxAge != nil {
		h.AddName([]byte("Access-Control-Max-Age"), f.maxAge)
	}
}

// addVary says that a response depends on fields of the request.
func addVary(h *message.Header, names ...string) {
	for _, name := range names {
		if !hasVary(h, name) {
			h.AddString(message.Vary, name)
		}
	}
}

func hasVary(h *message.Header, name string) bool {
	for i := h.Index(message.Vary, 0); i >= 0; i = h.Index(message.Vary, i+1) {
		_, _, rest, _ := h.At(i)
		for more := true; more; {
			var element []byte
			element, rest, more = bytes.Cut(rest, []byte(","))
			if element = bytes.Trim(element, " \t"); string(element) == "*" || message.EqualFold(element, name) {
				return true
			}
		}
	}
	return false
}
