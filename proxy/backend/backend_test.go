package backend

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/proxy/message"
	"mpgate/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pool makes a backend that runs as long as the test. Its origins use TCP.
func pool(t *testing.T, o Options, prepare ...func(*Backend)) (*Backend, *telemetry.Instruments) {
	t.Helper()
	o.Name, o.Instruments = "pool", telemetry.NewInstruments("test")
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range prepare {
		f(b)
	}
	ctx, stop := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	wait.Go(func() { _ = b.Run(ctx) })
	t.Cleanup(func() { stop(); wait.Wait() })
	return b, o.Instruments
}

func silent(c *proxytest.Conn) { _, _ = c.R.ReadByte() }

func servers(addresses ...string) (list []ServerOptions) {
	for _, a := range addresses {
		list = append(list, ServerOptions{Address: a, MPTCP: mptcp.Off})
	}
	return list
}

func TestInvalidOptions(t *testing.T) {
	for _, c := range []struct {
		servers []ServerOptions
		want    string
	}{
		{nil, `backend "b" has no servers`},
		{servers("example.org"), `backend "b": server "example.org": want host:port or unix:/path`},
		{servers("10.0.0.1:80", "[::1"), `backend "b": server "[::1": want host:port or unix:/path`},
		{servers("example.org:0"), `backend "b": server "example.org:0": want a port from 1 to 65535`},
		{servers("example.org:65536"), `backend "b": server "example.org:65536": want a port from 1 to 65535`},
		{servers("example.org:http"), `backend "b": server "example.org:http": want a port from 1 to 65535`},
	} {
		_, err := New(Options{Name: "b", Servers: c.servers})
		if err == nil || err.Error() != c.want {
			t.Errorf("%v: got %v, want %s", c.servers, err, c.want)
		}
	}
	want := `backend "b": unknown balance "random": want one of round_robin, least, latency, first, hash`
	if _, err := New(Options{Name: "b", Servers: servers("10.0.0.1:80"), Balance: "random"}); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// open opens a stream, ends it, and returns the server.
func open(t *testing.T, b *Backend) (server string, tries int, err error) {
	t.Helper()
	var a Attempt
	a.Reset(b)
	up, err := a.Open(context.Background(), &Request{Now: time.Now(), Repeatable: true, Bodyless: true})
	if err == nil {
		up.Abort()
		up.Release(time.Now())
	}
	if a.Server() != nil {
		server = a.Server().Address
	}
	return server, a.Tries(), err
}

// exchange sends a request without a body, and returns the body of the response.
func exchange(t *testing.T, up Stream, method string, fields ...string) string {
	t.Helper()
	r := &message.Request{Method: []byte(method), Scheme: "http", Host: []byte("a.example"), Path: []byte("/")}
	for i := 0; i+1 < len(fields); i += 2 {
		r.Header.AddName([]byte(fields[i]), []byte(fields[i+1]))
	}
	var resp message.Response
	err := up.WriteHead(r)
	if err == nil {
		err = up.End(nil)
	}
	if err == nil {
		err = up.ReadHead(&resp, time.Now().Add(proxytest.Patience))
	}
	var body []byte
	for err == nil && !resp.NoBody {
		var p []byte
		p, err = up.Body().Next(true)
		body = append(body, p...)
	}
	if err != nil && err != io.EOF {
		t.Fatal(err)
	}
	up.Release(time.Now())
	return string(body)
}

// ask sends a request to a server of the pool, and returns the body of the response.
func ask(t *testing.T, b *Backend, method string, fields ...string) string {
	t.Helper()
	var a Attempt
	a.Reset(b)
	up, err := a.Open(t.Context(), &Request{Now: time.Now(), Repeatable: method == "GET", Bodyless: true})
	if err != nil {
		t.Fatal(err)
	}
	return exchange(t, up, method, fields...)
}

func TestThreeTriesAtMost(t *testing.T) {
	var list []string
	for range 5 {
		list = append(list, proxytest.NewRefusing(t).Address)
	}
	b, in := pool(t, Options{Servers: servers(list...)})
	_, tries, err := open(t, b)
	if tries != 3 || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%d tries, %v; want 3 and a refusal", tries, err)
	}
	if n := proxytest.Metric(t, in.Registry(), "mpgate_backend_retries_total"); n != 2 {
		t.Errorf("%v retries, want 2", n)
	}
	if n := down(b); n != 3 {
		t.Errorf("%d servers are down, want the 3 that were tried", n)
	}
	if _, tries, err = open(t, b); tries != 3 || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%d tries, %v; want 3 and a refusal", tries, err)
	}
	for _, s := range b.Status() {
		if !s.Down || s.Transport != "" {
			t.Errorf("%+v is not down", s)
		}
	}
}

func down(b *Backend) (n int) {
	for _, s := range b.Status() {
		if s.Down {
			n++
		}
	}
	return n
}

func TestOnlyServerIsUsedAtOnceAfterAnOutage(t *testing.T) {
	server := proxytest.NewRefusing(t)
	b, _ := pool(t, Options{Servers: servers(server.Address)})
	if _, _, err := open(t, b); err == nil {
		t.Fatal("no error, though no server listens")
	}
	proxytest.OriginOn(t, server.Listen(), silent)
	if _, _, err := open(t, b); err != nil {
		t.Fatal(err)
	}
	if s := b.Status()[0]; s.Down || s.Transport != "tcp" {
		t.Errorf("%+v", s)
	}
}

func TestCloseClosesIdleConnections(t *testing.T) {
	gone := make(chan struct{}, 1)
	o := proxytest.NewOrigin(t, mptcp.Off, func(c *proxytest.Conn) { silent(c); gone <- struct{}{} })
	b, in := pool(t, Options{Servers: servers(o.Address())})
	s := b.list()[0]
	_, c, err := s.dial(context.Background(), Addresses{}, false)
	if err != nil {
		t.Fatal(err)
	}
	s.putIdle(c, time.Now())
	if n := proxytest.Metric(t, in.Registry(), "mpgate_backend_connections_idle"); n != 1 || b.Status()[0].Idle != 1 {
		t.Errorf("%v idle, %+v; want one", n, b.Status())
	}
	s.close()
	<-gone
	_, late, err := s.dial(context.Background(), Addresses{}, false)
	if err != nil {
		t.Fatal(err)
	}
	s.putIdle(late, time.Now()) // too late
	<-gone
	if n := proxytest.Metric(t, in.Registry(), "mpgate_backend_connections_open"); n != 0 {
		t.Errorf("%v open, want none", n)
	}
}

func TestConnectResults(t *testing.T) {
	for _, c := range []struct {
		err  error
		want telemetry.ConnectResult
	}{
		{nil, telemetry.ConnectOK},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, telemetry.ConnectRefused},
		{&net.OpError{Op: "dial", Err: context.DeadlineExceeded}, telemetry.ConnectTimeout},
		{os.NewSyscallError("connect", syscall.ETIMEDOUT), telemetry.ConnectTimeout},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}, telemetry.ConnectUnreachable},
		{os.NewSyscallError("connect", syscall.ENETUNREACH), telemetry.ConnectUnreachable},
		{os.NewSyscallError("connect", syscall.ENOENT), telemetry.ConnectUnreachable},
		{&net.DNSError{Err: "no such host", IsNotFound: true}, telemetry.ConnectError},
		{errors.New("x"), telemetry.ConnectError},
	} {
		if got := connectResult(c.err); got != c.want {
			t.Errorf("%v is %v, want %v", c.err, got, c.want)
		}
	}
}

func TestRequiredMPTCP(t *testing.T) {
	proxytest.NeedMPTCP(t)
	o := proxytest.NewOrigin(t, mptcp.Off, silent)
	list := servers(o.Address())
	list[0].MPTCP = mptcp.Require
	b, _ := pool(t, Options{Servers: list})
	_, _, err := open(t, b)
	if !NeedsMPTCP(err) || !strings.Contains(err.Error(), "MPTCP is required") || TimedOut(err) {
		t.Errorf("got %v", err)
	}
	if b.Status()[0].Down {
		t.Error("a server that works over TCP is down")
	}
}

// A request whose route was matched just before a reload still reaches its server.
func TestOpenAfterTheEnd(t *testing.T) {
	for _, p := range []Protocol{HTTP1, HTTP2} {
		l := proxytest.Listen(t, mptcp.Off)
		var protocols http.Protocols
		protocols.SetHTTP1(true)
		protocols.SetUnencryptedHTTP2(true)
		s := &http.Server{Protocols: &protocols}
		go func() { _ = s.Serve(l) }()
		b, err := New(Options{Name: "b", Servers: servers(l.Addr().String()), Protocol: p, Instruments: telemetry.NewInstruments("t")})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		stop()
		b.Run(ctx)
		var a Attempt
		a.Reset(b)
		up, err := a.Open(context.Background(), &Request{Bodyless: true, Repeatable: true, Now: time.Now()})
		if err != nil {
			t.Errorf("protocol %d: %v", p, err)
		} else {
			up.Abort()
			up.Release(time.Now())
		}
		s.Close()
	}
}
