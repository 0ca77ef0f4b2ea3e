package backend

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"mpgate/proxy/message"
)

// grpcCheck calls grpc.health.v1.Health/Check, the health service of gRPC.
//
// https://github.com/grpc/grpc/blob/master/doc/health-checking.md and PROTOCOL-HTTP2.md there.
type grpcCheck struct {
	label   string // in errors
	content []byte // of the request: a HealthCheckRequest
	timeout time.Duration
}

const (
	grpcCheckPath = "/grpc.health.v1.Health/Check"
	grpcPrefix    = 5 // bytes before a message: a flag, and the length
)

// servingStatus are the names of HealthCheckResponse.ServingStatus.
var servingStatus = [...]string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}

// The codes of gRPC that checks commonly get.
var grpcCodes = map[string]string{
	"4": "DEADLINE_EXCEEDED", "5": "NOT_FOUND: the server does not know the service", "7": "PERMISSION_DENIED",
	"12": "UNIMPLEMENTED: the server has no health service", "14": "UNAVAILABLE", "16": "UNAUTHENTICATED",
}

func newGRPCCheck(o *CheckOptions) *grpcCheck {
	c := &grpcCheck{label: "grpc.health.v1", timeout: o.Timeout}
	var m []byte
	if o.Service != "" {
		c.label += " of " + strconv.Quote(o.Service)
		m = append(m, 1<<3|2) // field 1, of a length
		m = binary.AppendUvarint(m, uint64(len(o.Service)))
		m = append(m, o.Service...)
	}
	c.content = binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m)))
	c.content = append(c.content, m...)
	return c
}

func (c *grpcCheck) run(ctx context.Context, s *Server) error {
	err := s.checks.kept.exchange(ctx, s, c.timeout, func(a *Ask) { c.prepare(a, s) }, c.verify)
	return checkFailure(c.label, c.timeout, err)
}

func (c *grpcCheck) prepare(a *Ask, s *Server) {
	r := &a.Request
	checkRequest(r, s, "POST", grpcCheckPath, "")
	r.Header.AddString(message.ContentType, "application/grpc")
	r.TrailersOK = true
	a.Content = append(a.Content, c.content...)
	r.ContentLength = int64(len(a.Content))
}

func (c *grpcCheck) verify(a *Ask) error {
	r := &a.Response
	if r.Status != 200 {
		return &checkError{fmt.Sprintf("%s: status %d; want 200", c.label, r.Status)}
	}
	code := string(r.Trailer.Get(message.GRPCStatus))
	if code == "" { // a response without a message has only a head
		code = string(r.Header.Get(message.GRPCStatus))
	}
	if code != "0" {
		name := grpcCodes[code]
		if name == "" {
			name = "grpc-status " + strconv.Quote(code)
		}
		return &checkError{c.label + ": " + name}
	}
	status, ok := healthResponse(a.Body)
	switch {
	case !ok:
		return &checkError{c.label + ": the response is not a HealthCheckResponse"}
	case status == 1:
		return nil
	case status < uint64(len(servingStatus)):
		return &checkError{c.label + ": " + servingStatus[status]}
	}
	return &checkError{fmt.Sprintf("%s: unknown status %d", c.label, status)}
}

// healthResponse returns the status in a HealthCheckResponse with its prefix. ok is false if it is
// not a valid one.
func healthResponse(b []byte) (status uint64, ok bool) {
	if len(b) < grpcPrefix || b[0] != 0 || uint64(binary.BigEndian.Uint32(b[1:])) != uint64(len(b)-grpcPrefix) {
		return 0, false
	}
	for b = b[grpcPrefix:]; len(b) > 0; {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return 0, false
		}
		b = b[n:]
		value, n := binary.Uvarint(b)
		length := 0
		switch tag & 7 {
		case 0: // a varint
			length = n
		case 1:
			n, length = 1, 8
		case 2:
			if n > 0 && value > uint64(len(b)) {
				return 0, false
			}
			length = n + int(value)
		case 5:
			n, length = 1, 4
		default:
			return 0, false
		}
		if n <= 0 || length > len(b) {
			return 0, false
		}
		if tag == 1<<3 {
			status = value
		}
		b = b[length:]
	}
	return status, true
}
