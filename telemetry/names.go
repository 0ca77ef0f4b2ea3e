package telemetry

import "time"

// NameTotals are the values of a name that servers of a backend have, read by the function of
// SetNames. Lookups and Failed only increase.
type NameTotals struct {
	Backend, Name string
	Found         int       // addresses, or SRV records
	At            time.Time // when that was last confirmed; zero: never
	Lookups       uint64
	Failed        uint64 // of Lookups
}

// SetNames sets the function that a scrape reads the names of servers from.
func (in *Instruments) SetNames(read func(yield func(NameTotals) bool)) {
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.names = read
}

func (in *Instruments) collectNames(s sink) {
	in.mu.Lock()
	read := in.names
	in.mu.Unlock()
	if read == nil {
		return
	}
	seen := map[[2]string]bool{} // a backend may have a name twice, and a metric only once
	for t := range read {
		if k := [2]string{t.Backend, t.Name}; seen[k] {
			continue
		} else {
			seen[k] = true
		}
		s.gauge(descNameFound, float64(t.Found), t.Backend, t.Name)
		if !t.At.IsZero() {
			s.gauge(descNameTime, float64(t.At.UnixMilli())/1000, t.Backend, t.Name)
		}
		s.counter(descNameLookups, t.Lookups-t.Failed, t.Backend, t.Name, "ok")
		s.counter(descNameLookups, t.Failed, t.Backend, t.Name, "failed")
	}
}
