package demo

import (
	"context"
	"errors"
	"net"
	"net/http"
	"syscall"
	"time"

	"mpgate/mptcp"
)

// Server is one demo server.
type Server struct {
	Name      string
	Addr      string // host:port
	Transport mptcp.Transport

	listener *net.TCPListener
	http     *http.Server
}

// Open listens at a free port of 127.0.0.1, with MPTCP where mode and the host allow it.
func Open(ctx context.Context, name string, mode mptcp.Mode) (*Server, error) {
	l, granted, err := mptcp.Listen(ctx, "127.0.0.1:0", mptcp.ListenOptions{Mode: mode})
	if err != nil {
		return nil, err
	}
	s := &Server{Name: name, Addr: l.Addr().String(), Transport: granted, listener: l}
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 10 * time.Second,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
	}
	return s, nil
}

// Serve answers until Close.
func (s *Server) Serve() error {
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close ends the server and what it is doing.
func (s *Server) Close() error {
	err := s.http.Close()
	_ = s.listener.Close() // if it never served
	return err
}

type connKey struct{}

// connOf is the connection of a request, nil if it is unknown.
func connOf(r *http.Request) syscall.RawConn {
	c, ok := r.Context().Value(connKey{}).(syscall.Conn)
	if !ok {
		return nil
	}
	rc, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	return rc
}
