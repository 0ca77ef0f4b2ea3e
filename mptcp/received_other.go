//go:build !linux

package mptcp

import (
	"errors"
	"syscall"
)

// LastReceived can not tell on this system.
func LastReceived(syscall.RawConn) (Received, error) { return Received{}, errors.ErrUnsupported }
