package gateway

import (
	"errors"

	"mpgate/config"
	"mpgate/proxy/filter"
)

// filters are the filters of routes, in the order in which they act. Each makes one of the keys of
// a route; nil: the route has no such filter.
var filters = [...]func(*builder, *config.Route) (filter.Filter, error){
	basicAuth, jwtAuth, forwardAuth,
}

// builder makes the filters of the routes of a generation.
type builder struct {
	gateway *Gateway    // nil: the filters are only asked to explain
	old     *generation // nil: none
	next    *generation
}

// chain makes the filters of a route. Its error has the faults of all of them.
func (b *builder) chain(r *config.Route) (filter.Chain, error) {
	var list []filter.Filter
	var faults config.Errors
	for _, build := range filters {
		f, err := build(b, r)
		var more config.Errors
		if errors.As(err, &more) {
			faults = append(faults, more...)
		}
		if f != nil {
			list = append(list, f)
		}
	}
	if len(faults) > 0 {
		return filter.Chain{}, faults
	}
	return filter.Compile(append(list, filter.MaxForwards{})...), nil
}

// fault places an error at a key of a route.
func (b *builder) fault(r *config.Route, key string, err error) error {
	if err == nil {
		return nil
	}
	return placed(b.next.config, "route."+r.Name+"."+key, err)
}
