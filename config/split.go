package config

import (
	"maps"
	"slices"
)

// Backend is the name of the backend of a route that has exactly one, otherwise "".
func (r *Route) Backend() string {
	names := r.BackendNames()
	if len(names) != 1 {
		return ""
	}
	return names[0]
}

// BackendNames are the names of the backends among which the route divides requests, sorted. A
// backend without weight is one of them. For files it is the backend that answers if there is no
// file.
func (r *Route) BackendNames() []string {
	if r.Files == nil {
		return slices.Sorted(maps.Keys(r.Backends))
	}
	if r.Files.Fallback == nil || r.Files.Fallback.Backend == "" {
		return nil
	}
	return []string{r.Files.Fallback.Backend}
}

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

// split checks how a route divides requests among backends.
func (c routeCheck) split(r *Route, n *node) {
	backend, by := n.get("backend"), n.get("split_by")
	weighs := func(n *node) bool { return n.leaf != int64(0) }
	if len(backend.keys) > 0 && !slices.ContainsFunc(slices.Collect(maps.Values(backend.keys)), weighs) {
		c.fault(backend.at, "has no backend with a weight above 0; must be for example { stable = 95, canary = 5 }")
	}
	if !n.has("split_by") {
		return
	}
	if len(backend.keys) < 2 {
		c.fault(by.at, "divides requests among backends%s, and the route has not several; write for example backend = { stable = 95, canary = 5 }", by.got())
	}
	c.variables(by, &r.SplitBy, beforeServer...)
}
