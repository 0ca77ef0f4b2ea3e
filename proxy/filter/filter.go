// Package filter holds what a route does to messages on their way: one file a filter.
//
// A filter is a type that implements one or more of the interfaces in this file. The gateway makes
// the filters of a route once a generation and compiles them into a Chain, in the order in which
// they act. Package proxy calls the chain at four places:
//
//  1. Chain.Request, before the action of the route. A filter can end the exchange here.
//  2. Chain.RequestBody, where the body of the request is read, and Chain.Trailer at its end.
//  3. Chain.Replace, when the status of the response is known. A filter can answer instead.
//  4. Chain.Response and Chain.Body, before the head of the final response leaves.
//
// Chain.End follows at the end of every exchange that came to 1. A chain runs once for each
// request, however many servers are tried. All requests of a route use the same filters at the same
// time: what belongs to one request is in Request. A filter that blocks must bound the time.
package filter

import (
	"math"

	"mpgate/proxy/message"
)

// A Filter has the name of its key in the configuration.
type Filter interface{ Name() string }

// RequestFilter acts on requests.
type RequestFilter interface {
	Filter
	// FilterRequest may change r. If it returns true, the exchange ends with r.Answer.
	FilterRequest(r *Request) (done bool)
}

// RequestBodyFilter acts on the bodies of requests.
type RequestBodyFilter interface {
	Filter
	// FilterRequestBody returns what the body is read from: src, or a reader of it. An error of
	// type *message.Error from that reader is answered with its status.
	FilterRequestBody(r *Request, src message.BodyReader) message.BodyReader
}

// TrailerFilter acts on the trailers of requests.
type TrailerFilter interface {
	Filter
	// FilterTrailer is called when a request is sent to a server and its body has ended, in any
	// goroutine, once for each time that the request is sent.
	FilterTrailer(trailer *message.Header)
}

// ReplaceFilter replaces responses.
type ReplaceFilter interface {
	Filter
	// FilterReplace looks at a response: one of a server, or the gateway's own r.Answer. If it
	// returns true, r.Answer is sent instead.
	FilterReplace(r *Request, status int, own bool) (replaced bool)
}

// ResponseFilter acts on the heads of final responses, including those of the gateway itself.
type ResponseFilter interface {
	Filter
	FilterResponse(r *Request, resp *message.Response)
}

// BodyFilter acts on the bodies of responses.
type BodyFilter interface {
	Filter
	// FilterBody returns what the body is written to: w, or a writer to w. It is called before the
	// head leaves, which it may change, and not for a response that has no body or switches
	// protocols. A body that every filter leaves alone can be moved inside the kernel.
	FilterBody(r *Request, resp *message.Response, w message.BodyWriter) message.BodyWriter
}

// EndFilter releases what it took for an exchange.
type EndFilter interface {
	Filter
	// FilterEnd is called once at the end of an exchange, if FilterRequest was called or the filter
	// has kept something.
	FilterEnd(r *Request)
}

// Chain is the filters of a route, in the order in which they act. The zero value has none. It is
// immutable.
type Chain struct {
	names       []string
	request     []RequestFilter
	requestBody []RequestBodyFilter
	trailer     []TrailerFilter
	replace     []ReplaceFilter
	response    []ResponseFilter
	body        []BodyFilter
	end         []ending
}

// ending is an EndFilter and its place in Chain.request, if it has one.
type ending struct {
	EndFilter
	at int
}

// never is the place of a filter that no request comes to.
const never = math.MaxInt

// Compile makes a chain of filters. It panics if one implements none of the interfaces.
func Compile(filters ...Filter) (c Chain) {
	for _, f := range filters {
		c.names = append(c.names, f.Name())
		at := never
		used := add(&c.request, f)
		if used {
			at = len(c.request) - 1
		}
		used = add(&c.requestBody, f) || used
		used = add(&c.trailer, f) || used
		used = add(&c.replace, f) || used
		used = add(&c.response, f) || used
		used = add(&c.body, f) || used
		if e, ok := f.(EndFilter); ok {
			c.end = append(c.end, ending{e, at})
		}
		if !used {
			panic("the filter " + f.Name() + " does nothing")
		}
	}
	return c
}

// Names are the names of the filters.
func (c *Chain) Names() []string { return c.names }

// add appends f to the list if it has the interface of the list.
func add[T Filter](list *[]T, f Filter) bool {
	t, ok := f.(T)
	if ok {
		*list = append(*list, t)
	}
	return ok
}

// Request runs the filters on r until one ends the exchange, and returns the name of that one; ""
// if none did.
func (c *Chain) Request(r *Request) (endedBy string) {
	for _, f := range c.request {
		r.entered++
		if f.FilterRequest(r) {
			return f.Name()
		}
	}
	return ""
}

// RequestBody returns what the body of the request is read from.
func (c *Chain) RequestBody(r *Request, src message.BodyReader) message.BodyReader {
	for _, f := range c.requestBody {
		src = f.FilterRequestBody(r, src)
	}
	return src
}

// Trailer runs the filters on the trailer of a request, which is not empty.
func (c *Chain) Trailer(trailer *message.Header) {
	for _, f := range c.trailer {
		f.FilterTrailer(trailer)
	}
}

// Replace reports whether a filter replaces a response by r.Answer.
func (c *Chain) Replace(r *Request, status int, own bool) bool {
	for _, f := range c.replace {
		if f.FilterReplace(r, status, own) {
			return true
		}
	}
	return false
}

// Response runs the filters on the head of a response.
func (c *Chain) Response(r *Request, resp *message.Response) {
	for _, f := range c.response {
		f.FilterResponse(r, resp)
	}
}

// Body returns what the body of a response is written to.
func (c *Chain) Body(r *Request, resp *message.Response, w message.BodyWriter) message.BodyWriter {
	for _, f := range c.body {
		w = f.FilterBody(r, resp, w)
	}
	return w
}

// End ends what Request began.
func (c *Chain) End(r *Request) {
	for i := range c.end {
		if e := &c.end[i]; e.at < r.entered || r.Kept(e.EndFilter) != nil {
			e.FilterEnd(r)
		}
	}
}
