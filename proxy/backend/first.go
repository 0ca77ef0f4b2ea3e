package backend

import "time"

const firstName = "first"

// first uses the first candidate in the order of the configuration: the others are there for when
// it is unavailable or has no room.
type first struct{ servers []*Server }

func newFirst(servers []*Server) balancer { return &first{servers} }

func (f *first) pick(a *Attempt, now time.Time) *Server {
	for _, s := range f.servers {
		if a.candidate(s, now) {
			return s
		}
	}
	return nil
}
