package proxy_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"mpgate/proxy"
	"mpgate/proxy/backend"
)

// interopCases are gRPC's interoperability test cases, under their names in its document
// interop-test-descriptions.md, but for those that need cloud credentials, compression or a cache.
// Each ends the test process where it fails, as the interop client does.
var interopCases = []struct {
	name string
	do   func(context.Context, *grpc.ClientConn)
}{
	{"empty_unary", ofTestService(interop.DoEmptyUnaryCall)},
	{"large_unary", ofTestService(interop.DoLargeUnaryCall)},
	{"client_streaming", ofTestService(interop.DoClientStreaming)},
	{"server_streaming", ofTestService(interop.DoServerStreaming)},
	{"ping_pong", ofTestService(interop.DoPingPong)},
	{"empty_stream", ofTestService(interop.DoEmptyStream)},
	{"timeout_on_sleeping_server", ofTestService(interop.DoTimeoutOnSleepingServer)},
	{"cancel_after_begin", ofTestService(interop.DoCancelAfterBegin)},
	{"cancel_after_first_response", ofTestService(interop.DoCancelAfterFirstResponse)},
	{"custom_metadata", ofTestService(interop.DoCustomMetadata)},
	{"status_code_and_message", ofTestService(interop.DoStatusCodeAndMessage)},
	{"special_status_message", ofTestService(interop.DoSpecialStatusMessage)},
	// The server must refuse what it does not have: a service, and a method of one that it has.
	{"unimplemented_service", func(ctx context.Context, cc *grpc.ClientConn) {
		interop.DoUnimplementedService(ctx, testgrpc.NewUnimplementedServiceClient(cc))
	}},
	{"unimplemented_method", interop.DoUnimplementedMethod},
}

// ofTestService makes a case of one that calls the service TestService.
func ofTestService(do func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption)) func(context.Context, *grpc.ClientConn) {
	return func(ctx context.Context, cc *grpc.ClientConn) { do(ctx, testgrpc.NewTestServiceClient(cc)) }
}

// grpcServer is a server of the given service.
func grpcServer(t testing.TB, register func(*grpc.Server)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	register(s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln)
	}()
	t.Cleanup(func() { s.Stop(); <-done })
	return ln.Addr().String()
}

func grpcClient(t testing.TB, address string) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

var grpcSetup = setup{
	mode:     plain,
	listener: proxy.ListenerOptions{H2C: true},
	backend:  backend.Options{Protocol: backend.HTTP2},
}

func TestGRPCInterop(t *testing.T) {
	s := grpcSetup
	s.routes = func(b *backend.Backend) []proxy.Route {
		return []proxy.Route{{Name: "all", Action: &proxy.Forward{Backend: b}, KeepUnsafeNames: true}}
	}
	g := startBefore(t, s, grpcServer(t, func(s *grpc.Server) {
		testgrpc.RegisterTestServiceServer(s, interop.NewTestServer())
	}))
	cc := grpcClient(t, g.addr)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, c := range interopCases {
		t.Run(c.name, func(*testing.T) { c.do(ctx, cc) })
	}
	cc.Close()
	g.waitMetric(0, "mpgate_http_requests_in_flight")
	for _, l := range g.lines() {
		switch {
		case l.End == "ok", l.End == "client_gone":
		// The server keeps deadlines too.
		case l.End == "backend_reset" && l.Path == "/grpc.testing.TestService/FullDuplexCall":
		default:
			t.Errorf("%s ended with %q", l.Path, l.End)
		}
	}
}

// trailersOnly answers every call with an error and nothing else: one HEADERS with END_STREAM.
type trailersOnly struct {
	testgrpc.UnimplementedTestServiceServer
}

func (trailersOnly) EmptyCall(context.Context, *testgrpc.Empty) (*testgrpc.Empty, error) {
	return nil, status.Error(codes.NotFound, "no such thing")
}

func (trailersOnly) StreamingOutputCall(_ *testgrpc.StreamingOutputCallRequest,
	s testgrpc.TestService_StreamingOutputCallServer) error {
	<-s.Context().Done()
	return s.Context().Err()
}

func TestGRPCTrailersOnlyStaysSo(t *testing.T) {
	g := startBefore(t, grpcSetup, grpcServer(t, func(s *grpc.Server) {
		testgrpc.RegisterTestServiceServer(s,
			trailersOnly{})
	}))
	cc := grpcClient(t, g.addr)
	c := testgrpc.NewTestServiceClient(cc)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for range 500 {
		if _, err := c.EmptyCall(ctx, &testgrpc.Empty{}); status.Code(err) != codes.NotFound ||
			status.Convert(err).Message() != "no such thing" {
			t.Fatalf("got %v", err)
		}
	}
	cc.Close()
	for _, l := range g.lines() {
		if l.End != "ok" || l.GRPCStatus == nil || *l.GRPCStatus != 5 {
			t.Fatalf("the log says %+v", l)
		}
	}
}

// A cancelled call reaches the server at once, before anything was answered.
func TestGRPCCancellationReachesTheServer(t *testing.T) {
	g := startBefore(t, grpcSetup, grpcServer(t, func(s *grpc.Server) {
		testgrpc.RegisterTestServiceServer(s,
			trailersOnly{})
	}))
	cc := grpcClient(t, g.addr)
	ctx, cancel := context.WithCancel(context.Background())
	s, err := testgrpc.NewTestServiceClient(cc).StreamingOutputCall(ctx, &testgrpc.StreamingOutputCallRequest{})
	if err != nil {
		t.Fatal(err)
	}
	g.waitMetric(1, "mpgate_http_requests_in_flight")
	cancel()
	if _, err := s.Recv(); status.Code(err) != codes.Canceled && !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
	g.waitMetric(0, "mpgate_http_requests_in_flight")
	if l := g.log.Next(); l.End != "client_gone" {
		t.Errorf("the log says %q", l.End)
	}
}
