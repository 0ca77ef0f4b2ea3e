package http1

import (
	"bytes"

	"mpgate/proxy/message"
)

// Limits bound a head and the trailers.
type Limits struct {
	HeaderBytes  int // of the whole head
	HeaderFields int
}

// isToken marks the bytes of a token (RFC 9110 section 5.6.2).
var isToken = func() (t [256]bool) {
	for _, c := range "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" {
		t[c] = true
	}
	return t
}()

// isText marks the bytes of a field value (RFC 9110 section 5.5): visible, space, tab, obs-text.
var isText = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= ' ' && c != 0x7f || c == '\t'
	}
	return t
}()

func allToken(b []byte) bool {
	for _, c := range b {
		if !isToken[c] {
			return false
		}
	}
	return len(b) > 0
}

// headEnd looks for the empty line that ends a head: end is the offset behind it, or 0 while it has not
// come; then next is where to look on, so that a head that trickles in is looked at once.
func headEnd(b []byte, from int) (end, next int, err error) {
	line := from
	for {
		i := bytes.IndexByte(b[line:], '\n')
		if i < 0 {
			return 0, line, nil
		}
		i += line
		if i == 0 || b[i-1] != '\r' {
			return 0, line, errBareLF
		}
		if i == line+1 {
			return i + 1, 0, nil
		}
		line = i + 1
	}
}

// nextLine cuts the line off that ends in CRLF; head is known to hold one.
func nextLine(head []byte) (line, rest []byte) {
	i := bytes.IndexByte(head, '\n')
	return head[:i-1], head[i+1:]
}

// special is what the fields say about framing and the connection rather than about the message.
type special struct {
	lengths, codings, hosts, connections int
	length                               int64
	host                                 []byte
}

// parseFields reads the field lines of a head (or trailers) that ends in an empty line. head is h's own
// copy, beginning at offset base of its buffer. Content-Length, Transfer-Encoding and Host go into sp, not into h.
func parseFields(h *message.Header, head []byte, base, at int, limits Limits, sp *special) error {
	for {
		line, _ := nextLine(head[at:])
		if len(line) == 0 {
			return nil
		}
		if h.Len()+sp.lengths+sp.codings+sp.hosts >= limits.HeaderFields {
			return errHeaderFields
		}
		colon, err := fieldName(line)
		if err != nil {
			return err
		}
		first, last, err := fieldValue(line, colon+1)
		if err != nil {
			return err
		}
		switch id := message.Lookup(line[:colon]); id {
		case message.ContentLength:
			sp.lengths++
			if sp.length, err = parseLength(line[first:last]); err != nil {
				return err
			}
		case message.TransferEncoding:
			sp.codings++
			if !message.EqualFold(line[first:last], "chunked") {
				return errCoding
			}
		case message.Host:
			sp.hosts++
			sp.host = line[first:last]
		default:
			if id == message.Connection {
				sp.connections++
			}
			h.AddSpan(id, base+at, colon, base+at+first, last-first)
		}
		at += len(line) + 2
	}
}

// fieldName gives the position of the colon behind a valid name.
func fieldName(line []byte) (colon int, err error) {
	for i, c := range line {
		if isToken[c] {
			continue
		}
		switch {
		case c == ':' && i > 0:
			return i, nil
		case c == ':':
			return 0, errEmptyName
		case i == 0 && (c == ' ' || c == '\t'):
			return 0, errFold
		}
		if bytes.IndexByte(line, ':') < 0 {
			return 0, errNoColon
		}
		return 0, errName
	}
	return 0, errNoColon
}

// fieldValue gives the bounds of a value without the white space around it.
func fieldValue(line []byte, from int) (first, last int, err error) {
	for _, c := range line[from:] {
		if !isText[c] {
			return 0, 0, errValue
		}
	}
	first, last = from, len(line)
	for first < last && isSpace(line[first]) {
		first++
	}
	for last > first && isSpace(line[last-1]) {
		last--
	}
	return first, last, nil
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

// parseLength reads a Content-Length: digits only, no sign, no list (RFC 9110 section 8.6).
func parseLength(b []byte) (n int64, err error) {
	if len(b) == 0 {
		return 0, errLength
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, errLength
		}
		if n > (1<<63-1-9)/10 {
			return 0, errLengthBig
		}
		n = n*10 + int64(c-'0')
	}
	return n, nil
}

// framing judges what the fields said about the length of the body.
func (sp *special) framing(v message.Version) (length int64, err error) {
	switch {
	case sp.lengths > 1:
		return 0, errLengthTwice
	case sp.codings > 1:
		return 0, errCodingTwice
	case sp.codings == 1 && v == message.HTTP10:
		return 0, errCoding10
	case sp.codings == 1 && sp.lengths == 1:
		return 0, errBothLengths
	case sp.codings == 1:
		return message.Unknown, nil
	}
	return sp.length, nil
}

// connection is what the Connection fields said.
type connection struct {
	close, keepAlive, upgrade bool
}

// takeConnection takes the fields off that are about this connection only: Connection, what it names
// (RFC 9110 section 7.6.1), and those that are so by custom, whether it names them or not.
func takeConnection(h *message.Header, sp *special) (c connection) {
	for i := h.Index(message.Connection, 0); i >= 0 && sp.connections > 0; i = h.Index(message.Connection, i+1) {
		_, _, value, _ := h.At(i)
		for len(value) > 0 {
			var option []byte
			option, value = nextOption(value)
			switch {
			case len(option) == 0:
			case message.EqualFold(option, "close"):
				c.close = true
			case message.EqualFold(option, "keep-alive"):
				c.keepAlive = true
			case message.EqualFold(option, "upgrade"):
				c.upgrade = true
			case message.EqualFold(option, "connection"):
			default:
				h.DelName(option)
			}
		}
	}
	for _, id := range [...]message.ID{message.Connection, message.KeepAlive, message.ProxyConnection, message.ProxyAuthenticate,
		message.ProxyAuthorization, message.HTTP2Settings} {
		h.Del(id)
	}
	return c
}

// nextOption cuts the first element off a comma-separated list.
func nextOption(list []byte) (option, rest []byte) {
	option = list
	if i := bytes.IndexByte(list, ','); i >= 0 {
		option, rest = list[:i], list[i+1:]
	}
	return bytes.Trim(option, " \t"), rest
}
