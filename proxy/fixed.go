package proxy

import (
	"strconv"
	"time"

	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/telemetry"
)

// Fixed is the action that gives every request the same answer.
type Fixed struct {
	Status int
	Body   []byte
	Type   string // of Body; "" without a body, which then is the gateway's own text for an error
	// RetryAfter is sent if it is not 0.
	RetryAfter time.Duration
	// AnyMethod answers all methods. Without it an answer with a status of 2xx and a body is a
	// resource, which can be read (GET, HEAD) and nothing else.
	AnyMethod bool
}

func (f *Fixed) serve(x *exchange) {
	if f.Status/100 == 2 && f.Type != "" && !f.AnyMethod && !reads(&x.req) {
		x.refuseMethod()
		return
	}
	if f.RetryAfter > 0 {
		seconds := int64((f.RetryAfter + time.Second - 1) / time.Second)
		x.filter.Fields.Add(message.RetryAfter, strconv.AppendInt(x.scratch[:0], seconds, 10))
	}
	a := filter.Answer{Status: f.Status, End: telemetry.EndOK, Body: f.Body, Type: f.Type, Store: f.Status < 400}
	if f.Type == "" {
		a.Text = "configured for this route"
		a.Bare = f.Status < 400
	}
	x.answer(a)
}

// reads reports whether the method asks for a representation.
func reads(r *message.Request) bool {
	return string(r.Method) == "GET" || string(r.Method) == "HEAD"
}

const allowed = "GET, HEAD, OPTIONS"

// refuseMethod answers OPTIONS, and all methods that a resource of the gateway does not support.
func (x *exchange) refuseMethod() {
	x.filter.Fields.AddName([]byte("Allow"), []byte(allowed))
	if string(x.req.Method) == "OPTIONS" {
		x.answer(filter.Answer{Status: 204, End: telemetry.EndOK, Bare: true})
		return
	}
	x.answer(filter.Answer{Status: 405, End: telemetry.EndOK, Text: "only " + allowed + " are supported here"})
}
