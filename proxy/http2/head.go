package http2

import (
	"unsafe"

	"golang.org/x/net/http2/hpack"

	"mpgate/proxy/limits"
	"mpgate/proxy/message"
)

// Limits bound a header block and a connection. HeaderBytes counts names and values, with four
// bytes each for what HTTP/1 writes between them.
type Limits = limits.Limits

const (
	fieldOverhead = 4
	// Beyond this multiple of the limit a block is not decoded to its end for an answer: the
	// connection ends.
	bombFactor = 8
	// Browsers send each cookie as a separate field (RFC 9113 section 8.2.3), so cookies have a
	// separate limit.
	crumbFactor = 4
	maxMethod   = 32
)

// kind is what a header block holds.
type kind uint8

const (
	discarded kind = iota // decoded only for the table
	requestBlock
	responseBlock
	trailerBlock
)

// Pseudo-header fields, as bits.
const (
	pseudoMethod = 1 << iota
	pseudoScheme
	pseudoAuthority
	pseudoPath
	pseudoProtocol
	pseudoStatus
)

// fields collects one header block. Names and values go into h, those that frame or route into
// members.
type fields struct {
	kind   kind
	h      *message.Header
	limits *Limits
	err    *message.Error // the first one

	size, count, crumbs int
	regular             bool
	seen                uint8 // pseudo-header fields
	method, scheme      []byte
	authority, path     []byte
	protocol, status    []byte
	host                []byte
	hosts, lengths      int
	length              int64
	trailers            bool // TE: trailers
	expect              bool
	prioritized         bool
	priority            priority
	cookie              []byte // crumbs, joined
}

func (f *fields) reset(k kind, h *message.Header, limits *Limits) {
	*f = fields{kind: k, h: h, limits: limits, cookie: f.cookie[:0]}
}

// bytesOf is s without a copy. It must not be written to.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

func (f *fields) fail(err *message.Error) {
	if f.err == nil {
		f.err = err
	}
}

// isBomb says whether the block exceeds the limits so far that the connection is ended.
func (f *fields) isBomb() bool {
	return f.size > bombFactor*f.limits.HeaderBytes || f.count+f.crumbs > bombFactor*crumbFactor*f.limits.HeaderFields
}

// add takes one field as the decoder gives it.
func (f *fields) add(hf hpack.HeaderField) {
	f.size += len(hf.Name) + len(hf.Value) + fieldOverhead
	if hf.Name == "cookie" {
		f.crumbs++
	} else {
		f.count++
	}
	switch {
	case f.kind == discarded || f.err != nil:
	case len(hf.Name) > 0 && hf.Name[0] == ':':
		f.pseudo(hf.Name, hf.Value)
	case f.size > f.limits.HeaderBytes:
		f.tooLong()
	case f.count > f.limits.HeaderFields+5 || f.crumbs > crumbFactor*f.limits.HeaderFields:
		f.fail(errHeaderFields)
	default:
		f.field(hf.Name, hf.Value)
	}
}

func (f *fields) tooLong() {
	if f.kind == trailerBlock {
		f.fail(errTrailerBytes)
	} else {
		f.fail(errHeaderBytes)
	}
}

// pseudo takes a pseudo-header field (RFC 9113 section 8.3).
func (f *fields) pseudo(name, value string) {
	var bit uint8
	var into *[]byte
	switch {
	case f.kind == trailerBlock:
		f.fail(errPseudoTrailer)
		return
	case f.kind == responseBlock:
		if name == ":status" {
			bit, into = pseudoStatus, &f.status
		}
	case name == ":method":
		bit, into = pseudoMethod, &f.method
	case name == ":scheme":
		bit, into = pseudoScheme, &f.scheme
	case name == ":authority":
		bit, into = pseudoAuthority, &f.authority
	case name == ":path":
		bit, into = pseudoPath, &f.path
	case name == ":protocol":
		bit, into = pseudoProtocol, &f.protocol
	}
	switch {
	case bit == 0:
		f.fail(errPseudoUnknown)
	case f.regular:
		f.fail(errPseudoLate)
	case f.seen&bit != 0:
		f.fail(errPseudoTwice)
	case f.size > f.limits.HeaderBytes:
		f.tooLong()
	case !validValue(value):
		f.fail(errValue)
	default:
		f.seen |= bit
		*into = f.h.Copy(bytesOf(value))
	}
}

// field takes a regular field.
func (f *fields) field(name, value string) {
	f.regular = true
	if !validName(name) {
		f.fail(errName)
		return
	}
	if !validValue(value) {
		f.fail(errValue)
		return
	}
	switch message.Lookup(bytesOf(name)) {
	case message.Connection, message.KeepAlive, message.ProxyConnection, message.TransferEncoding, message.Upgrade:
		f.fail(errConnection)
	case message.TE:
		if f.trailers = message.EqualFold(bytesOf(value), "trailers"); !f.trailers {
			f.fail(errTE)
		}
	case message.ProxyAuthenticate, message.ProxyAuthorization, message.HTTP2Settings:
		// These are for the next hop, which is mpgate.
	case message.ContentLength:
		f.contentLength(value)
	case message.Host:
		if f.hosts++; f.hosts > 1 {
			f.fail(errHostTwice)
		} else {
			f.host = f.h.Copy(bytesOf(value))
		}
	case message.Cookie:
		if f.kind != requestBlock {
			f.h.AddName(bytesOf(name), bytesOf(value))
			return
		}
		if len(f.cookie) > 0 && value != "" { // an empty crumb adds nothing
			f.cookie = append(f.cookie, "; "...)
		}
		f.cookie = append(f.cookie, value...)
	case message.Expect:
		if f.kind == requestBlock {
			f.expectation(value)
			return
		}
		f.h.AddName(bytesOf(name), bytesOf(value))
	default:
		if f.kind == requestBlock && name == "priority" {
			f.prioritized, f.priority = true, parsePriority(value)
		}
		f.h.AddName(bytesOf(name), bytesOf(value))
	}
}

func (f *fields) expectation(value string) {
	if !message.EqualFold(bytesOf(value), "100-continue") {
		f.fail(errExpect)
	}
	f.expect = true
}

func (f *fields) contentLength(value string) {
	if f.kind == trailerBlock {
		return // not allowed there
	}
	if f.lengths++; f.lengths > 1 {
		f.fail(errLengthTwice)
		return
	}
	if value == "" {
		f.fail(errLength)
	}
	for i := range len(value) {
		c := value[i]
		switch {
		case c < '0' || c > '9':
			f.fail(errLength)
			return
		case f.length > (1<<63-1-9)/10:
			f.fail(errLengthBig)
			return
		}
		f.length = f.length*10 + int64(c-'0')
	}
}

// finish is called after the last field.
func (f *fields) finish() {
	if len(f.cookie) > 0 && f.err == nil {
		f.h.AddName(cookieName, f.cookie)
	}
}

var cookieName = []byte("cookie")

// nameByte marks the bytes of a token in lower case (RFC 9113 section 8.2.1).
var nameByte = func() (t [256]bool) {
	for _, c := range "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz" {
		t[c] = true
	}
	return t
}()

func validName(s string) bool {
	for i := range len(s) {
		if !nameByte[s[i]] {
			return false
		}
	}
	return len(s) > 0
}

// validValue says whether s is a field value: no control characters but the tab (RFC 9110 section
// 5.5), no white space around it.
func validValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	n := len(s)
	return n == 0 || !isSpace(s[0]) && !isSpace(s[n-1])
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

func validMethod(b []byte) bool {
	for _, c := range b {
		if !nameByte[c] && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return len(b) > 0
}
