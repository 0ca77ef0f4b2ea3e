package http1

import (
	"bytes"
	"encoding/binary"
	"math/bits"

	"mpgate/proxy/limits"
	"mpgate/proxy/message"
	"mpgate/proxy/netio"
)

// Limits bound a head, the trailers and a connection. Of HeaderBytes, netio.MaxBuffered is the most
// that counts.
type Limits = limits.Limits

// headBytes is the most that a head may take.
func headBytes(l *Limits) int { return min(l.HeaderBytes, netio.MaxBuffered) }

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

// headEnd looks for the empty line that ends a head: end is the offset after it. While it has not
// come, err is ErrMore and next is where the next search begins, so that each byte of a slow head
// is searched once. Bytes beyond the limit are ignored, so that the result does not depend on how
// the bytes arrive.
func headEnd(b []byte, from int, limits *Limits) (end, next int, err error) {
	most := headBytes(limits)
	head := b[:min(len(b), most)]
	for {
		i := bytes.IndexByte(head[from:], '\n')
		if i < 0 {
			break
		}
		i += from
		if i == 0 || head[i-1] != '\r' {
			return 0, 0, errBareLF
		}
		if i == 1 || head[i-2] == '\n' {
			return i + 1, 0, nil
		}
		from = i + 1
	}
	if len(head) < most {
		return 0, len(head), ErrMore
	}
	return 0, 0, errHeaderBytes
}

// firstLine is the line that head begins with; head must hold a complete one.
func firstLine(head []byte) []byte { return head[:bytes.IndexByte(head, '\n')-1] }

// framingFields is what the fields say about framing and the connection, not about the message.
type framingFields struct {
	lengths, codings, hosts int
	length                  int64
	host                    []byte
	nominated               []byte // what Connection names, each followed by a comma
}

// parseFields reads the field lines of a head (or trailers) from offset at. head, which ends in
// an empty line, is h's own copy and begins at offset base of its buffer. Content-Length,
// Transfer-Encoding and Host go into sp, not into h.
func parseFields(h *message.Header, head []byte, base, at int, limits *Limits, sp *framingFields) error {
	for {
		line := head[at:]
		if line[0] == '\r' && line[1] == '\n' {
			return nil
		}
		if h.Len()+sp.lengths+sp.codings+sp.hosts >= limits.HeaderFields {
			return errHeaderFields
		}
		colon, err := fieldName(line)
		if err != nil {
			return err
		}
		first, last, next, err := fieldValue(line, colon+1)
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
			h.AddSpan(id, base+at, colon, base+at+first, last-first)
		}
		at += next
	}
}

// fieldName gives the position of the colon after the valid name that line begins with.
func fieldName(line []byte) (colon int, err error) {
	for i, c := range line {
		if isToken[c] {
			continue
		}
		if c == ':' && i > 0 {
			return i, nil
		}
		return 0, nameFault(line, i)
	}
	return 0, errNoColon
}

// nameFault says what is wrong with a field line whose byte i is not one of a name.
func nameFault(line []byte, i int) error {
	switch {
	case line[i] == ':':
		return errEmptyName
	case i == 0 && isSpace(line[i]):
		return errFold
	case bytes.IndexByte(line[:bytes.IndexByte(line, '\n')+1], ':') < 0:
		return errNoColon
	}
	return errName
}

// fieldValue gives the bounds of a value without the white space around it, and where the next line
// begins.
func fieldValue(line []byte, from int) (first, last, next int, err error) {
	for isSpace(line[from]) {
		from++
	}
	end := textEnd(line, from)
	if line[end] != '\r' || line[end+1] != '\n' {
		return 0, 0, 0, errValue
	}
	last = end
	for last > from && isSpace(line[last-1]) {
		last--
	}
	return from, last, end + 2, nil
}

// textEnd gives the position of the first byte that is not text, which b must hold.
func textEnd(b []byte, i int) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for len(b)-i >= 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		del := x ^ 0x7f*ones
		// The top bits of bytes below 0x20 and of 0x7f. The lowest that is set is right; those
		// above may be off by a borrow.
		found := ((x-' '*ones)&^x | (del-ones)&^del) & tops
		if found == 0 {
			i += 8
			continue
		}
		i += bits.TrailingZeros64(found) / 8
		if b[i] != '\t' {
			return i
		}
		i++
	}
	for isText[b[i]] {
		i++
	}
	return i
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

// bodyLength checks what the fields say about the length of the body.
func (sp *framingFields) bodyLength(v message.Version) (length int64, err error) {
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

// takeConnection removes the fields that are about this connection only: Connection, what it names
// (RFC 9110 section 7.6.1), and those that always are, whether it names them or not.
func takeConnection(h *message.Header, limits *Limits, sp *framingFields) (c connection, err error) {
	options := 0
	for i := h.Index(message.Connection, 0); i >= 0; i = h.Index(message.Connection, i+1) {
		_, _, value, _ := h.At(i)
		for len(value) > 0 {
			var option []byte
			option, value = nextOption(value)
			if options++; options > limits.HeaderFields {
				return c, errOptions // each is searched among all fields
			}
			switch {
			case len(option) == 0:
			case message.EqualFold(option, "close"):
				c.close = true
			case message.EqualFold(option, "keep-alive"):
				c.keepAlive = true
			case message.EqualFold(option, "upgrade"):
				c.upgrade = true
			case message.EqualFold(option, "connection"): // goes below; here, the list would end
			default:
				h.DelName(option)
				sp.nominated = append(append(sp.nominated, option...), ',')
			}
		}
	}
	for _, id := range [...]message.ID{message.Connection, message.KeepAlive, message.ProxyConnection, message.ProxyAuthenticate,
		message.ProxyAuthorization, message.HTTP2Settings, message.Upgrade, message.TE} {
		h.Del(id)
	}
	return c, nil
}

// upgradeOffer is the one protocol that the Upgrade fields name, nil for none or several.
func upgradeOffer(h *message.Header) []byte {
	i := h.Index(message.Upgrade, 0)
	if i < 0 || h.Index(message.Upgrade, i+1) >= 0 {
		return nil
	}
	_, _, protocol, _ := h.At(i)
	name, version, versioned := bytes.Cut(protocol, []byte("/"))
	if !allToken(name) || versioned && !allToken(version) {
		return nil
	}
	return protocol
}

// nextOption cuts the first element off a comma-separated list.
func nextOption(list []byte) (option, rest []byte) {
	option = list
	if i := bytes.IndexByte(list, ','); i >= 0 {
		option, rest = list[:i], list[i+1:]
	}
	for len(option) > 0 && isSpace(option[0]) {
		option = option[1:]
	}
	for len(option) > 0 && isSpace(option[len(option)-1]) {
		option = option[:len(option)-1]
	}
	return option, rest
}
