package passthrough

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mpgate/proxy/netio"
	"mpgate/task"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is both ends of a TCP connection.
func pair(t *testing.T) (far *net.TCPConn, near *netio.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if near, err = netio.New(accepted); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); near.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c.(*net.TCPConn), near
}

// relay runs Relay between two fresh connections.
func relay(t *testing.T, idle time.Duration) (client, server *net.TCPConn, done chan Result) {
	t.Helper()
	client, nearClient := pair(t)
	server, nearServer := pair(t)
	done = make(chan Result, 1)
	go func() { done <- Relay(nearClient, nil, nearServer, idle) }()
	return client, server, done
}

func TestRelayBothWaysAndHalfClose(t *testing.T) {
	client, server, done := relay(t, time.Minute)
	large := strings.Repeat("0123456789abcdef", 1<<16)
	go func() {
		_, _ = io.WriteString(client, large)
		_ = client.CloseWrite()
	}()
	got, err := io.ReadAll(server) // ends with the client's direction
	if err != nil || string(got) != large {
		t.Fatalf("the server got %d bytes, %v; want %d", len(got), err, len(large))
	}
	if _, err := io.WriteString(server, "answer"); err != nil {
		t.Fatal(err)
	}
	_ = server.CloseWrite()
	if got, err := io.ReadAll(client); err != nil || string(got) != "answer" {
		t.Errorf("the client got %q, %v", got, err)
	}
	if got, want := <-done, (Result{ToServer: int64(len(large)), ToClient: 6}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestRelayEndsWhenBothAreIdle(t *testing.T) {
	const idle = 400 * time.Millisecond
	client, server, done := relay(t, idle)
	start := time.Now()
	b := make([]byte, 1)
	for range 4 { // one direction moves for longer than the idle time, the other one is silent
		<-time.After(idle / 2)
		if _, err := server.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(client, b); err != nil {
			t.Fatal(err)
		}
	}
	r := <-done
	if !errors.Is(r.Err, os.ErrDeadlineExceeded) || r.ToClient != 4 || r.ToServer != 0 {
		t.Errorf("got %+v", r)
	}
	if took := time.Since(start); took < 3*idle {
		t.Errorf("it ended after %v, while one direction moved", took)
	}
}

func TestRelayNamesTheEndThatFailed(t *testing.T) {
	for name, reset := range map[string]func(client, server *net.TCPConn) *net.TCPConn{
		"client": func(client, _ *net.TCPConn) *net.TCPConn { return client },
		"server": func(_, server *net.TCPConn) *net.TCPConn { return server },
	} {
		t.Run(name, func(t *testing.T) {
			client, server, done := relay(t, time.Minute)
			c := reset(client, server)
			_ = c.SetLinger(0)
			c.Close()
			if r := <-done; r.Err == nil || r.ByServer != (name == "server") {
				t.Errorf("got %+v", r)
			}
		})
	}
}

func TestStopEndsBothDirections(t *testing.T) {
	client, nearClient := pair(t)
	server, nearServer := pair(t)
	p := Pump{Client: &conn{Stream: nearClient, idle: time.Minute}, Server: &conn{Stream: nearServer, idle: time.Minute}, Idle: time.Minute}
	done := make(chan Result, 1)
	go func() { done <- p.Run() }()
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(server, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	why := errors.New("enough")
	p.Stop(why, false)
	if r := <-done; r.Err != why || r.ByServer || r.ToServer != 1 {
		t.Errorf("got %+v, want the error %v", r, why)
	}
}

// panics is an End whose reads panic.
type panics struct{ *conn }

func (panics) Next(bool) ([]byte, error) { panic("test") }

// TestPanicStopsBothDirections: a panic in either direction continues to the caller of Run, once
// the other direction has ended.
func TestPanicStopsBothDirections(t *testing.T) {
	for _, byServer := range []bool{false, true} {
		_, nearClient := pair(t)
		_, nearServer := pair(t)
		client, server := &conn{Stream: nearClient, idle: time.Minute}, &conn{Stream: nearServer, idle: time.Minute}
		p := Pump{Client: panics{client}, Server: server, Idle: time.Minute}
		if byServer {
			p.Client, p.Server = client, panics{server}
		}
		func() {
			defer func() {
				v := recover()
				if second, ok := v.(*task.Panic); ok && !byServer {
					v = second.Value
				}
				if v != "test" {
					t.Errorf("by the server %v: got a panic with %v", byServer, v)
				}
			}()
			t.Errorf("by the server %v: Run returned %+v", byServer, p.Run())
		}()
	}
}
