package preread

import "bytes"

// Protocol is the protocol that a client begins with.
type Protocol uint8

const (
	Unknown Protocol = iota // none of these: the client would not understand an answer
	TLS                     // a TLS record with a handshake message
	HTTP1                   // a request line, or the empty line that may stand before it
	HTTP2                   // the preface of HTTP/2 by prior knowledge
)

func (p Protocol) String() string {
	return [...]string{"unknown", "TLS", "HTTP/1", "HTTP/2"}[p]
}

// Preface is what an HTTP/2 client sends first (RFC 9113 3.4).
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

const recordHandshake = 22 // RFC 8446 5.1

// Detect says which protocol b begins. It returns ErrMore for no bytes, and while they are a part
// of Preface: every request line differs from it before it ends.
func Detect(b []byte) (Protocol, error) {
	if len(b) == 0 {
		return Unknown, ErrMore
	}
	switch c := b[0]; {
	case c == recordHandshake:
		return TLS, nil
	case c != '\r' && c != '\n' && !tokenByte(c):
		return Unknown, nil
	}
	n := min(len(b), len(Preface))
	switch {
	case string(b[:n]) != Preface[:n]:
		return HTTP1, nil
	case n < len(Preface):
		return Unknown, ErrMore
	}
	return HTTP2, nil
}

// BadPreface reports whether b is a malformed preface of HTTP/2 rather than a request line of
// HTTP/1: it begins as Preface does, or its first line, if complete, ends in a version that is not
// HTTP's. It is for b that [Detect] says is HTTP1.
func BadPreface(b []byte) bool {
	const sure = "PRI * HTTP/2.0\r\n"
	if bytes.HasPrefix(b, []byte(sure)) {
		return true
	}
	line, _, whole := bytes.Cut(b, []byte("\r\n"))
	words := bytes.Split(line, []byte(" "))
	return whole && len(words) == 3 && len(words[1]) > 0 && words[1][0] != '/' && !bytes.Contains(words[1], []byte("://")) &&
		!bytes.HasPrefix(words[2], []byte("HTTP/"))
}

// tokenByte reports whether a method may begin with c (RFC 9110 5.6.2).
func tokenByte(c byte) bool {
	switch c {
	case '!', '#', '$', '%', '&', '\'', '*', '+', '-', '.', '^', '_', '`', '|', '~':
		return true
	}
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}
