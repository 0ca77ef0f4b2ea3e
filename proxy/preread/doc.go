// Package preread reads what comes before HTTP on a connection, from the bytes that have come so
// far:
//
//	ParseProxy  the PROXY protocol's header, version 1 or 2; Append writes one
//	Detect      TLS, HTTP/1 or HTTP/2, by the first bytes
//	ParseHello  server name and protocols of a TLS ClientHello, for connections that are passed through
//
// All three are given everything read since the connection, or the header before, began. They
// return ErrMore when that is right so far but not complete; the caller reads on and asks again,
// within its header timeout. Any other error is final: more bytes will not fix it. All answer at
// the first byte that decides, so nobody waits for bytes that a short request does not send, and
// never want more than MaxProxy or MaxHello bytes.
package preread

import "errors"

// ErrMore says that what has come is right so far, and that more has to come.
var ErrMore = errors.New("more bytes are needed")
