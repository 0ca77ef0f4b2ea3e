package proxy

import (
	"errors"
	"io"
	"syscall"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"mpgate/proxy/http2"
	"mpgate/telemetry"
)

// A client must not be able to take a server out for all others. So what a server does because of
// what a client does, or leaves undone, is no error of the server.

// grpcUnavailable is the status by which a gRPC server says what an HTTP server says by 503.
const grpcUnavailable = 14

// clientTime is how long a server waits at least for a client that sends or reads nothing. If the
// server ends an exchange later, it may be because of the client.
const clientTime = time.Second

// noteAnswer tells the backend how an exchange has ended that the server has answered with a
// status, so that it can eject servers that fail. With statusOnly, its end does not count. starved:
// see there.
func (x *exchange) noteAnswer(status int, starved bool) {
	switch x.rec.End {
	case telemetry.EndBackendReset, telemetry.EndBackendTimeout, telemetry.EndBackendInvalid:
		if x.statusOnly {
			break
		}
		x.attempt.NoteFailure(errUnfinished)
		return
	}
	if x.rec.GRPCStatus == grpcUnavailable {
		status = 503
	}
	if starved && status >= 500 {
		return
	}
	x.attempt.NoteStatus(status)
}

// errUnfinished is a response that the server has not finished.
var errUnfinished = errors.New("the response was not complete")

// noteNoAnswer tells the backend that the server has not answered, unless that is no failure of the
// server: the client left, the client sends its body late or has canceled the request by a deadline
// of gRPC, the client asked for a protocol that the server does not have, the server has not
// processed the request, or an idle connection turned out to be closed.
func (x *exchange) noteNoAnswer(err error, starved bool) {
	var client *clientError
	if errors.As(err, &client) || x.clientGone.Load() || notProcessed(err) || errors.Is(err, errStalled) || errors.Is(err, errPanic) ||
		starved && (isEnd(err) || errors.Is(err, errResponseTimeout)) || canceled(err) || errors.Is(err, http2.ErrNoConnect) ||
		x.up.Reused() && !x.up.Answered() && !errors.Is(err, errResponseTimeout) {
		return
	}
	x.attempt.NoteFailure(err)
}

// starved reports whether the server has waited for the rest of the request's body for clientTime.
func (x *exchange) starved(asked, now time.Time) bool {
	return x.upload.done != nil && x.upload.sent.Load() == 0 && now.Sub(asked) >= clientTime
}

// canceled reports whether the server reset the stream as gRPC servers do when the deadline of the
// client has passed, or ended the stream or the connection because it was asked for too much.
func canceled(err error) bool {
	var reset *http2.ResetError
	var away *http2.GoAwayError
	return errors.As(err, &reset) && (reset.Code == xhttp2.ErrCodeCancel || reset.Code == xhttp2.ErrCodeEnhanceYourCalm) ||
		errors.As(err, &away) && away.Code == xhttp2.ErrCodeEnhanceYourCalm
}

// isEnd reports whether the server has ended its connection.
func isEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
