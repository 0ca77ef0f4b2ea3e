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

// errorAnswer is an answer with a line of text.
func errorAnswer(status int, end telemetry.End, text string) filter.Answer {
	return filter.Answer{Status: status, End: end, Text: text}
}

// requestAnswer returns the answer to a request that the codec refused.
func requestAnswer(fault *message.Error) filter.Answer {
	end := telemetry.EndBadRequest
	switch fault.Status {
	case 408:
		end = telemetry.EndClientTimeout
	case 413, 414, 431:
		end = telemetry.EndLimit
	}
	return errorAnswer(fault.Status, end, fault.Reason)
}

// clientEnd returns the outcome for an error on the client's connection or stream.
func clientEnd(err error) telemetry.End {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, http2.ErrTooSlow) {
		return telemetry.EndClientTimeout
	}
	return telemetry.EndClientGone
}

// connectAnswer returns the answer to a request that reached no server.
func connectAnswer(err error) filter.Answer {
	var handshake *backend.TLSError
	var short *backend.ShortError
	switch {
	case errors.Is(err, backend.ErrInternal):
		return errorAnswer(500, telemetry.EndInternal, "internal error")
	case errors.As(err, &short):
		a := errorAnswer(503, telemetry.EndLimit, shortageText[short.Of])
		a.Bare = short.Of == backend.ShortMemory
		return a
	case errors.Is(err, backend.ErrNoHTTP2):
		return errorAnswer(502, telemetry.EndBackendConnect, "the server does not support HTTP/2, which is required")
	case errors.Is(err, backend.ErrBusy):
		return errorAnswer(503, telemetry.EndBackendBusy, "every server has as many requests as it may have")
	case errors.Is(err, backend.ErrNoServer):
		return errorAnswer(503, telemetry.EndBackendConnect, "no server is available")
	case backend.NeedsMPTCP(err):
		return errorAnswer(502, telemetry.EndMPTCPRequired, "the server was not reached over MPTCP, which is required")
	case backend.TimedOut(err):
		return errorAnswer(504, telemetry.EndBackendConnect, "the server did not accept the connection in time")
	case errors.As(err, &handshake):
		return errorAnswer(502, telemetry.EndBackendConnect, "the TLS handshake with the server failed")
	}
	return errorAnswer(502, telemetry.EndBackendConnect, "the server could not be reached")
}

// errResponseTimeout means that the server did not answer in time.
var errResponseTimeout = errors.New("no answer within the response timeout")

// clientError is an error on the client's side that occurred while a request or body was sent to
// the server.
type clientError struct{ err error }

func (e *clientError) Error() string { return e.err.Error() }
func (e *clientError) Unwrap() error { return e.err }

// serverAnswer returns the answer to a request whose response failed, within its head or its body.
func serverAnswer(err error) filter.Answer {
	var fault *message.Error
	var client *clientError
	switch {
	case errors.Is(err, errPanic), errors.Is(err, backend.ErrInternal):
		return errorAnswer(500, telemetry.EndInternal, "internal error")
	case errors.As(err, &client):
		var refused *filter.BodyError
		if errors.As(err, &refused) {
			return refused.Answer
		}
		if errors.As(err, &fault) {
			return requestAnswer(fault)
		}
		end := clientEnd(err)
		// After ErrTooSlow the client's connection has ended.
		if end == telemetry.EndClientTimeout && !errors.Is(err, http2.ErrTooSlow) {
			return errorAnswer(408, end, "the request body did not arrive in time")
		}
		return filter.Answer{End: end}
	case errors.Is(err, errResponseTimeout), errors.Is(err, os.ErrDeadlineExceeded):
		return errorAnswer(504, telemetry.EndBackendTimeout, "the server did not answer in time")
	case errors.Is(err, http2.ErrTooSlow):
		return errorAnswer(502, telemetry.EndBackendTimeout, "the connection to the server ended because the server was too slow")
	case errors.Is(err, backend.ErrNotProcessed):
		return errorAnswer(503, telemetry.EndBackendReset, "the server does not accept the request at present")
	case errors.Is(err, http2.ErrNoConnect):
		return errorAnswer(502, telemetry.EndBackendInvalid, "the server takes no other protocol than HTTP")
	case errors.As(err, &fault), errors.Is(err, http1.ErrBodyLength):
		return errorAnswer(502, telemetry.EndBackendInvalid, "the server's answer is not valid")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errorAnswer(502, telemetry.EndBackendReset, "the server closed the connection without a complete answer")
	}
	return errorAnswer(502, telemetry.EndBackendReset, "the connection to the server broke")
}

// connEnd returns the outcome of a connection whose last exchange ended with e.
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
	case telemetry.EndBackendConnect, telemetry.EndBackendBusy, telemetry.EndBackendTimeout, telemetry.EndBackendReset,
		telemetry.EndBackendInvalid:
		return telemetry.ConnBackend
	case telemetry.EndDrain:
		return telemetry.ConnDrain
	}
	return telemetry.ConnInternal
}
