//go:build !linux

package mptcp

import (
	"errors"
	"syscall"
)

// Speaks tells what a connection speaks; on this system it can not tell.
func Speaks(syscall.RawConn) (Transport, error) { return Unknown, errors.ErrUnsupported }

// SubflowCount fails with ErrNotMPTCP.
func SubflowCount(syscall.RawConn) (int, error) { return 0, ErrNotMPTCP }

// Unclog fails with ErrNotMPTCP.
func Unclog(syscall.RawConn) (bool, error) { return false, ErrNotMPTCP }

// Read fails with ErrNotMPTCP.
func (i *Info) Read(syscall.RawConn) error {
	i.reset()
	return ErrNotMPTCP
}

// Look fails with ErrNotMPTCP.
func Look(syscall.RawConn) (Glance, error) { return Glance{}, ErrNotMPTCP }
