package backend

import "time"

// availability is whether requests may be sent to a server.
type availability uint8

const (
	unavailable  availability = iota // no request
	asLastResort                     // only a request for which no server is available
	available                        // any request
)

// available reports whether requests may be sent to the server. All decisions about that are made
// here: a server in an outage is a last resort. If its last connect took until the timeout to fail,
// it is not even that for a moment, so that requests do not queue up behind it.
func (s *Server) available(now time.Time) availability {
	o := s.outage.Load()
	switch {
	case o == nil:
		return available
	case o.timedOut.Load() && int64(now.Sub(epoch))-o.lastFailure.Load() < int64(s.backend.firstProbeDelay):
		return unavailable
	}
	return asLastResort
}

// lastFailure returns when a connect last failed in the present outage, in ns since epoch; 0 means
// that there is no outage.
func (s *Server) lastFailure() int64 {
	if o := s.outage.Load(); o != nil {
		return o.lastFailure.Load()
	}
	return 0
}
