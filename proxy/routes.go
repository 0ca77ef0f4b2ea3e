package proxy

import (
	"mpgate/proxy/filter"
	"mpgate/proxy/route"
	"mpgate/telemetry"
)

// Route is what a request that matches it gets.
type Route struct {
	Name             string
	Match            route.Match
	Action           Action       // what answers
	Filters          filter.Chain // see filter.Compile
	KeepEncodedSlash bool         // let %2F and %5C in a path pass
	KeepSlashes      bool         // forward repeated slashes; they are matched as one
	KeepUnsafeNames  bool         // let header names with other separators than "-" pass
	Internal         bool         // only an internal redirect leads to it
	AccelRedirect    bool         // its servers may redirect to internal routes: filter.Accel
	Logged           telemetry.Logged
	Lease            *Lease // nil: exchanges on it never have to end

	index int
}

// Action answers the requests of a route. There is a type for each kind of action.
type Action interface{ serve(*exchange) }

// Routes is a table of routes, immutable.
type Routes struct {
	table  *route.Table[*Route]
	list   []*Route // by index
	byName map[string]*Route
}

// NewRoutes builds the table. Its error is that of route.Build.
func NewRoutes(list []Route) (*Routes, error) {
	r := &Routes{byName: make(map[string]*Route, len(list))}
	rules := make([]route.Rule[*Route], len(list))
	for i := range list {
		one := list[i]
		one.index = i
		r.list = append(r.list, &one)
		r.byName[one.Name] = &one
		rules[i] = route.Rule[*Route]{Name: one.Name, Match: one.Match, Value: &one}
	}
	var err error
	r.table, err = route.Build(rules)
	return r, err
}

// matched is the route of a request, and the path by which it was found. It is a filter.Match.
type matched struct {
	route.Found[*Route]
	path []byte
}

func (m *matched) Path() []byte         { return m.path }
func (m *matched) Star() (from, to int) { return m.Found.Star(m.path) }
func (m *matched) Groups() []int        { return m.Found.Groups(m.path) }
