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
	return outcome{fault.Status, end, fault.Reason}
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
	switch {
	case errors.Is(err, backend.ErrNoHTTP2):
		return outcome{502, telemetry.EndBackendConnect, "the server does not speak HTTP/2, which is required"}
	case errors.Is(err, backend.ErrNoServer):
		return outcome{503, telemetry.EndBackendConnect, "no server is available"}
	case backend.NeedsMPTCP(err):
		return outcome{502, telemetry.EndMPTCPRequired, "the server was not reached over MPTCP, which is required"}
	case backend.TimedOut(err):
		return outcome{504, telemetry.EndBackendConnect, "the server did not accept the connection in time"}
	case errors.As(err, &handshake):
		return outcome{502, telemetry.EndBackendConnect, "the TLS handshake with the server failed"}
	}
	return outcome{502, telemetry.EndBackendConnect, "the server could not be reached"}
}

// errLate is a server that did not answer in time.
var errLate = errors.New("no answer within the response timeout")

// clientError is a fault on the client's side that showed while the server was being served.
type clientError struct{ err error }

func (e *clientError) Error() string { return e.err.Error() }
func (e *clientError) Unwrap() error { return e.err }

// serverOutcome is for a request whose answer failed before its head was complete, or within its body.
func serverOutcome(err error) outcome {
	var fault *http1.Error
	var client *clientError
	switch {
	case errors.Is(err, errPanic):
		return outcome{500, telemetry.EndInternal, "internal error"}
	case errors.As(err, &client):
		if errors.As(err, &fault) {
			return requestOutcome(fault)
		}
		end := clientEnd(err)
		if end == telemetry.EndClientTimeout && !errors.Is(err, http2.ErrTooSlow) { // whose connection has ended
			return outcome{408, end, "the request body did not arrive in time"}
		}
		return outcome{0, end, ""}
	case errors.Is(err, errLate), errors.Is(err, os.ErrDeadlineExceeded):
		return outcome{504, telemetry.EndBackendTimeout, "the server did not answer in time"}
	case errors.Is(err, http2.ErrTooSlow):
		return outcome{502, telemetry.EndBackendTimeout, "the connection to the server ended because the server was too slow"}
	case errors.Is(err, http2.ErrNoConnect):
		return outcome{502, telemetry.EndBackendInvalid, "the server takes no other protocol than HTTP"}
	case errors.As(err, &fault), errors.Is(err, http1.ErrBodyLength):
		return outcome{502, telemetry.EndBackendInvalid, "the server's answer is not valid"}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return outcome{502, telemetry.EndBackendReset, "the server closed the connection without a complete answer"}
	}
	return outcome{502, telemetry.EndBackendReset, "the connection to the server broke"}
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
