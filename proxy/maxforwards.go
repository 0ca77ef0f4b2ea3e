package proxy

import (
	"bytes"
	"strconv"

	"mpgate/telemetry"
)

var maxForwards = []byte("Max-Forwards")

// mayPass counts down how often an OPTIONS or a TRACE may be forwarded, and answers one whose
// journey ends here (RFC 9110 section 7.6.2). Other methods have no such limit.
func (x *exchange) mayPass() bool {
	switch string(x.req.Method) {
	case "OPTIONS", "TRACE":
	default:
		return true
	}
	h := &x.req.Header
	var said []byte
	found := 0
	for i := range h.Len() {
		if _, name, value, ok := h.At(i); ok && bytes.EqualFold(name, maxForwards) {
			said, found = value, found+1
		}
	}
	if found == 0 {
		return true
	}
	left, err := strconv.ParseUint(string(said), 10, 31)
	switch {
	case found > 1 || err != nil:
		x.answer(outcome{status: 400, end: telemetry.EndBadRequest, text: "Max-Forwards must be a single number"})
		return false
	case left > 0:
		h.DelName(maxForwards)
		x.scratch = strconv.AppendUint(x.scratch[:0], left-1, 10)
		h.AddName(maxForwards, x.scratch)
		return true
	case string(x.req.Method) == "TRACE": // what came, with all that it carries, is nobody's business
		x.answer(outcome{status: 501, end: telemetry.EndBadRequest, text: "TRACE is not supported"})
	default:
		x.answer(outcome{status: 200, end: telemetry.EndOK, text: "the gateway; Max-Forwards is 0"})
	}
	return false
}
