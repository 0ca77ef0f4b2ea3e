package preread

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
)

// MaxHello is the most bytes that the records of a ClientHello may have. Those of browsers have up
// to 2 KiB; split into records of one byte each six times that.
const MaxHello = 16 << 10

var (
	// ErrNotTLS says that the bytes are not a TLS record with a handshake message.
	ErrNotTLS = errors.New("ClientHello: this is not TLS")
	// ErrHelloLong says that a ClientHello is longer than MaxHello.
	ErrHelloLong = fmt.Errorf("ClientHello: longer than %d bytes", MaxHello)
	// ErrHello says that a ClientHello cannot be read.
	ErrHello = errors.New("ClientHello: malformed")
)

// Hello is the plain text of a ClientHello. With Encrypted Client Hello that is the outer one.
type Hello struct {
	ServerName string   // in lower case, "" for none
	Protocols  []string // of ALPN, in the client's order
}

const (
	recordHead    = 5     // type, version, length
	maxRecord     = 16384 // RFC 8446 5.1
	handshakeHead = 4     // type, length
	clientHello   = 1     // RFC 8446 4

	extensionServerName = 0  // RFC 6066 3
	extensionProtocols  = 16 // RFC 7301 3.1
)

// ParseHello reads the ClientHello at the beginning of b, and returns what it says and the length
// of the records that hold it. Extensions that it does not use are skipped, among them the reserved
// ones of RFC 8701 (GREASE).
func ParseHello(b []byte) (h Hello, n int, err error) {
	message, n, err := helloMessage(b)
	if err != nil {
		return Hello{}, 0, err
	}
	h, ok := parseHello(message)
	if !ok {
		return Hello{}, 0, ErrHello
	}
	return h, n, nil
}

// helloMessage puts a handshake message together from its records. It is copied only if there
// are several.
func helloMessage(b []byte) (message []byte, n int, err error) {
	size, have := -1, 0 // of the message with its head; size is -1 until that has come
	var head [handshakeHead]byte
	first := true // record
	for size < 0 || have < size {
		payload, end, err := record(b, n)
		if err != nil {
			return nil, 0, err
		}
		copy(head[min(have, handshakeHead):], payload)
		have += len(payload)
		if have > 0 && head[0] != clientHello {
			return nil, 0, fmt.Errorf("ClientHello: got a handshake message of type %d; want %d", head[0], clientHello)
		}
		if have >= handshakeHead {
			size = handshakeHead + int(head[1])<<16 + int(head[2])<<8 + int(head[3])
		}
		if size+recordHead > MaxHello || end > MaxHello {
			return nil, 0, ErrHelloLong
		}
		if end > len(b) {
			return nil, 0, ErrMore
		}
		if first && size >= 0 && have >= size {
			return payload[:size], end, nil
		}
		first, n = false, end
	}
	message = make([]byte, 0, have)
	for at := 0; at < n; {
		payload, end, _ := record(b, at)
		message, at = append(message, payload...), end
	}
	return message[:size], n, nil
}

// record returns as much of the payload of the record at b[at:] as has come, and where the record
// ends, maybe beyond b.
func record(b []byte, at int) (payload []byte, end int, err error) {
	head := b[min(at, len(b)):]
	if len(head) > 0 && head[0] != recordHandshake || len(head) > 1 && head[1] != 3 {
		return nil, 0, ErrNotTLS
	}
	if len(head) < recordHead {
		return nil, 0, moreOrLong(at + recordHead)
	}
	length := int(head[3])<<8 | int(head[4])
	if length == 0 || length > maxRecord {
		return nil, 0, fmt.Errorf("ClientHello: got a record of %d bytes; want 1 to %d", length, maxRecord)
	}
	return head[recordHead:min(len(head), recordHead+length)], at + recordHead + length, nil
}

// moreOrLong is the error for bytes up to end that have not come.
func moreOrLong(end int) error {
	if end > MaxHello {
		return ErrHelloLong
	}
	return ErrMore
}

func parseHello(message []byte) (h Hello, ok bool) {
	s := cryptobyte.String(message)
	var suites, ignored cryptobyte.String
	if !s.Skip(handshakeHead+2+32) || !s.ReadUint8LengthPrefixed(&ignored) || !s.ReadUint16LengthPrefixed(&suites) ||
		len(suites)%2 != 0 || !s.ReadUint8LengthPrefixed(&ignored) {
		return Hello{}, false
	}
	if s.Empty() {
		return h, true // no extensions: TLS 1.2 without a name
	}
	var extensions cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&extensions) || !s.Empty() {
		return Hello{}, false
	}
	seen := map[uint16]bool{}
	for !extensions.Empty() {
		var kind uint16
		var data cryptobyte.String
		// Of two extensions of a kind, different parsers use different ones.
		if !extensions.ReadUint16(&kind) || !extensions.ReadUint16LengthPrefixed(&data) || seen[kind] {
			return Hello{}, false
		}
		seen[kind], ok = true, true
		switch kind {
		case extensionServerName:
			h.ServerName, ok = serverName(data)
		case extensionProtocols:
			h.Protocols, ok = protocols(data)
		}
		if !ok {
			return Hello{}, false
		}
	}
	return h, true
}

func serverName(data cryptobyte.String) (name string, ok bool) {
	var list cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&list) || list.Empty() || !data.Empty() {
		return "", false
	}
	for !list.Empty() {
		var kind uint8
		var value cryptobyte.String
		if !list.ReadUint8(&kind) || !list.ReadUint16LengthPrefixed(&value) || value.Empty() {
			return "", false
		}
		if kind != 0 {
			continue
		}
		// RFC 6066: one name, without a trailing dot.
		if name != "" || value[len(value)-1] == '.' {
			return "", false
		}
		name = lower(value)
	}
	return name, true
}

func protocols(data cryptobyte.String) (names []string, ok bool) {
	var list cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&list) || list.Empty() || !data.Empty() {
		return nil, false
	}
	for !list.Empty() {
		var name cryptobyte.String
		if !list.ReadUint8LengthPrefixed(&name) || name.Empty() {
			return nil, false
		}
		names = append(names, string(name))
	}
	return names, true
}

// lower turns ASCII letters into lower case and leaves all other bytes alone.
func lower(b []byte) string {
	b = bytes.Clone(b)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
