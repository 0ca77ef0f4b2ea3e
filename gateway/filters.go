package gateway

import (
	"cmp"
	"slices"
	"strings"

	"mpgate/config"
	"mpgate/proxy/filter"
	"mpgate/proxy/template"
)

// filters are the filters of routes, in the order in which they act. Each makes one of the keys of
// a route; nil: the route has no such filter.
var filters = [...]func(*builder, *config.Route) (filter.Filter, error){
	newAccess,
	newLimit,
	newCORS,
	newBasicAuth,
	newJWT,
	newForwardAuth,
	newAccel,
	newRewrite,
	newRequestHeaders,
	newResponseHeaders,
	newCookies,
	newCompress,
	newErrorPages,
	newMirror,
	newMaxForwards,
}

// chain makes the chain of a route. Errors have their places.
func (b *builder) chain(r *config.Route) (filter.Chain, error) {
	var list []filter.Filter
	var faults config.Errors
	for _, make := range filters {
		f, err := make(b, r)
		faults = appendFaults(faults, b.config, "route."+r.Name, err)
		if f != nil {
			list = append(list, f)
		}
	}
	if faults != nil {
		return filter.Chain{}, faults
	}
	return filter.Compile(list...), nil
}

func newAccess(_ *builder, r *config.Route) (filter.Filter, error) {
	if len(r.Allow) == 0 && len(r.Deny) == 0 {
		return nil, nil
	}
	return filter.NewAccess(config.Prefixes(r.Allow), config.Prefixes(r.Deny)), nil
}

func newCORS(_ *builder, r *config.Route) (filter.Filter, error) {
	if r.CORS == nil {
		return nil, nil
	}
	return filter.NewCORS(r.CORS.Options())
}

func newAccel(_ *builder, r *config.Route) (filter.Filter, error) {
	if !r.AccelRedirect {
		return nil, nil
	}
	return filter.Accel{}, nil
}

func newRewrite(_ *builder, r *config.Route) (filter.Filter, error) {
	if r.Rewrite == "" {
		return nil, nil
	}
	return filter.NewRewrite(r.Rewrite, filter.RewriteOptions{
		KeepEncodedSlash: r.EncodedSlash == config.Keep, KeepSlashes: r.DuplicateSlashes == config.Keep,
	})
}

func newRequestHeaders(_ *builder, r *config.Route) (filter.Filter, error) {
	if len(r.RequestHeaders) == 0 {
		return nil, nil
	}
	return filter.NewRequestHeaders(fieldEdits(r.RequestHeaders))
}

func newResponseHeaders(_ *builder, r *config.Route) (filter.Filter, error) {
	if len(r.ResponseHeaders) == 0 {
		return nil, nil
	}
	return filter.NewResponseHeaders(fieldEdits(r.ResponseHeaders)), nil
}

func newCookies(_ *builder, r *config.Route) (filter.Filter, error) {
	if r.Cookies == nil {
		return nil, nil
	}
	return filter.NewCookies(r.Cookies.Options()), nil
}

func fieldEdits(fields map[string][]template.Template) (list []filter.FieldEdit) {
	for name, values := range fields {
		e := filter.FieldEdit{Values: values}
		e.Name, e.Add = strings.CutPrefix(name, "+")
		list = append(list, e)
	}
	return list
}

func newErrorPages(b *builder, r *config.Route) (filter.Filter, error) {
	if len(r.ErrorPages) == 0 {
		return nil, nil
	}
	var pages []filter.ErrorPage
	for status, p := range r.ErrorPages {
		body, mediaType, err := b.content("error_pages."+status.String(), p.File, p.Text, p.Type)
		if err != nil {
			return nil, err
		}
		pages = append(pages, filter.ErrorPage{First: status.First, Last: status.Last, Body: body, Type: mediaType, Servers: p.Servers})
	}
	slices.SortFunc(pages, func(x, y filter.ErrorPage) int { return cmp.Compare(x.First, y.First) })
	return filter.NewErrorPages(pages)
}

func newMaxForwards(*builder, *config.Route) (filter.Filter, error) { return filter.MaxForwards{}, nil }
