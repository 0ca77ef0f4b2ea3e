//go:build linux

package paths

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"mpgate/internal/lab"
)

// Event is what happens to path 1, which every connection begins on.
type Event string

// A link that is down is seen by the host that has it (the side that dials); a silent one by
// nobody.
const (
	Nothing  Event = ""
	LinkDown Event = "link down"
	Silence  Event = "silent drop"
)

// Workload is what is asked of the gateway in a run.
type Workload string

// The four workloads.
const (
	Small    Workload = "small"
	Download Workload = "download"
	Upload   Workload = "upload"
	Parallel Workload = "parallel"
)

var workloads = []Workload{Download, Upload, Parallel, Small}

// Side says where there are several paths. The other side is one fast wire and plain TCP.
type Side string

// The three of them.
const (
	Front Side = "front"
	Back  Side = "back"
	Both  Side = "both"
)

var sides = []Side{Front, Back, Both}

func (s Side) front() bool { return s != Back }
func (s Side) back() bool  { return s != Front }

// Scenario is what the paths of a side are like. Path 1 is the better one where they differ.
type Scenario struct {
	Name, About string
	Paths       []lab.Path
	Event       Event
	Returns     bool // what happened ends again
	// Client and Backend: that end does not use MPTCP. Box stands on path 1.
	PlainClient, PlainBackend bool
	Box                       lab.Box

	sides     []Side
	workloads []Workload
}

func path(mbit int64, delay time.Duration) lab.Path {
	return lab.Path{Rate: mbit * lab.Mbit, Delay: delay}
}

func times(n int, p lab.Path) []lab.Path { return slices.Repeat([]lab.Path{p}, n) }

// Scenarios are all that there are, in the order in which they run.
func Scenarios() []Scenario {
	const ms = time.Millisecond
	two := times(2, path(100, 10*ms))
	lossy := path(100, 10*ms)
	lossy.Loss = 0.01
	failing := []Workload{Download, Upload, Small}
	list := []Scenario{
		{Name: "equal", About: "two equal paths", Paths: two},
		{Name: "rates", About: "unequal rates", Paths: []lab.Path{path(100, 10*ms), path(20, 10*ms)}},
		{Name: "delays", About: "unequal delays", Paths: []lab.Path{path(100, 10*ms), path(100, 50*ms)}},
		{Name: "lossy", About: "one path loses 1 % of its packets", Paths: []lab.Path{path(100, 10*ms), lossy}},
		{Name: "four", About: "four paths", Paths: times(4, path(50, 10*ms))},
		{Name: "linkdown", About: "path 1 dies: its link goes down", Paths: two, Event: LinkDown, workloads: failing},
		{Name: "silence", About: "path 1 dies: it drops everything in silence", Paths: two, Event: Silence, workloads: failing},
		{Name: "return", About: "path 1 dies in silence and returns", Paths: two, Event: Silence, Returns: true, workloads: failing},
		{Name: "plain-client", About: "a client without MPTCP", Paths: two, PlainClient: true, sides: []Side{Both}},
		{Name: "plain-backend", About: "a backend without MPTCP", Paths: two, PlainBackend: true, sides: []Side{Both}},
		{Name: "strip", About: "a middlebox on path 1 strips MPTCP's option", Paths: two, Box: lab.StripMPTCP},
	}
	for i := range list {
		if list[i].sides == nil {
			list[i].sides = sides
		}
		if list[i].workloads == nil {
			list[i].workloads = workloads
		}
	}
	return list
}

// Quick is what says most in a minute: a second path's goodput and latency, and what a path costs
// that dies in silence.
func Quick() []Scenario {
	var list []Scenario
	for _, s := range Scenarios() {
		switch s.Name {
		case "equal":
			s.workloads = []Workload{Download, Small}
		case "silence":
			s.workloads = []Workload{Download}
		default:
			continue
		}
		s.sides = []Side{Both}
		list = append(list, s)
	}
	return list
}

// Find gives the scenarios of these names; of none: all.
func Find(names []string) ([]Scenario, error) {
	all := Scenarios()
	if len(names) == 0 {
		return all, nil
	}
	var list []Scenario
	for _, name := range names {
		i := slices.IndexFunc(all, func(s Scenario) bool { return s.Name == name })
		if i < 0 {
			var known []string
			for _, s := range all {
				known = append(known, s.Name)
			}
			return nil, fmt.Errorf("scenario (got %q); want %s", name, strings.Join(known, ", "))
		}
		list = append(list, all[i])
	}
	return list, nil
}

// Describe writes a path in a few words.
func Describe(p lab.Path) string {
	text := fmt.Sprintf("%d Mbit/s, %v one way", p.Rate/lab.Mbit, p.Delay)
	if p.Loss > 0 {
		text += fmt.Sprintf(", %g %% lost", p.Loss*100)
	}
	return text
}

// Spec is the lab for a scenario.
func (s *Scenario) Spec(side Side, congestion string) lab.Spec {
	spec := lab.Spec{Congestion: congestion, Seed: 1}
	add := func(prefix, a, b string, several bool) {
		if !several {
			spec.Links = append(spec.Links, lab.LinkSpec{Name: prefix + "1", A: a, B: b, Engine: lab.Kernel})
			return
		}
		for i, p := range s.Paths {
			l := lab.LinkSpec{Name: fmt.Sprintf("%s%d", prefix, i+1), A: a, B: b, Path: p}
			if i == 0 {
				l.Box = s.Box
			}
			spec.Links = append(spec.Links, l)
		}
	}
	add("front", "client", "gateway", side.front())
	add("back", "gateway", "backend", side.back())
	for _, name := range []string{"client", "gateway", "backend"} {
		p := lab.PlaceSpec{Name: name, Sysctl: make(map[string]string)}
		// A SYN that is lost on a dead path would end dialling with MPTCP in the whole place for an
		// hour, and so in all runs to come.
		const blackhole = "net.mptcp.blackhole_timeout" // kernel 6.12
		if _, err := os.Stat("/proc/sys/" + strings.ReplaceAll(blackhole, ".", "/")); err == nil {
			p.Sysctl[blackhole] = "0"
		}
		if name == "backend" && s.PlainBackend {
			p.NoEndpoints, p.Sysctl["net.mptcp.enabled"] = true, "0"
		}
		spec.Places = append(spec.Places, p)
	}
	return spec
}

// variant is one way to use the paths.
type variant struct {
	name  string
	mptcp bool
	path  int // of a single one, from 0
	all   bool
	// managed: mpgate keeps the paths of its place, and ends subflows on those that died.
	managed bool
}

// variants: plain TCP on each path alone, then MPTCP on one and on all. A large transfer on each
// path alone is what the sum is made of; the other workloads need only the better one. Where a path
// dies, the kernel alone is told from mpgate's own fail-over.
func (s *Scenario) variants(w Workload) []variant {
	var list []variant
	for i := range s.Paths {
		if i == 0 || (w != Small && s.Event == Nothing) {
			list = append(list, variant{name: fmt.Sprintf("TCP, path %d", i+1), path: i})
		}
	}
	list = append(list, variant{name: "MPTCP, path 1", mptcp: true}, variant{name: "MPTCP, all paths", mptcp: true, all: true})
	if s.Event != Nothing {
		list = append(list, variant{name: "MPTCP, fail-over", mptcp: true, all: true, managed: true})
	}
	return list
}

// spoken is what is to be seen on a side of the gateway.
type spoken string

const (
	plain    spoken = "TCP"
	multi    spoken = "MPTCP"
	fallback spoken = "TCP after MPTCP was asked for"
)

// expect says what a run must speak in front and behind; anything else makes it invalid.
func (s *Scenario) expect(side Side, v variant) (front, back spoken) {
	front, back = plain, plain
	if v.mptcp && side.front() && !s.PlainClient {
		front = multi
		if s.Box == lab.StripMPTCP {
			front = fallback
		}
	}
	if v.mptcp && side.back() {
		back = multi
		if s.PlainBackend || s.Box == lab.StripMPTCP {
			back = fallback
		}
	}
	return front, back
}
