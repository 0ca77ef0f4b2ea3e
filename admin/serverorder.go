package admin

import "fmt"

// ServerOrder is the body of POST /api/server.
type ServerOrder struct {
	Server string `json:"server"` // BACKEND/ADDRESS
	State  string `json:"state"`  // drain, down or up
}

// State is what an operator has asked of the server, drain or down, otherwise up or down by its
// health.
func (s *BackendServer) State() string {
	switch {
	case s.Asked != "":
		return s.Asked
	case s.Up:
		return "up"
	}
	return "down"
}

// Note says why the server does not get its whole share of the requests, and what is left of it.
func (s *BackendServer) Note() string {
	switch {
	case s.Asked != "":
		return fmt.Sprintf("by an operator, %s in progress", Count(s.InProgress, "request"))
	case s.Share > 0 && s.Up:
		return fmt.Sprintf("starts slowly, with %.0f %% of its weight", 100*s.Share)
	}
	return s.Why
}

// Count is a number with a noun, which is in the plural unless the number is 1.
func Count(n int64, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
