package http1

import (
	"errors"

	"mpgate/proxy/message"
	"mpgate/proxy/target"
)

// Error is a message that was refused.
type Error = message.Error

func fault(status int, reason string) *Error { return &Error{Status: status, Reason: reason} }

// ErrMore is what a parser gives for the valid beginning of a message.
var ErrMore = errors.New("the message is not complete")

// One value for each error: refusing a message allocates nothing, and tests compare.
var (
	errBareLF        = fault(400, "a line ends in a bare LF; want CRLF")
	errRequestLine   = fault(400, "malformed request line; want METHOD SP target SP HTTP/1.1")
	errMethod        = fault(400, "invalid method")
	errLongMethod    = fault(501, "method is longer than 32 bytes")
	errConnect       = fault(405, "CONNECT is not supported")
	errVersion       = fault(400, "malformed HTTP version")
	errOtherVersion  = fault(505, "HTTP version is not 1.0 or 1.1")
	errLongTarget    = fault(414, "request line is longer than the header limit")
	errHeaderBytes   = fault(431, "header is longer than the limit")
	errHeaderFields  = fault(431, "header has more fields than the limit")
	errFold          = fault(400, "a header line begins with white space (obsolete folding)")
	errNoColon       = fault(400, "a header line has no colon")
	errEmptyName     = fault(400, "a header line has an empty name")
	errName          = fault(400, "invalid header field name")
	errValue         = fault(400, "a header value holds a control character")
	errHostMissing   = fault(400, "Host is missing")
	errHostTwice     = fault(400, "more than one Host field")
	errHostMismatch  = fault(400, "Host differs from the host of the request target")
	errLength        = fault(400, "malformed Content-Length")
	errLengthTwice   = fault(400, "more than one Content-Length field")
	errLengthBig     = fault(413, "Content-Length is too large")
	errCoding        = fault(400, "Transfer-Encoding is not exactly chunked")
	errCodingTwice   = fault(400, "more than one Transfer-Encoding field")
	errCoding10      = fault(400, "Transfer-Encoding in an HTTP/1.0 message")
	errBothLengths   = fault(400, "both Content-Length and Transfer-Encoding")
	errOptions       = fault(431, "Connection names more options than the limit of fields")
	errExpect        = fault(417, "an expectation other than 100-continue")
	errStatusLine    = fault(502, "malformed status line; want HTTP/1.1 SP 3DIGIT SP reason")
	errInterimBody   = fault(502, "an interim response with a body")
	errStatus        = fault(502, "status code is not from 100 to 599")
	errChunkSize     = fault(400, "malformed chunk size")
	errChunkBig      = fault(413, "chunk size is too large")
	errChunkLine     = fault(400, "chunk size line is longer than 256 bytes")
	errChunkExt      = fault(400, "malformed chunk extension")
	errChunkOverhead = fault(400, "chunk extensions of more than 16 KiB")
	errChunkEnd      = fault(400, "missing CRLF after chunk")
	errTrailerBytes  = fault(431, "trailers are longer than the header limit")
)

// targetFaults maps the errors of package target to the answers.
var targetFaults = func() map[error]*Error {
	m := map[error]*Error{}
	for _, err := range []error{
		target.ErrTargetEmpty, target.ErrTargetForm, target.ErrTargetAsterisk, target.ErrTargetConnect, target.ErrTargetAuthority,
		target.ErrHostEmpty, target.ErrHostLong, target.ErrHostByte, target.ErrHostLabel, target.ErrHostIPv6, target.ErrHostPort,
		target.ErrPathStart, target.ErrPathControl, target.ErrPathBackslash, target.ErrPathEscape, target.ErrPathNUL,
		target.ErrPathAboveRoot, target.ErrPathHidden, target.ErrQuery,
	} {
		m[err] = fault(400, err.Error())
	}
	return m
}()

var errTarget = fault(400, "malformed request target")

func targetFault(err error) error {
	if f := targetFaults[err]; f != nil {
		return f
	}
	return errTarget
}
