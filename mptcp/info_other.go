//go:build !linux

package mptcp

import (
	"errors"
	"syscall"
)

// TransportOf returns the transport of a connection, which is unknown on this system.
func TransportOf(syscall.RawConn) (Transport, error) { return Unknown, errors.ErrUnsupported }

// SubflowCount fails with ErrNotMPTCP.
func SubflowCount(syscall.RawConn) (int, error) { return 0, ErrNotMPTCP }

// FixReceiveStall fails with ErrNotMPTCP.
func FixReceiveStall(syscall.RawConn) (bool, error) { return false, ErrNotMPTCP }

// Read fails with ErrNotMPTCP.
func (i *Info) Read(syscall.RawConn) error {
	i.reset()
	return ErrNotMPTCP
}

// ReadSendState fails with ErrNotMPTCP.
func ReadSendState(syscall.RawConn) (SendState, error) { return SendState{}, ErrNotMPTCP }
