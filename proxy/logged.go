package proxy

import (
	"mpgate/proxy/message"
	"mpgate/telemetry"
)

// noteHeader notes the header fields that the access log wants, before filters or after them. Their
// values stay where they are until the exchange is recycled: a header only grows.
func (x *exchange) noteHeader(h *message.Header, names []string, response bool) {
	for _, wanted := range names {
		for i := range h.Len() {
			if _, name, value, ok := h.At(i); ok && message.EqualFold(name, wanted) {
				x.rec.AddHeader(wanted, response, value)
			}
		}
	}
}

func (x *exchange) noteRequestHeader() {
	x.noteHeader(&x.req.Header, x.proxy.accessLog.Load().RequestHeaders(), false)
}

func (x *exchange) noteResponseHeader() {
	if names := x.proxy.accessLog.Load().ResponseHeaders(); names != nil {
		x.rec.ResetHeaders(true)
		x.noteHeader(&x.resp.Header, names, true)
	}
}

// logged says which of the exchanges have a line in the access log.
func (x *exchange) logged() telemetry.Logged {
	if x.route == nil {
		return telemetry.LoggedAll
	}
	return x.route.Logged
}
