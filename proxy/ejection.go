package proxy

import (
	"errors"

	"mpgate/telemetry"
)

// grpcUnavailable is the status by which a gRPC server says what an HTTP server says by 503.
const grpcUnavailable = 14

// noteAnswer tells the backend how an exchange has ended that the server has answered with a
// status, so that it can eject servers that fail.
func (x *exchange) noteAnswer(status int) {
	switch x.rec.End {
	case telemetry.EndBackendReset, telemetry.EndBackendTimeout, telemetry.EndBackendInvalid:
		x.attempt.NoteFailure(errUnfinished)
		return
	}
	if x.rec.GRPCStatus == grpcUnavailable {
		status = 503
	}
	x.attempt.NoteStatus(status)
}

// errUnfinished is a response that the server has not finished.
var errUnfinished = errors.New("the response was not complete")

// noteNoAnswer tells the backend that the server has not answered, unless that is no failure of the
// server: the client left, the server has not processed the request, or an idle connection turned
// out to be closed.
func (x *exchange) noteNoAnswer(err error) {
	var client *clientError
	if errors.As(err, &client) || x.clientGone.Load() || notProcessed(err) || errors.Is(err, errStalled) || errors.Is(err, errPanic) ||
		x.up.Reused() && !x.up.Answered() && !errors.Is(err, errResponseTimeout) {
		return
	}
	x.attempt.NoteFailure(err)
}
