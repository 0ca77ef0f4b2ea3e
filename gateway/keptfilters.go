package gateway

import (
	"context"
	"reflect"
	"strconv"

	"mpgate/config"
	"mpgate/proxy/filter"
	"mpgate/proxy/filter/limit"
	"mpgate/proxy/filter/mirror"
)

// keptFilter is a filter with a state of its own, such as the counts of a limit. A reload that does
// not change its options keeps it.
type keptFilter struct {
	filter.Filter
	options any
	pool    *pool    // that it uses; nil: none
	task    *running // nil: it was not started, or has none
}

// keep returns the filter of the old generation, if that was made from the same; otherwise a new
// one.
func (b *builder) keep(r *config.Route, key string, options any, on *pool, make func() filter.Filter) filter.Filter {
	name := key + " of route " + r.Name
	var k *keptFilter
	if b.old != nil {
		k = b.old.filters[name]
	}
	if k == nil || k.pool != on || !reflect.DeepEqual(k.options, options) {
		k = &keptFilter{Filter: make(), options: options, pool: on}
	}
	b.generation.filters[name] = k
	return k.Filter
}

// start starts the task of the filter, if it has one.
func (k *keptFilter) start(g *Gateway, name string) {
	if f, ok := k.Filter.(interface{ Run(context.Context) error }); ok && k.task == nil {
		k.task = g.tasks.keep(name, f.Run)
	}
}

// release ends the filter. Requests that use it may still be in progress.
func (k *keptFilter) release() {
	if k.task != nil {
		k.task.cancel()
	}
	if f, ok := k.Filter.(interface{ Release() }); ok {
		f.Release()
	}
}

// releaseFilters releases the filters that the other generation does not have; it may be nil.
func (n *generation) releaseFilters(other *generation) {
	for name, k := range n.filters {
		if other == nil || other.filters[name] != k {
			k.release()
		}
	}
}

func newLimit(b *builder, r *config.Route) (filter.Filter, error) {
	if len(r.Limits) == 0 {
		return nil, nil
	}
	return b.keep(r, "limit", r.Limits, nil, func() filter.Filter {
		var set limit.Set
		for i := range r.Limits {
			o := r.Limits[i].Options()
			if i > 0 {
				o.Policy = "limit-" + strconv.Itoa(i+1)
			}
			if b.gateway != nil {
				o.Memory, o.Meter = &b.gateway.limitMemory, b.gateway.metrics.Limits(r.Name)
			}
			set = append(set, limit.New(o))
		}
		return set
	}), nil
}

func newMirror(b *builder, r *config.Route) (filter.Filter, error) {
	if r.Mirror == nil {
		return nil, nil
	}
	to := b.backends[r.Mirror.Backend]
	return b.keep(r, "mirror", *r.Mirror, to, func() filter.Filter {
		o := mirror.Options{Backend: to.Backend, Name: r.Mirror.Backend, Ratio: float64(r.Mirror.Percent) / 100, Key: to.options.Hash}
		if b.gateway != nil {
			o.Meter = b.gateway.metrics.Mirror(r.Name, r.Mirror.Backend)
		}
		return mirror.New(o)
	}), nil
}
