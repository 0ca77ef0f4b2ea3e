package telemetry

// Logged says which exchanges of a route have a line in the access log.
type Logged uint8

const (
	LoggedAll Logged = iota
	LoggedNone
	LoggedErrors // those with a status of at least 400, or an end other than ok
)

// Values are the texts of all values, in their order.
func (Logged) Values() []string { return []string{"true", "false", "errors"} }

func (l Logged) String() string { return l.Values()[l] }

// Has reports whether the exchange has a line.
func (l Logged) Has(r *Record) bool {
	switch l {
	case LoggedNone:
		return false
	case LoggedErrors:
		return r.Status >= 400 || r.End != EndOK
	}
	return true
}
