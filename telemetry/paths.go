package telemetry

import "time"

// PathTotals are what a path carried, and what happened to it, as SetPathTotals has them read. All
// but Subflows only go up.
type PathTotals struct {
	Path                                         string
	BytesSent, BytesReceived, BytesRetransmitted uint64
	Subflows                                     int // now
	Opened, Closed, Failed                       uint64
	Cuts, Returns                                uint64
}

// pathMeter is what is told of a path rather than read.
type pathMeter struct {
	up  bool
	gap histogram
}

// SetPathTotals says where a scrape finds the sums of the paths. Without, there are none.
func (in *Instruments) SetPathTotals(read func(yield func(PathTotals) bool)) {
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.pathTotals = read
}

// SetPlainDials says where a scrape finds how many dials did not ask for MPTCP because of what
// earlier ones met.
func (in *Instruments) SetPlainDials(read func() uint64) {
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.plainDials = read
}

// SetPathUp says whether a path carries. It appears with the first call.
func (in *Instruments) SetPathUp(path string, up bool) {
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.path(path).up = up
}

// PathFailover observes for how long data lay on a path until its subflows were ended, so that the
// kernel sends it again on the others.
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

// DeletePath takes a path that is no longer declared out of the metrics.
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
		s.gauge(descPathUp, truth(m.up), name)
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
