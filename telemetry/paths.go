package telemetry

import "time"

// PathTotals are the counters of a path, read by the function of SetPathTotals. All but Subflows
// only increase.
type PathTotals struct {
	Path                                         string
	BytesSent, BytesReceived, BytesRetransmitted uint64
	Subflows                                     int // now
	Opened, Closed, Failed                       uint64
	Cuts, Returns                                uint64
}

// pathMeter has the values of a path that are set by calls.
type pathMeter struct {
	up  bool
	gap histogram
}

// SetPathTotals sets the function that a scrape reads the totals of the paths from.
func (in *Instruments) SetPathTotals(read func(yield func(PathTotals) bool)) {
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.pathTotals = read
}

// SetPlainDials sets the function that a scrape reads the number of dials without MPTCP from: those
// that did not request it because earlier dials had failed to get it.
func (in *Instruments) SetPlainDials(read func() uint64) {
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.plainDials = read
}

// SetPathUp sets whether a path is up. The path appears with the first call.
func (in *Instruments) SetPathUp(path string, up bool) {
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.path(path).up = up
}

// PathFailover observes how long data was stuck on a path until its subflows were ended, after
// which the kernel sends it again on the others.
func (in *Instruments) PathFailover(path string, gap time.Duration) {
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.path(path).gap.observe(gap)
}

func (in *Instruments) path(name string) *pathMeter {
	m := in.paths[name]
	if m == nil {
		m = new(pathMeter)
		in.paths[name] = m
	}
	return m
}

// DeletePath removes a path that is no longer declared from the metrics.
func (in *Instruments) DeletePath(path string) {
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.paths, path)
}

func (in *Instruments) collectPaths(s sink) {
	in.mu.Lock()
	read := in.pathTotals
	if in.plainDials != nil {
		s.counter(descPlainDials, in.plainDials())
	}
	for name, m := range in.paths {
		s.gauge(descPathUp, boolValue(m.up), name)
		s.histogram(descPathGap, &m.gap, name)
	}
	in.mu.Unlock()
	if read == nil {
		return
	}
	for t := range read {
		s.counter(descPathBytes, t.BytesSent, t.Path, "sent")
		s.counter(descPathBytes, t.BytesReceived, t.Path, "received")
		s.counter(descPathRetrans, t.BytesRetransmitted, t.Path)
		s.gauge(descPathSubflows, float64(t.Subflows), t.Path)
		s.counter(descPathOpened, t.Opened, t.Path)
		s.counter(descPathClosed, t.Closed, t.Path)
		s.counter(descPathFailed, t.Failed, t.Path)
		s.counter(descPathCuts, t.Cuts, t.Path)
		s.counter(descPathReturns, t.Returns, t.Path)
	}
}
