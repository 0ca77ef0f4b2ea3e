package backend

import (
	"context"
	"time"
)

// A check tests whether a server works. run returns nil if requests may be sent to the server. Its
// context ends with the backend; a check bounds its own time.
//
// During an outage of a server the check of its backend is repeated until it succeeds; see outage.
type check interface {
	run(context.Context, *Server) error
}

// connectCheck connects to the server as a request would. It keeps the connection, which then
// serves the first request.
type connectCheck struct{}

func (connectCheck) run(ctx context.Context, s *Server) error {
	shared, exclusive, err := s.dial(ctx, Addresses{}, s.mayShare(&Request{}))
	switch {
	case err != nil:
		return err
	case shared != nil:
		s.addShared(shared)
	case s.backend.options.SendProxy != 0:
		exclusive.close() // its PROXY header names no client
	default:
		s.shared.notePick(true)
		s.putIdle(exclusive, time.Now())
	}
	return nil
}
