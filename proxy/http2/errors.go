package http2

import (
	"errors"
	"fmt"

	"golang.org/x/net/http2"

	"mpgate/proxy/message"
)

// ErrNotProcessed: the server has not processed the request, which may be sent again whatever its
// method is (RFC 9113 section 8.7).
var ErrNotProcessed = errors.New("the server did not process the request")

// ErrRefused is an ErrNotProcessed of a stream that the server refused; its connection continues.
var ErrRefused = fmt.Errorf("%w: it refused the stream", ErrNotProcessed)

// ErrFull: the connection carries as many streams as the server allows.
var ErrFull = errors.New("the connection carries as many streams as it may")

// ErrClosed: the connection takes no more streams.
var ErrClosed = errors.New("the connection takes no more streams")

// ErrNoConnect: the server does not offer extended CONNECT (RFC 8441), so a stream can carry
// nothing but HTTP.
var ErrNoConnect = errors.New("the server does not support extended CONNECT")

// ErrTooSlow: the connection ended because the peer did not continue in time. Unlike after
// os.ErrDeadlineExceeded, a stream cannot wait longer.
var ErrTooSlow = errors.New("the peer was too slow, and the connection ended")

// ErrInternal: an error of this program, not of the peer, which is reported elsewhere.
var ErrInternal = errors.New("internal error")

var (
	errAborted   = errors.New("the stream was aborted")
	errBodyEnded = errors.New("write after the end of the body")
	errSilent    = errors.New("the peer does not answer a ping")
)

// ResetError is a stream that the peer has reset.
type ResetError struct{ Code http2.ErrCode }

func (e *ResetError) Error() string { return "the peer reset the stream: " + e.Code.String() }

// ConnError is a connection that ended because of an error of the peer.
type ConnError struct {
	Code   http2.ErrCode
	Reason string
}

func (e *ConnError) Error() string { return fmt.Sprintf("%s: %v", e.Reason, e.Code) }

// Is says that an error with the code INTERNAL_ERROR, which no error of a peer has, is ErrInternal.
func (e *ConnError) Is(target error) bool {
	return target == ErrInternal && e.Code == http2.ErrCodeInternal
}

func protocolError(reason string) error { return &ConnError{http2.ErrCodeProtocol, reason} }

func enhanceYourCalm(reason string) error { return &ConnError{http2.ErrCodeEnhanceYourCalm, reason} }

// GoAwayError is a connection that the server has closed with an error code in a GOAWAY frame.
type GoAwayError struct {
	Code http2.ErrCode
	Err  error // the end of the connection
}

func (e *GoAwayError) Error() string {
	return "the server closed the connection, code " + e.Code.String() + ": " + e.Err.Error()
}

func (e *GoAwayError) Unwrap() error { return e.Err }

func fault(status int, reason string) *message.Error {
	return &message.Error{Status: status, Reason: reason}
}

// One value for each error of a message. Those of status 400 make it malformed (RFC 9113 section
// 8.1.1), others are only answered.
var (
	errName          = fault(400, "invalid field name: not a lower-case token")
	errValue         = fault(400, "a field value holds a control character or ends in white space")
	errConnection    = fault(400, "a connection-specific field")
	errTE            = fault(400, "TE is not exactly trailers")
	errPseudoLate    = fault(400, "a pseudo-header field after a regular one")
	errPseudoTwice   = fault(400, "a pseudo-header field is repeated")
	errPseudoUnknown = fault(400, "an unknown pseudo-header field")
	errPseudoTrailer = fault(400, "a pseudo-header field in trailers")
	errPseudoMissing = fault(400, "a pseudo-header field is missing")
	errPseudoConnect = fault(400, "CONNECT with :scheme or :path")
	errMethod        = fault(400, "invalid method")
	errLongMethod    = fault(501, "method is longer than 32 bytes")
	errScheme        = fault(400, ":scheme is neither http nor https")
	errConnect       = fault(405, "CONNECT is not supported")
	errProtocol      = fault(501, "extended CONNECT for a protocol other than websocket")
	errTarget        = fault(400, "malformed :path")
	errHostMissing   = fault(400, "neither :authority nor Host")
	errHostTwice     = fault(400, "more than one Host field")
	errHost          = fault(400, "malformed :authority or Host")
	errHostMismatch  = fault(400, "Host differs from :authority")
	errLength        = fault(400, "malformed Content-Length")
	errLengthTwice   = fault(400, "more than one Content-Length field")
	errLengthBig     = fault(413, "Content-Length is too large")
	errLengthWrong   = fault(400, "the body is not as long as its Content-Length")
	errHeaderBytes   = fault(431, "header is longer than the limit")
	errHeaderFields  = fault(431, "header has more fields than the limit")
	errTrailerBytes  = fault(431, "trailers are longer than the header limit")
	errExpect        = fault(417, "an expectation other than 100-continue")
	errStatus        = fault(502, ":status is not a number from 100 to 599 without 101")
	errInterim       = fault(502, "more than 32 interim responses")
	errInterimEnd    = fault(502, "an interim response that ends the stream")
	errAccept        = fault(502, "Sec-WebSocket-Accept does not answer the key")
	errNoTunnel      = fault(502, "CONNECT was answered with a 2xx that opens no tunnel")
)
