package netio

import "errors"

// ErrAgain is what a read gives instead of waiting. It is temporary in the sense of net.Error, so
// that crypto/tls keeps what it has read and can be asked again.
var ErrAgain error = errAgain{}

type errAgain struct{}

func (errAgain) Error() string   { return "netio: nothing to read yet" }
func (errAgain) Timeout() bool   { return true }
func (errAgain) Temporary() bool { return true }

// ErrInterrupted is what a read gives after Interrupt. It is temporary, as ErrAgain is.
var ErrInterrupted error = errInterrupted{}

type errInterrupted struct{}

func (errInterrupted) Error() string   { return "netio: read interrupted" }
func (errInterrupted) Timeout() bool   { return true }
func (errInterrupted) Temporary() bool { return true }

// ErrNotIdle is what a Fill after ExpectIdle gives when the peer has closed the connection or sent
// something. Nothing was sent to it.
var ErrNotIdle = errors.New("netio: the peer closed the connection or sent unexpected data")
