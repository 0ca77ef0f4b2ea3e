package message

import "errors"

// Error is why a codec refused a message. A client's is answered with Status; a server's becomes a
// 502.
type Error struct {
	Status int    // 400, 405, 408, 413, 414, 417, 431, 501 or 505; 502 for a response
	Reason string // what is wrong, for the log and the error body
}

func (e *Error) Error() string { return e.Reason }

// ErrBodyLength: a body is not as long as its Content-Length.
var ErrBodyLength = errors.New("the body is not as long as its Content-Length")
