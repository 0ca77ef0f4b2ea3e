//go:build !linux

package netio

import (
	"errors"
	"time"
)

// SpliceMin is the least number of bytes for which moving them inside the kernel is worth its
// calls.
const SpliceMin = 32 << 10

// SpliceError says which side ended a splice.
type SpliceError struct {
	Reading bool
	Err     error
}

func (e *SpliceError) Error() string { return e.Err.Error() }
func (e *SpliceError) Unwrap() error { return e.Err }

type (
	splicer  struct{}
	outgoing struct{}
)

// CanSplice is false: only Linux moves bytes between sockets inside the kernel.
func CanSplice(_, _ *Conn) bool { return false }

// Splice is not there.
func Splice(_, _ *Conn, _ int64, _ bool) (int64, time.Duration, error) {
	return 0, 0, errors.New("netio: no splice on this system")
}
