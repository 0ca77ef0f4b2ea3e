//go:build !linux

package mptcp

import (
	"net"
	"syscall"
)

func (o *ListenOptions) prepare(int) error {
	if o.Interface != "" {
		return &net.AddrError{Err: "binding to a device needs Linux", Addr: o.Interface}
	}
	if o.ReusePort {
		return syscall.ENOTSUP
	}
	return nil
}

func (o *ListenOptions) finish(*net.TCPListener) (Transport, error) { return TCP, nil }

// Granted is TCP: nothing else exists on this system.
func Granted(int) (Transport, error) { return TCP, nil }
