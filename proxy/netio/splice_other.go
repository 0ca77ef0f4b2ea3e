//go:build !linux

package netio

import (
	"errors"
	"time"
)

type (
	spliceInput  struct{}
	spliceOutput struct{}
)

// CanSplice is false: only Linux moves bytes between sockets inside the kernel.
func CanSplice(_, _ *Conn) bool { return false }

// Splice is not supported on this system.
func Splice(_, _ *Conn, _ int64, _ bool) (int64, time.Duration, error) {
	return 0, 0, errors.New("netio: no splice on this system")
}
