package message

// Version is an HTTP version as major<<4 | minor, so that versions compare in order.
type Version uint8

const (
	HTTP10 Version = 0x10
	HTTP11 Version = 0x11
	HTTP20 Version = 0x20
)

// String is the version as the access log writes it.
func (v Version) String() string {
	switch v {
	case HTTP10:
		return "HTTP/1.0"
	case HTTP11:
		return "HTTP/1.1"
	case HTTP20:
		return "HTTP/2.0"
	}
	return ""
}

// Unknown is the ContentLength of a body whose end is not known beforehand.
const Unknown = -1

// Request is a request as received, with one canonical host and path for matching and forwarding.
type Request struct {
	Version Version
	Method  []byte
	Target  []byte // as received, for the log
	Scheme  string // http | https

	Host  []byte // canonical: lower case, no trailing dot, no port; nil without one
	Port  []byte // digits, nil without one
	Path  []byte // canonical; "*" for OPTIONS *
	Query []byte // canonical, without the question mark
	// HasQuery tells "/a?" from "/a".
	HasQuery bool
	// EncodedSlash: the path holds %2F or %5C, which only some routes accept.
	EncodedSlash bool
	// Ambiguous: the path holds escapes that some servers decode before they route, or parameters
	// that some remove; see route.Table.Misread.
	Ambiguous bool
	// RawPath is the path as received if Path has one slash for several in a row; else nil. See
	// target.KeepSlashes.
	RawPath []byte

	Header        Header
	ContentLength int64  // bytes, 0 for no body, Unknown if only its end tells
	Trailer       Header // complete once the body has ended
	Close         bool   // the sender wants no further exchange on this connection
	Expect        bool   // Expect: 100-continue
	TrailersOK    bool   // TE: trailers
	Upgrade       []byte // the protocol that the client asks to change to, or nil

	Scratch []byte // memory of the canonical host, path and query
}

// Reset empties r and keeps its memory.
func (r *Request) Reset() {
	h, t, s := r.Header, r.Trailer, r.Scratch
	h.Reset()
	t.Reset()
	*r = Request{Header: h, Trailer: t, Scratch: s[:0]}
}

// IsHead says whether the response to r has no body whatever its fields say (RFC 9110 section
// 9.3.2).
func (r *Request) IsHead() bool { return string(r.Method) == "HEAD" }

// Idempotent says whether r may be sent again when it is not known if the server has processed it
// (RFC 9110 section 9.2.2).
func (r *Request) Idempotent() bool {
	switch string(r.Method) {
	case "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE":
		return true
	}
	return false
}

// NeedsLength says whether servers expect a Content-Length even for no body (RFC 9110 section 8.6).
func (r *Request) NeedsLength() bool {
	switch string(r.Method) {
	case "POST", "PUT", "PATCH":
		return true
	}
	return false
}

// Response is a response, interim or final.
type Response struct {
	Version       Version
	Status        int
	Reason        []byte
	Header        Header
	ContentLength int64 // as in Request
	Trailer       Header
	Close         bool
	Upgrade       []byte // the protocol that a 101 changes to, or a 426 wants
	UntilClose    bool   // the end of the connection ends the body
	// NoBody: the response to a HEAD, a 1xx, a 204 or a 304. ContentLength may still be that of the
	// response to a GET.
	NoBody bool
}

// Reset empties r and keeps its memory.
func (r *Response) Reset() {
	h, t := r.Header, r.Trailer
	h.Reset()
	t.Reset()
	*r = Response{Header: h, Trailer: t}
}

// Interim says whether a final response follows.
func (r *Response) Interim() bool { return r.Status < 200 && r.Status != 101 }
