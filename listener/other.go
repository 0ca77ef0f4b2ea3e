//go:build !linux

package listener

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"

	"mpgate/mptcp"
)

type kind struct {
	stream, listening bool
	transport         mptcp.Transport
	address, device   string
}

// kindOf cannot examine as much as on Linux: what package net accepts as a listener is one.
func kindOf(f *os.File) (kind, error) {
	l, err := net.FileListener(f)
	if err != nil {
		return kind{}, err
	}
	defer l.Close()
	k := kind{stream: true, listening: true, transport: mptcp.TCP, address: l.Addr().String()}
	if _, ok := l.(*net.UnixListener); ok {
		k.transport, k.address = mptcp.Unix, "unix:"+k.address
	}
	return k, nil
}

func describe(f *os.File) string {
	k, err := kindOf(f)
	if err != nil {
		return "not a listening socket"
	}
	return k.address + ", " + k.transport.String()
}

func (s *Socket) dup(name string) (*os.File, error) {
	if s.tcp != nil {
		return Dup(s.tcp, name)
	}
	return Dup(s.unix, name)
}

// Dup duplicates the descriptor of a socket, for another process.
func Dup(socket interface{ File() (*os.File, error) }, _ string) (*os.File, error) {
	return socket.File()
}

type unixFile struct{ path string }

func (f unixFile) remove() error {
	if f.path == "" {
		return nil
	}
	return os.Remove(f.path)
}

func listenUnix(_ context.Context, path string, mode os.FileMode) (*net.UnixListener, unixFile, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, unixFile{}, err
	}
	l.SetUnlinkOnClose(false)
	if strings.HasPrefix(path, "@") {
		return l, unixFile{}, nil
	}
	if err := os.Chmod(path, mode); err != nil {
		l.Close()
		os.Remove(path)
		return nil, unixFile{}, err
	}
	return l, unixFile{path: path}, nil
}

func bindBeside(*net.TCPListener, mptcp.Transport) (*os.File, error) {
	return nil, errors.ErrUnsupported
}
func startListening(*os.File) error        { return errors.ErrUnsupported }
func steer(*net.TCPListener, uint32) error { return errors.ErrUnsupported }
