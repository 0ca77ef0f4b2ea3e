// Package preread reads what comes before HTTP on a connection, from the bytes that have come so
// far:
//
//	ParseProxy  the PROXY protocol's header, version 1 or 2; Append writes one
//	Detect      TLS, HTTP/1 or HTTP/2, by the first bytes
//	ParseHello  server name and protocols of a TLS ClientHello, for connections that are passed through
//
// All three get everything that was read since the connection began, or since the end of the header
// before. They return ErrMore when that is valid so far but not complete; the caller reads more and
// calls again, within its header timeout. Any other error is final. All decide at the first byte
// that allows it, so that none waits for bytes that a short request does not send, and need at most
// MaxProxy or MaxHello bytes.
package preread

import "errors"

// ErrMore says that what has come is valid but not complete.
var ErrMore = errors.New("more bytes are needed")
