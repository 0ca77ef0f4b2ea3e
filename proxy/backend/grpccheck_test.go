package backend

import (
	"encoding/binary"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"mpgate/internal/proxytest"
)

// A server of grpc-go says by its health service whether it wants requests.
func TestGRPCCheck(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, says := grpc.NewServer(), health.NewServer()
	healthpb.RegisterHealthServer(server, says)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(ln) }()
	t.Cleanup(func() { server.Stop(); <-done })

	check := &CheckOptions{GRPC: true, Service: "app.Orders", Interval: 10 * time.Millisecond, Timeout: proxytest.Patience}
	b, in := pool(t, Options{Servers: servers(ln.Addr().String()), Protocol: HTTP2, Check: check})
	waitWhy(t, b, `grpc.health.v1 of "app.Orders": NOT_FOUND: the server does not know the service`)
	says.SetServingStatus("app.Orders", healthpb.HealthCheckResponse_SERVING)
	waitWhy(t, b, "")
	says.SetServingStatus("app.Orders", healthpb.HealthCheckResponse_NOT_SERVING)
	waitWhy(t, b, `grpc.health.v1 of "app.Orders": NOT_SERVING`)
	if n := proxytest.Metric(t, in.Registry(), "mpgate_backend_connections_open"); n != 1 {
		t.Errorf("%v connections, want one that all checks share", n)
	}

	whole := *check
	whole.Service = ""
	b, _ = pool(t, Options{Servers: servers(ln.Addr().String()), Protocol: HTTP2, Check: &whole})
	waitWhy(t, b, "")
	says.Shutdown() // as a server that drains does
	waitWhy(t, b, "grpc.health.v1: NOT_SERVING")
}

func TestGRPCCheckOfOtherServers(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(ln) }()
	t.Cleanup(func() { server.Stop(); <-done })
	check := &CheckOptions{GRPC: true, Interval: 10 * time.Millisecond, Timeout: proxytest.Patience}
	b, _ := pool(t, Options{Servers: servers(ln.Addr().String()), Protocol: HTTP2, Check: check})
	waitWhy(t, b, "grpc.health.v1: UNIMPLEMENTED: the server has no health service")

	refusing := proxytest.NewRefusing(t)
	b, _ = pool(t, Options{Servers: servers(refusing.Address), Protocol: HTTP2, Check: check})
	waitWhy(t, b, "refused")
	serveH2C(t, refusing.Listen())
	waitWhy(t, b, "grpc.health.v1: ") // it answers, but not in gRPC
}

func TestHealthResponse(t *testing.T) {
	message := func(m ...byte) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m))), m...)
	}
	for _, c := range []struct {
		b      []byte
		status uint64
		ok     bool
	}{
		{message(8, 1), 1, true},
		{message(8, 2), 2, true},
		{message(), 0, true},
		{message(0x1a, 2, 'h', 'i', 8, 1), 1, true}, // an unknown field before it
		{message(0x11, 1, 2, 3, 4, 5, 6, 7, 8, 0x15, 1, 2, 3, 4, 8, 1), 1, true},
		{nil, 0, false},
		{[]byte{0, 0, 0, 0}, 0, false},
		{[]byte{1, 0, 0, 0, 2, 8, 1}, 0, false}, // compressed
		{[]byte{0, 0, 0, 0, 3, 8, 1}, 0, false},
		{message(8), 0, false},
		{message(0x1a, 9, 'h'), 0, false},
		{message(0x1a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1), 0, false},
		{message(0x11, 1), 0, false},
		{message(0x13), 0, false},
		{message(0xff, 0xff), 0, false},
	} {
		if status, ok := healthResponse(c.b); status != c.status || ok != c.ok {
			t.Errorf("% x: %d, %v; want %d, %v", c.b, status, ok, c.status, c.ok)
		}
	}
}

func FuzzHealthResponse(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 2, 8, 1})
	f.Fuzz(func(_ *testing.T, b []byte) { healthResponse(b) })
}
