package config

import (
	"maps"
	"regexp"
	"slices"

	"mpgate/proxy/template"
)

// Backend is the name of the backend of a route that has exactly one, otherwise "".
func (r *Route) Backend() string {
	if len(r.Backends) != 1 {
		return ""
	}
	return r.BackendNames()[0]
}

// BackendNames are the names of the backends among which the route divides requests, sorted. A
// backend without weight is one of them.
func (r *Route) BackendNames() []string { return slices.Sorted(maps.Keys(r.Backends)) }

// Share is the share of the requests that a backend of the route gets.
func (r *Route) Share(backend string) Percent {
	if len(r.Backends) == 1 {
		return 100
	}
	sum := 0
	for _, weight := range r.Backends {
		sum += weight
	}
	return Percent(100 * float64(r.Backends[backend]) / float64(max(1, sum)))
}

// checkSplit checks how a route divides requests among backends.
func (l *loader) checkSplit(r *Route, n *node) {
	backend, by := n.get("backend"), n.get("split_by")
	if backend.isTable() && !backend.at.unset {
		sum := 0
		for _, weight := range r.Backends {
			sum += weight
		}
		if sum == 0 && len(r.Backends) == len(backend.keys) {
			l.fault(backend.at, `has no backend with a weight above 0; must be for example { stable = 95, canary = 5 }`)
		}
	}
	if !n.written("split_by") || by.at.unset {
		return
	}
	if len(backend.keys) == 1 {
		l.warn(by.at, "has no effect%s: the route has one backend; name several, for example backend = { stable = 95, canary = 5 }", by.got())
	}
	for _, kind := range []template.Kind{template.Server, template.ServerHost, template.Status} {
		if r.SplitBy.Uses(kind) {
			l.fault(by.at, "uses a variable that has no value before a server is chosen%s; leave it out", by.got())
			return
		}
	}
	groups := 0
	if re, err := regexp.Compile(r.Match.PathRegex); err == nil {
		groups = re.NumSubexp()
	}
	if most := r.SplitBy.Captures(); most > groups && !n.get("match").unset("path_regex") {
		l.fault(by.at, "uses {%d}, and match.path_regex has no such group%s; it has %d", most, by.got(), groups)
	}
}
