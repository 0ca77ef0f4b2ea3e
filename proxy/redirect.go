package proxy

import (
	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/telemetry"
)

// Redirect is the action that sends clients to another URL.
type Redirect struct {
	To     filter.Location
	Status int // 301, 302, 303, 307 or 308
}

func (f *Redirect) serve(x *exchange) {
	r := &x.filter
	if string(r.Matched.Path) == "*" { // OPTIONS * asks about the server, which has no path
		r.Matched.Path = []byte("/")
	}
	if len(r.Matched.Host) == 0 && f.To.NeedsHost() {
		x.answer(errorAnswer(400, telemetry.EndBadRequest, "a request without Host cannot be redirected to a URL with its host"))
		return
	}
	x.scratch = r.AppendLocation(x.scratch[:0], &f.To)
	r.Fields.Add(message.Location, x.scratch)
	x.answer(filter.Answer{Status: f.Status, End: telemetry.EndOK, Text: "see Location", Store: true})
}
