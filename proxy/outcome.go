package proxy

import (
	"errors"
	"io"
	"os"

	"mpgate/proxy/backend"
	"mpgate/proxy/filter"
	"mpgate/proxy/http1"
	"mpgate/proxy/http2"
	"mpgate/proxy/message"
	"mpgate/telemetry"
)

// requestAnswer is for a request that the codec refused.
func requestAnswer(fault *message.Error) filter.Answer {
	end := telemetry.EndBadRequest
	switch fault.Status {
	case 408:
		end = telemetry.EndClientTimeout
	case 413, 414, 431:
		end = telemetry.EndLimit
	}
	return filter.Answer{Status: fault.Status, End: end, Text: fault.Reason}
}

// clientEnd is for a client whose connection, or stream, failed.
func clientEnd(err error) telemetry.End {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, http2.ErrTooSlow) {
		return telemetry.EndClientTimeout
	}
	return telemetry.EndClientGone
}

// connectAnswer is for a request that reached no server.
func connectAnswer(err error) filter.Answer {
	var handshake *backend.TLSError
	var short *backend.ShortError
	switch {
	case errors.Is(err, backend.ErrInternal):
		return filter.Answer{Status: 500, End: telemetry.EndInternal, Text: "internal error"}
	case errors.As(err, &short):
		return filter.Answer{Status: 503, End: telemetry.EndLimit, Text: shortageText[short.Of], Bare: short.Of == backend.ShortMemory}
	case errors.Is(err, backend.ErrNoHTTP2):
		return filter.Answer{Status: 502, End: telemetry.EndBackendConnect, Text: "the server does not support HTTP/2, which is required"}
	case errors.Is(err, backend.ErrNoServer):
		return filter.Answer{Status: 503, End: telemetry.EndBackendConnect, Text: "no server is available"}
	case backend.NeedsMPTCP(err):
		return filter.Answer{Status: 502, End: telemetry.EndMPTCPRequired, Text: "the server was not reached over MPTCP, which is required"}
	case backend.TimedOut(err):
		return filter.Answer{Status: 504, End: telemetry.EndBackendConnect, Text: "the server did not accept the connection in time"}
	case errors.As(err, &handshake):
		return filter.Answer{Status: 502, End: telemetry.EndBackendConnect, Text: "the TLS handshake with the server failed"}
	}
	return filter.Answer{Status: 502, End: telemetry.EndBackendConnect, Text: "the server could not be reached"}
}

// errLate is a server that did not answer in time.
var errLate = errors.New("no answer within the response timeout")

// clientError is a fault on the client's side that showed while the server was being served.
type clientError struct{ err error }

func (e *clientError) Error() string { return e.err.Error() }
func (e *clientError) Unwrap() error { return e.err }

// serverAnswer is for a request whose answer failed before its head was complete, or within its
// body.
func serverAnswer(err error) filter.Answer {
	var fault *message.Error
	var client *clientError
	switch {
	case errors.Is(err, errPanic), errors.Is(err, backend.ErrInternal):
		return filter.Answer{Status: 500, End: telemetry.EndInternal, Text: "internal error"}
	case errors.As(err, &client):
		if errors.As(err, &fault) {
			return requestAnswer(fault)
		}
		end := clientEnd(err)
		if end == telemetry.EndClientTimeout && !errors.Is(err, http2.ErrTooSlow) { // whose connection has ended
			return filter.Answer{Status: 408, End: end, Text: "the request body did not arrive in time"}
		}
		return filter.Answer{End: end}
	case errors.Is(err, errLate), errors.Is(err, os.ErrDeadlineExceeded):
		return filter.Answer{Status: 504, End: telemetry.EndBackendTimeout, Text: "the server did not answer in time"}
	case errors.Is(err, http2.ErrTooSlow):
		return filter.Answer{Status: 502, End: telemetry.EndBackendTimeout, Text: "the connection to the server ended because the server was too slow"}
	case errors.Is(err, backend.ErrNotProcessed):
		return filter.Answer{Status: 503, End: telemetry.EndBackendReset, Text: "the server does not accept the request at present"}
	case errors.Is(err, http2.ErrNoConnect):
		return filter.Answer{Status: 502, End: telemetry.EndBackendInvalid, Text: "the server takes no other protocol than HTTP"}
	case errors.As(err, &fault), errors.Is(err, http1.ErrBodyLength):
		return filter.Answer{Status: 502, End: telemetry.EndBackendInvalid, Text: "the server's answer is not valid"}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return filter.Answer{Status: 502, End: telemetry.EndBackendReset, Text: "the server closed the connection without a complete answer"}
	}
	return filter.Answer{Status: 502, End: telemetry.EndBackendReset, Text: "the connection to the server broke"}
}

// connEnd is how a connection ended whose last exchange ended so.
func connEnd(e telemetry.End) telemetry.ConnEnd {
	switch e {
	case telemetry.EndOK, telemetry.EndNoRoute, telemetry.EndMisdirected,
		telemetry.EndDenied, telemetry.EndLimited, telemetry.EndUnauthorized:
		return telemetry.ConnOK
	case telemetry.EndClientGone:
		return telemetry.ConnReset
	case telemetry.EndClientTimeout:
		return telemetry.ConnTimeout
	case telemetry.EndBadRequest:
		return telemetry.ConnBadRequest
	case telemetry.EndLimit:
		return telemetry.ConnLimit
	case telemetry.EndMPTCPRequired:
		return telemetry.ConnMPTCPRequired
	case telemetry.EndBackendConnect, telemetry.EndBackendTimeout, telemetry.EndBackendReset, telemetry.EndBackendInvalid:
		return telemetry.ConnBackend
	case telemetry.EndDrain:
		return telemetry.ConnDrain
	}
	return telemetry.ConnInternal
}
