package http1

import "errors"

// Error is a message that was refused. From a client it is answered with Status; from a server it becomes
// a 502.
type Error struct {
	Status int    // 400, 405, 408, 413, 414, 431, 501 or 505
	Reason string // what is wrong, for the log and the error body
}

func (e *Error) Error() string { return e.Reason }

// ErrMore is what a parser gives for a beginning that is valid as far as it goes.
var ErrMore = errors.New("the message is not complete")

// One value for each fault: refusing costs no allocation, and tests compare.
var (
	errBareLF        = &Error{400, "a line ends in a bare LF; want CRLF"}
	errRequestLine   = &Error{400, "malformed request line; want METHOD SP target SP HTTP/1.1"}
	errMethod        = &Error{400, "method is no token"}
	errLongMethod    = &Error{501, "method is longer than 32 bytes"}
	errConnect       = &Error{405, "CONNECT is not served here"}
	errVersion       = &Error{400, "malformed HTTP version"}
	errOtherVersion  = &Error{505, "HTTP version is not 1.0 or 1.1"}
	errTarget        = &Error{400, "malformed request target"}
	errLongTarget    = &Error{414, "request line is longer than the header limit"}
	errHeaderBytes   = &Error{431, "header is longer than the limit"}
	errHeaderFields  = &Error{431, "header has more fields than the limit"}
	errFold          = &Error{400, "a header line begins with white space (obsolete folding)"}
	errNoColon       = &Error{400, "a header line has no colon"}
	errEmptyName     = &Error{400, "a header line has an empty name"}
	errName          = &Error{400, "a header name is no token"}
	errValue         = &Error{400, "a header value holds a control character"}
	errHostMissing   = &Error{400, "Host is missing"}
	errHostTwice     = &Error{400, "Host comes more than once"}
	errHost          = &Error{400, "malformed Host"}
	errHostMismatch  = &Error{400, "Host is another than the request target's"}
	errLength        = &Error{400, "malformed Content-Length"}
	errLengthTwice   = &Error{400, "Content-Length comes more than once"}
	errLengthBig     = &Error{413, "Content-Length is larger than can be counted"}
	errCoding        = &Error{400, "Transfer-Encoding is not exactly chunked"}
	errCodingTwice   = &Error{400, "Transfer-Encoding comes more than once"}
	errCoding10      = &Error{400, "Transfer-Encoding in an HTTP/1.0 message"}
	errBothLengths   = &Error{400, "both Content-Length and Transfer-Encoding"}
	errOptions       = &Error{431, "Connection names more options than the limit of fields"}
	errExpect        = &Error{417, "an expectation other than 100-continue"}
	errStatusLine    = &Error{502, "malformed status line; want HTTP/1.1 SP 3DIGIT SP reason"}
	errInterimBody   = &Error{502, "an interim response with a body"}
	errStatus        = &Error{502, "status code is not from 100 to 599"}
	errChunkSize     = &Error{400, "malformed chunk size"}
	errChunkBig      = &Error{413, "chunk size is larger than can be counted"}
	errChunkLine     = &Error{400, "chunk size line is longer than 256 bytes"}
	errChunkExt      = &Error{400, "malformed chunk extension"}
	errChunkOverhead = &Error{400, "chunk extensions of more than 16 KiB"}
	errChunkEnd      = &Error{400, "no CRLF behind a chunk"}
	errTrailerBytes  = &Error{431, "trailers are longer than the header limit"}
)
