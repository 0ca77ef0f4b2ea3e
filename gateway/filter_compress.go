package gateway

import (
	"mpgate/config"
	"mpgate/proxy/filter"
)

func newCompress(b *builder, r *config.Route) (filter.Filter, error) {
	c := r.Compress
	if c == nil {
		return nil, nil
	}
	o := filter.CompressOptions{Types: c.Types, Min: c.Min, Encodings: c.Encodings, Level: c.Level}
	if !b.explain {
		o.Encoders, o.Meter = &b.gateway.encoders, &b.gateway.metrics.Compress
	}
	return filter.NewCompress(o), nil
}
