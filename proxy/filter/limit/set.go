package limit

import (
	"mpgate/proxy/filter"
	"mpgate/proxy/message"
)

// Set is several limits, each with a key of its own. A request must be within all of them.
type Set []*Limit

// Name implements filter.Filter.
func (Set) Name() string { return "limit" }

// FilterRequest implements filter.RequestFilter.
func (s Set) FilterRequest(r *filter.Request) (done bool) {
	for _, l := range s {
		if l.FilterRequest(r) {
			return true
		}
	}
	return false
}

// FilterRequestBody implements filter.RequestBodyFilter.
func (s Set) FilterRequestBody(r *filter.Request, src message.BodyReader) message.BodyReader {
	for _, l := range s {
		src = l.FilterRequestBody(r, src)
	}
	return src
}

// FilterEnd implements filter.EndFilter.
func (s Set) FilterEnd(r *filter.Request) {
	for _, l := range s {
		l.FilterEnd(r)
	}
}

// Release is Limit.Release, for all.
func (s Set) Release() {
	for _, l := range s {
		l.Release()
	}
}
