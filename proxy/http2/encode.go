package http2

import (
	"bytes"
	"strconv"
	"unsafe"

	"golang.org/x/net/http2/hpack"

	"mpgate/proxy/message"
)

// encoder writes header blocks (RFC 7541). Unlike hpack.Encoder it takes the fields of a message
// without a string for each, and puts only those into its table that are repeated and reveal
// nothing of one client to another: a connection to a server carries requests of many (RFC 7541
// section 7.1.3).
type encoder struct {
	table  []entry // the newest is last
	size   int
	limit  int // of size
	update bool
	lowest int // the smallest limit since the last block
}

type entry struct {
	id   message.ID
	text []byte // name, then value
	name int    // length
}

const (
	tableLimit    = 4096
	entryOverhead = 32 // RFC 7541 section 4.1
	staticEntries = 61
)

func newEncoder() encoder { return encoder{limit: tableLimit, lowest: tableLimit} }

// setLimit follows the peer's SETTINGS_HEADER_TABLE_SIZE.
func (e *encoder) setLimit(n uint32) {
	limit := int(min(n, tableLimit))
	if limit == e.limit {
		return
	}
	e.limit, e.update = limit, true
	e.lowest = min(e.lowest, limit)
	e.evict(0)
}

func (e *encoder) evict(room int) {
	n := 0
	for e.size+room > e.limit && n < len(e.table) {
		e.size -= len(e.table[n].text) + entryOverhead
		n++
	}
	if n == 0 {
		return
	}
	// The memory of those that are removed is kept after the table for later ones.
	for range n {
		first := e.table[0]
		copy(e.table, e.table[1:])
		e.table[len(e.table)-1] = first
		e.table = e.table[:len(e.table)-1]
	}
}

func (e *encoder) add(id message.ID, name string, value []byte) {
	size := len(name) + len(value) + entryOverhead
	e.evict(size)
	if size > e.limit {
		return
	}
	if len(e.table) < cap(e.table) {
		e.table = e.table[:len(e.table)+1]
	} else {
		e.table = append(e.table, entry{})
	}
	t := &e.table[len(e.table)-1]
	t.id, t.name = id, len(name)
	t.text = append(append(t.text[:0], name...), value...)
	e.size += size
}

// begin starts a block.
func (e *encoder) begin(dst []byte) []byte {
	if !e.update {
		return dst
	}
	if e.lowest < e.limit {
		dst = appendInt(dst, 0x20, 5, e.lowest)
	}
	dst = appendInt(dst, 0x20, 5, e.limit)
	e.update, e.lowest = false, e.limit
	return dst
}

// appendInt writes an integer after a prefix of n bits (RFC 7541 section 5.1).
func appendInt(dst []byte, first byte, n, i int) []byte {
	most := 1<<n - 1
	if i < most {
		return append(dst, first|byte(i))
	}
	dst = append(dst, first|byte(most))
	for i -= most; i >= 128; i >>= 7 {
		dst = append(dst, byte(i)|0x80)
	}
	return append(dst, byte(i))
}

func appendString[T string | []byte](dst []byte, s T) []byte {
	return append(appendInt(dst, 0, 7, len(s)), s...)
}

// appendHuffman is appendString with the Huffman code if that is shorter.
func appendHuffman(dst []byte, b []byte) []byte {
	s := unsafe.String(unsafe.SliceData(b), len(b))
	n := hpack.HuffmanEncodeLength(s)
	if n >= uint64(len(s)) {
		return appendString(dst, b)
	}
	return hpack.AppendHuffmanString(appendInt(dst, 0x80, 7, int(n)), s)
}

// staticName is the index of a name in the static table (RFC 7541 appendix A), 0 if it has none.
var staticName = [64]uint8{
	message.AcceptEncoding: 16, message.Accept: 19, message.Authorization: 23, message.CacheControl: 24,
	message.ContentEncoding: 26, message.ContentLength: 28, message.ContentType: 31, message.Cookie: 32,
	message.Date: 33, message.ETag: 34, message.Expect: 35, message.Host: 38, message.LastModified: 44,
	message.Location: 46, message.ProxyAuthenticate: 48, message.ProxyAuthorization: 49, message.Referer: 51,
	message.RetryAfter: 53, message.Server: 54, message.SetCookie: 55, message.StrictTransportSecurity: 56,
	message.TransferEncoding: 57, message.UserAgent: 58, message.Vary: 59, message.Via: 60, message.WWWAuthenticate: 61,
}

const (
	staticAuthority = 1
	staticGET       = 2
	staticPOST      = 3
	staticPath      = 4
	staticHTTP      = 6
	staticHTTPS     = 7
	staticStatus    = 8
)

// indexed marks the fields that go into the table.
var indexed = [64]bool{
	message.Accept: true, message.AcceptEncoding: true, message.AltSvc: true, message.CacheControl: true,
	message.ContentEncoding: true, message.ContentType: true, message.Date: true, message.GRPCStatus: true, message.Host: true,
	message.Server: true, message.StrictTransportSecurity: true, message.TE: true, message.UserAgent: true, message.Vary: true,
	message.XForwardedHost: true, message.XForwardedProto: true,
}

// maxIndexed is the longest value that goes into the table.
const maxIndexed = 256

// lowerNames are the names of the known fields in lower case.
var lowerNames = func() (t [64]string) {
	for id := range message.ID(64) {
		t[id] = string(bytes.ToLower([]byte(id.String())))
	}
	t[message.Host] = ":authority" // what the field is in a request
	return t
}()

// field writes a field with a known name.
func (e *encoder) field(dst []byte, id message.ID, value []byte) []byte {
	if indexed[id] && len(value) <= maxIndexed {
		name := lowerNames[id]
		for i := len(e.table) - 1; i >= 0; i-- {
			t := &e.table[i]
			if t.id == id && len(t.text)-t.name == len(value) && bytes.Equal(t.text[t.name:], value) {
				return appendInt(dst, 0x80, 7, staticEntries+len(e.table)-i)
			}
		}
		dst = e.name(dst, 0x40, 6, id)
		dst = appendHuffman(dst, value)
		e.add(id, name, value)
		return dst
	}
	first := byte(0)
	if id == message.Authorization || id == message.ProxyAuthorization || id == message.SetCookie {
		first = 0x10 // never indexed, by later hops either
	}
	return appendString(e.name(dst, first, 4, id), value)
}

// name begins a literal field whose kind is in first, with n bits for the name's index.
func (e *encoder) name(dst []byte, first byte, n int, id message.ID) []byte {
	index := int(staticName[id])
	if id == message.Host {
		index = staticAuthority
	}
	dst = appendInt(dst, first, n, index)
	if index == 0 {
		dst = appendString(dst, lowerNames[id])
	}
	return dst
}

// otherField writes a field without a known name, in lower case.
func (e *encoder) otherField(dst []byte, name, value []byte) []byte {
	dst = appendInt(append(dst, 0), 0, 7, len(name))
	at := len(dst)
	dst = append(dst, name...)
	for i, c := range dst[at:] {
		if c >= 'A' && c <= 'Z' {
			dst[at+i] = c | 0x20
		}
	}
	return appendString(dst, value)
}

// header writes the fields of a message.
func (e *encoder) header(dst []byte, h *message.Header) []byte {
	for i := range h.Len() {
		id, name, value, ok := h.At(i)
		switch {
		case !ok:
		case id == message.Other:
			dst = e.otherField(dst, name, value)
		default:
			dst = e.field(dst, id, value)
		}
	}
	return dst
}

func (e *encoder) contentLength(dst []byte, n int64) []byte {
	dst = appendInt(dst, 0, 4, int(staticName[message.ContentLength]))
	var digits [20]byte
	return appendString(dst, strconv.AppendInt(digits[:0], n, 10))
}

// response writes the head of r; status is the value of :status, which differs from r's for a
// tunnel.
func (e *encoder) response(dst []byte, r *message.Response, status int) []byte {
	dst = e.begin(dst)
	switch status {
	case 200:
		dst = append(dst, 0x80|staticStatus)
	case 204:
		dst = append(dst, 0x80|staticStatus+1)
	case 206:
		dst = append(dst, 0x80|staticStatus+2)
	case 304:
		dst = append(dst, 0x80|staticStatus+3)
	case 400:
		dst = append(dst, 0x80|staticStatus+4)
	case 404:
		dst = append(dst, 0x80|staticStatus+5)
	case 500:
		dst = append(dst, 0x80|staticStatus+6)
	default:
		dst = append(dst, staticStatus, 3, byte('0'+status/100), byte('0'+status/10%10), byte('0'+status%10))
	}
	dst = e.header(dst, &r.Header)
	if status >= 200 && status != 204 && r.ContentLength >= 0 && r.Status != 101 {
		dst = e.contentLength(dst, r.ContentLength)
	}
	return dst
}

// request writes the head of r. protocol is that of an extended CONNECT, else nil.
func (e *encoder) request(dst []byte, r *message.Request, protocol []byte) []byte {
	dst = e.begin(dst)
	switch method := string(r.Method); {
	case protocol != nil:
		dst = appendString(append(dst, staticGET), "CONNECT")
		dst = appendString(append(dst, 0), ":protocol")
		dst = appendString(dst, protocol)
	case method == "GET":
		dst = append(dst, 0x80|staticGET)
	case method == "POST":
		dst = append(dst, 0x80|staticPOST)
	default:
		dst = appendString(append(dst, staticGET), r.Method)
	}
	if r.Scheme == "https" {
		dst = append(dst, 0x80|staticHTTPS)
	} else {
		dst = append(dst, 0x80|staticHTTP)
	}
	dst = e.authority(dst, r)
	dst = e.path(dst, r)
	dst = e.header(dst, &r.Header)
	if r.ContentLength > 0 || r.ContentLength == 0 && r.NeedsLength() {
		dst = e.contentLength(dst, r.ContentLength)
	}
	if r.Expect {
		dst = e.field(dst, message.Expect, []byte("100-continue"))
	}
	if r.TrailersOK {
		dst = e.field(dst, message.TE, []byte("trailers"))
	}
	return dst
}

func (e *encoder) authority(dst []byte, r *message.Request) []byte {
	if len(r.Host) == 0 {
		return dst
	}
	if len(r.Port) == 0 {
		return e.field(dst, message.Host, r.Host)
	}
	var text [260]byte
	value := append(append(append(text[:0], r.Host...), ':'), r.Port...)
	return e.field(dst, message.Host, value)
}

func (e *encoder) path(dst []byte, r *message.Request) []byte {
	if len(r.Path) == 1 && r.Path[0] == '/' && !r.HasQuery {
		return append(dst, 0x80|staticPath)
	}
	n := len(r.Path)
	if r.HasQuery {
		n += 1 + len(r.Query)
	}
	dst = append(appendInt(append(dst, staticPath), 0, 7, n), r.Path...)
	if r.HasQuery {
		dst = append(append(dst, '?'), r.Query...)
	}
	return dst
}

// trailer writes trailers.
func (e *encoder) trailer(dst []byte, h *message.Header) []byte {
	return e.header(e.begin(dst), h)
}
