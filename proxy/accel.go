package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"mpgate/proxy/files"
	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/proxy/route"
	"mpgate/telemetry"
)

// accel is the internal redirect of an exchange, which a server has asked for with
// X-Accel-Redirect. The exchange remains that of the client's route, whose filters see the response
// as well.
type accel struct {
	to      string         // as the server wrote it
	only    bool           // there was only one
	inside  bool           // x.chain is that of the internal route
	passage filter.Passage // of the client's route, and the other one while that has its turn
	matched matched        // how the client's route was found
	fields  message.Header // of the server's response, see isForAccel
}

// takeAccel ends the exchange with a server that has answered with X-Accel-Redirect, and returns
// true. followAccel continues. A second redirect is an error.
func (x *exchange) takeAccel() bool {
	to, only := filter.AccelRedirect(&x.resp.Header)
	if to == nil || x.wantsTunnel() {
		return false
	}
	again := x.accel != nil
	if !again {
		a := &accel{to: string(to), only: only}
		h := &x.resp.Header
		for i := range h.Len() {
			if id, name, value, ok := h.At(i); ok && isForAccel(id, name) && len(value) > 0 {
				a.fields.AddName(name, value)
			}
		}
		x.accel = a
	}
	x.lingerUpload()
	x.skipResponse()
	x.joinUpload()
	if again {
		x.refuseAccel(string(to), errors.New("it is the second one of the exchange"))
	}
	return true
}

// isForAccel reports whether a field of a response with X-Accel-Redirect is for the client: the
// same as with nginx.
func isForAccel(id message.ID, name []byte) bool {
	switch id {
	case message.ContentType, message.CacheControl, message.SetCookie:
		return true
	case message.Other:
		return isAboutFile(name) || message.EqualFold(name, "Expires")
	}
	return false
}

// isAboutFile names the fields that say something about a complete response only.
func isAboutFile(name []byte) bool {
	return message.EqualFold(name, "Content-Disposition") || bytes.EqualFold(name, acceptRanges)
}

// refuseAccel answers for a server that has sent an X-Accel-Redirect which cannot be followed.
func (x *exchange) refuseAccel(to string, err error) {
	x.proxy.options.Logger.Warn("an X-Accel-Redirect cannot be followed", "route", x.rec.Route, "server", x.rec.Server,
		"id", string(x.rec.IDText()), "to", fmt.Sprintf("%.200q", to), "err", err)
	x.answer(errorAnswer(502, telemetry.EndBackendInvalid, "the server's X-Accel-Redirect leads nowhere"))
}

// followAccel continues the exchange with the internal route to which the server has redirected, as
// with a GET. All exchanges with the server have ended.
func (x *exchange) followAccel() {
	a := x.accel
	x.end, x.statusOnly = time.Time{}, false
	x.filter.FromServer, x.filter.OwnCookie, x.filter.Internal = false, nil, true
	inner, err := x.enterAccel()
	if err != nil {
		x.refuseAccel(a.to, err)
		return
	}
	if !x.discardBody() || x.client.ending() {
		x.setClose()
	}
	x.rec.InternalRoute = inner.Name
	x.holdLease(inner.Lease)
	x.chain, a.inside = &inner.Filters, true
	f := &x.filter
	f.Swap(&a.passage)
	f.Matched, f.Match = x.target(), &x.matched
	if x.rec.Filter = x.chain.Request(f); x.rec.Filter != "" {
		x.answer(f.Answer)
		return
	}
	inner.Action.serve(x)
}

// enterAccel turns the request into that for the internal route, and finds the route.
func (x *exchange) enterAccel() (*Route, error) {
	a, r := x.accel, &x.req
	if !a.only {
		return nil, errors.New("there are several")
	}
	client := x.filter.Matched // the host that filters may have changed since
	if err := x.filter.SetAccelTarget([]byte(a.to)); err != nil {
		return nil, err
	}
	r.Host, r.Port = client.Host, client.Port
	if !r.IsHead() {
		r.Method = methodGet
	}
	r.ContentLength, r.Expect, r.Upgrade = 0, false, nil
	r.Trailer.Reset()
	r.Header.Del(message.ContentType)
	r.Header.Del(message.ContentEncoding)
	found, ok := x.view.Routes.table.Match(&x.asked)
	switch {
	case !ok:
		return nil, errors.New("no route matches")
	case !found.Value.Internal:
		return nil, fmt.Errorf("the route %q is not internal", found.Value.Name)
	case r.EncodedSlash && !found.Value.KeepEncodedSlash:
		return nil, errors.New("the path contains an encoded slash")
	}
	if r.Ambiguous {
		if why := x.view.Routes.table.Misread(&x.asked); why != route.AsRead {
			return nil, errors.New(why.Fault())
		}
	}
	a.matched = x.matched
	x.filter.Match = &a.matched
	x.matched = matched{found, r.Path}
	return found.Value, nil
}

var methodGet = []byte("GET")

// mediaType is the media type of a file: as the server says that has redirected to it, or else by
// its name.
func (x *exchange) mediaType(f *files.File) string {
	if x.accel != nil {
		if t := x.accel.fields.Get(message.ContentType); t != nil {
			return string(t)
		}
	}
	return f.MediaType()
}

// replaces reports whether a filter replaces the response.
func (x *exchange) replaces(status int, own bool) bool {
	if x.chain.Replace(&x.filter, status, own) {
		return true
	}
	if x.accel == nil || !x.accel.inside {
		return false
	}
	x.filter.Swap(&x.accel.passage)
	defer x.filter.Swap(&x.accel.passage)
	return x.route.Filters.Replace(&x.filter, status, own)
}

// filterAccel is the part of sendHead that runs filters, after an internal redirect: first those of
// the internal route, then those of the client's.
func (x *exchange) filterAccel(r *message.Response) {
	a, f, outer := x.accel, &x.filter, &x.route.Filters
	a.addTo(r)
	if !a.inside {
		outer.Response(f, r)
		x.out = outer.Body(f, r, x.out)
		return
	}
	x.chain.Response(f, r)
	f.Swap(&a.passage)
	outer.Response(f, r)
	if !r.NoBody { // what is nearer to the client comes first
		x.out = outer.Body(f, r, x.out)
	}
	f.Swap(&a.passage)
	if !r.NoBody {
		x.out = x.chain.Body(f, r, x.out)
	}
}

// addTo adds the fields of the server's response. An error has only its cookies.
func (a *accel) addTo(r *message.Response) {
	h := &r.Header
	found := r.Status/100 == 2 || r.Status == 304
	for i := range a.fields.Len() {
		id, name, value, _ := a.fields.At(i)
		switch {
		case id == message.SetCookie:
		case !found:
			continue
		case id == message.ContentType: // see mediaType; a server knows better what it sends
			if r.Status == 304 || h.Has(message.ContentType) {
				continue
			}
		case r.Status == 304 && isAboutFile(name):
			continue
		default:
			if a.fields.Index(id, 0) == i || id == message.Other {
				h.DelName(name)
			}
		}
		h.AddName(name, value)
	}
}

// endAccel ends the filters of the internal route.
func (x *exchange) endAccel() {
	if x.accel.inside {
		x.chain.End(&x.filter)
		x.filter.Swap(&x.accel.passage)
	}
}
