package http2

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mpgate/proxy/message"
	"mpgate/proxy/netio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// front is a server of ours on a socket.
type front struct {
	addr  string
	ended chan error // of each connection
	conns chan *ServerConn
}

// serve accepts connections and gives each stream to handler.
func serve(t testing.TB, o ServerOptions, handler func(*ServerStream)) *front {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{addr: ln.Addr().String(), ended: make(chan error, 1024), conns: make(chan *ServerConn, 1024)}
	done := make(chan struct{})
	open := make(chan struct{}, 1<<16)
	var all []*netio.Conn
	go func() {
		defer close(done)
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			base, err := netio.New(nc)
			if err != nil {
				t.Error(err)
				return
			}
			all = append(all, base)
			c := NewServerConn(base, nil, &o, handler)
			f.conns <- c
			open <- struct{}{}
			go func() {
				f.ended <- c.Serve()
				base.Close()
				<-open
			}()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
		for _, c := range all {
			c.Abort()
		}
		for len(open) > 0 {
			select {
			case open <- struct{}{}:
				<-open
			case <-time.After(time.Millisecond):
			}
		}
	})
	return f
}

// answer gives every request the same response.
func answer(status int, body string, more ...string) func(*ServerStream) {
	return func(s *ServerStream) {
		var r message.Request
		if err := s.ReadRequest(&r, time.Time{}); err != nil {
			var fault *message.Error
			if !errors.As(err, &fault) {
				return
			}
			respond(s, fault.Status, fault.Reason)
			return
		}
		for {
			if _, err := s.Body().Next(true); err != nil {
				break
			}
		}
		respond(s, status, body, more...)
	}
}

func respond(s *ServerStream, status int, body string, more ...string) {
	r := message.Response{Status: status, ContentLength: int64(len(body))}
	for i := 0; i < len(more); i += 2 {
		r.Header.AddName([]byte(more[i]), []byte(more[i+1]))
	}
	if s.WriteHead(&r) != nil {
		return
	}
	if s.WriteBody([]byte(body)) == nil {
		_ = s.End(nil)
	}
}

// echo gives the body back as it comes, with what it was told of it.
func echo(s *ServerStream) {
	var r message.Request
	if s.ReadRequest(&r, time.Time{}) != nil {
		return
	}
	resp := message.Response{Status: 200, ContentLength: r.ContentLength}
	resp.Header.AddName([]byte("x-method"), r.Method)
	resp.Header.AddName([]byte("x-path"), r.Path)
	resp.Header.AddName([]byte("x-host"), r.Host)
	resp.Header.AddString(message.Trailer, "x-sum")
	if s.WriteHead(&resp) != nil {
		return
	}
	n := 0
	for {
		p, err := s.Body().Next(false)
		if err == message.ErrWait {
			if s.Flush() != nil {
				return
			}
			p, err = s.Body().Next(true)
		}
		if err == io.EOF {
			break
		}
		if err != nil || s.WriteBody(p) != nil {
			return
		}
		n += len(p)
	}
	var trailer message.Header
	trailer.AddName([]byte("X-Sum"), strconv.AppendInt(nil, int64(n), 10))
	for i := range r.Trailer.Len() {
		if _, name, value, ok := r.Trailer.At(i); ok {
			trailer.AddName(name, value)
		}
	}
	_ = s.End(&trailer)
}

// oracle is a client of net/http.
func oracle(t testing.TB) *http.Client {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: &p}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}
