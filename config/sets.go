package config

import (
	"reflect"
	"strings"
)

// FilterSet is one [[filters]]: filters that several routes use.
type FilterSet struct {
	Name string `toml:"name" as:"name" required:"every entry needs a name, for example name = \"internal\"" eg:"internal" help:"Name of the set, for use."`
	Filters
}

// Defaults is the table [defaults]: what routes and backends need not repeat.
type Defaults struct {
	Route   RouteDefaults   `toml:"route,inline" help:"Keys of every route that does not have them; header tables are merged."`
	Backend BackendDefaults `toml:"backend,inline" help:"Keys of every backend that does not have them."`
}

// RouteDefaults are the keys that routes may have in common.
type RouteDefaults struct {
	Route `without:"name,match,backend,files,redirect,answer,split_by"`
}

// BackendDefaults are the keys that backends may have in common.
type BackendDefaults struct {
	Backend `without:"name,servers"`
}

// mergeSets adds to the routes and backends what they take from [defaults] and [[filters]]. The
// values keep their places there, so a fault is reported there, and once.
func (l *loader) mergeSets(root *node) {
	m := merger{loader: l, sets: map[string]*node{}, used: map[string]bool{}}
	m.known = l.unique("set of filters", "filters", root.get("filters").entries())
	for _, n := range root.get("filters").entries() {
		m.sets[n.get("name").text()] = n
	}
	defaults := root.get("defaults")
	for _, n := range root.get("route").entries() {
		m.route(n, defaults.get("route"))
	}
	for _, n := range root.get("backend").entries() {
		m.layers(n, keysOfBackend, defaults.get("backend"))
	}
	for _, n := range root.get("filters").entries() {
		if name := n.get("name").text(); name != "" && !m.used[name] && !m.open {
			l.warn(n.at, "is used by no route; add use = [ %s ] to one", quote(name))
		}
	}
}

// merger merges sets of filters into routes.
type merger struct {
	*loader
	known names
	sets  map[string]*node
	used  map[string]bool
	open  bool // a name in a use is not known
}

// route adds the defaults, then the sets that it uses.
func (m *merger) route(n, defaults *node) {
	own := n.keys["use"]
	use := own
	if use == nil {
		use = defaults.keys["use"]
	}
	if n.get("match").written("sni") {
		if own != nil {
			m.fault(own.at, "names filters, and TLS for match.sni is passed through encrypted; remove it, or match by host")
		}
		return
	}
	layers := []*node{defaults}
	if use != nil {
		items := use.list
		if use.text() != "" {
			items = []*node{use}
		}
		for _, item := range items {
			m.open = m.open || item.at.unset
			if set := m.sets[item.text()]; set != nil {
				m.used[item.text()] = true
				layers = append(layers, set)
			} else {
				m.known.missing(m.loader, item, item.text())
			}
		}
	}
	m.layers(n, keysOfRoute, layers...)
}

// layers puts tables under one: the last has most to say, and the table itself even more.
func (m *merger) layers(n *node, allowed map[string]*key, layers ...*node) {
	merged := map[string]*node{}
	for _, layer := range layers {
		for name, child := range layer.keys {
			if k := allowed[name]; k != nil {
				merged[name] = child.over(merged[name], k)
			}
		}
	}
	if len(merged) == 0 {
		return
	}
	for name, child := range n.keys {
		k := allowed[name]
		if k == nil {
			k = &key{}
		}
		merged[name] = child.over(merged[name], k)
	}
	for name, child := range merged {
		m.alias(n, name, child)
	}
	n.keys = merged
}

// over returns the value of a key where n replaces below, or is merged with it if the key says so.
func (n *node) over(below *node, k *key) *node {
	if !k.merge || below == nil || !n.isTable() || !below.isTable() {
		return n
	}
	fields := map[string]*node{}
	for name, child := range below.keys {
		fields[name] = child
	}
	for name, child := range n.keys {
		for other := range fields {
			if strings.EqualFold(other, name) {
				delete(fields, other)
			}
		}
		fields[name] = child
	}
	return &node{at: n.at, keys: fields}
}

// alias notes where the value of a key of n comes from, if that is not n.
func (m *merger) alias(n *node, name string, child *node) {
	at := n.at.child(name)
	if child.at.in != n.at {
		m.aliases = append(m.aliases, alias{&at, child.at})
	}
	for field, value := range child.keys {
		if value.at.in != child.at {
			at := at.child(field)
			m.aliases = append(m.aliases, alias{&at, value.at})
		}
	}
}

var (
	keysOfRoute   = keysByName(keysOf(reflect.TypeFor[RouteDefaults]()))
	keysOfBackend = keysByName(keysOf(reflect.TypeFor[BackendDefaults]()))
)

func keysByName(ks []key) map[string]*key {
	byName := make(map[string]*key, len(ks))
	for i := range ks {
		byName[ks[i].name] = &ks[i]
	}
	return byName
}
