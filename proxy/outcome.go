package proxy

import (
	"errors"
	"io"
	"os"

	"mpgate/proxy/backend"
	"mpgate/proxy/http1"
	"mpgate/proxy/http2"
	"mpgate/telemetry"
)

// outcome is what becomes of an exchange that the gateway answers itself.
type outcome struct {
	status int
	end    telemetry.End
	text   string // honest, short, and the client's business
	bare   bool   // without a body: a client that takes none must not keep the exchange
}

// requestOutcome is for a request that the codec refused.
func requestOutcome(fault *http1.Error) outcome {
	end := telemetry.EndBadRequest
	switch fault.Status {
	case 408:
		end = telemetry.EndClientTimeout
	case 413, 414, 431:
		end = telemetry.EndLimit
	}
	return outcome{status: fault.Status, end: end, text: fault.Reason}
}

// clientEnd is for a client whose connection, or stream, failed.
func clientEnd(err error) telemetry.End {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, http2.ErrTooSlow) {
		return telemetry.EndClientTimeout
	}
	return telemetry.EndClientGone
}

// connectOutcome is for a request that reached no server.
func connectOutcome(err error) outcome {
	var handshake *backend.TLSError
	var short *backend.ShortError
	switch {
	case errors.Is(err, backend.ErrInternal):
		return outcome{status: 500, end: telemetry.EndInternal, text: "internal error"}
	case errors.As(err, &short):
		return outcome{status: 503, end: telemetry.EndLimit, text: shortageText[short.Of], bare: short.Of == backend.ShortMemory}
	case errors.Is(err, backend.ErrNoHTTP2):
		return outcome{status: 502, end: telemetry.EndBackendConnect, text: "the server does not support HTTP/2, which is required"}
	case errors.Is(err, backend.ErrNoServer):
		return outcome{status: 503, end: telemetry.EndBackendConnect, text: "no server is available"}
	case backend.NeedsMPTCP(err):
		return outcome{status: 502, end: telemetry.EndMPTCPRequired, text: "the server was not reached over MPTCP, which is required"}
	case backend.TimedOut(err):
		return outcome{status: 504, end: telemetry.EndBackendConnect, text: "the server did not accept the connection in time"}
	case errors.As(err, &handshake):
		return outcome{status: 502, end: telemetry.EndBackendConnect, text: "the TLS handshake with the server failed"}
	}
	return outcome{status: 502, end: telemetry.EndBackendConnect, text: "the server could not be reached"}
}

// errLate is a server that did not answer in time.
var errLate = errors.New("no answer within the response timeout")

// clientError is a fault on the client's side that showed while the server was being served.
type clientError struct{ err error }

func (e *clientError) Error() string { return e.err.Error() }
func (e *clientError) Unwrap() error { return e.err }

// serverOutcome is for a request whose answer failed before its head was complete, or within its
// body.
func serverOutcome(err error) outcome {
	var fault *http1.Error
	var client *clientError
	switch {
	case errors.Is(err, errPanic), errors.Is(err, backend.ErrInternal):
		return outcome{status: 500, end: telemetry.EndInternal, text: "internal error"}
	case errors.As(err, &client):
		if errors.As(err, &fault) {
			return requestOutcome(fault)
		}
		end := clientEnd(err)
		if end == telemetry.EndClientTimeout && !errors.Is(err, http2.ErrTooSlow) { // whose connection has ended
			return outcome{status: 408, end: end, text: "the request body did not arrive in time"}
		}
		return outcome{status: 0, end: end, text: ""}
	case errors.Is(err, errLate), errors.Is(err, os.ErrDeadlineExceeded):
		return outcome{status: 504, end: telemetry.EndBackendTimeout, text: "the server did not answer in time"}
	case errors.Is(err, http2.ErrTooSlow):
		return outcome{status: 502, end: telemetry.EndBackendTimeout, text: "the connection to the server ended because the server was too slow"}
	case errors.Is(err, backend.ErrNotProcessed):
		return outcome{status: 503, end: telemetry.EndBackendReset, text: "the server does not accept the request at present"}
	case errors.Is(err, http2.ErrNoConnect):
		return outcome{status: 502, end: telemetry.EndBackendInvalid, text: "the server takes no other protocol than HTTP"}
	case errors.As(err, &fault), errors.Is(err, http1.ErrBodyLength):
		return outcome{status: 502, end: telemetry.EndBackendInvalid, text: "the server's answer is not valid"}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return outcome{status: 502, end: telemetry.EndBackendReset, text: "the server closed the connection without a complete answer"}
	}
	return outcome{status: 502, end: telemetry.EndBackendReset, text: "the connection to the server broke"}
}

// connEnd is how a connection ended whose last exchange ended so.
func connEnd(e telemetry.End) telemetry.ConnEnd {
	switch e {
	case telemetry.EndOK, telemetry.EndNoRoute, telemetry.EndMisdirected:
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
