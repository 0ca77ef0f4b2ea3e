package filter

import (
	"bytes"
	"strconv"

	"mpgate/telemetry"
)

// MaxForwards counts down how often an OPTIONS or a TRACE may be forwarded, and answers one that
// may not be forwarded any further (RFC 9110 section 7.6.2). Other methods have no such limit. It
// has no key: every route that forwards has it.
type MaxForwards struct{}

var maxForwards = []byte("Max-Forwards")

// Name implements Filter.
func (MaxForwards) Name() string { return "Max-Forwards" }

// FilterRequest implements RequestFilter.
func (MaxForwards) FilterRequest(r *Request) (done bool) {
	switch string(r.Method) {
	case "OPTIONS", "TRACE":
	default:
		return false
	}
	h := &r.Header
	var value []byte
	found := 0
	for i := range h.Len() {
		if _, name, v, ok := h.At(i); ok && bytes.EqualFold(name, maxForwards) {
			value, found = v, found+1
		}
	}
	if found == 0 {
		return false
	}
	left, err := strconv.ParseUint(string(value), 10, 31)
	switch {
	case found > 1 || err != nil:
		return r.End(Answer{Status: 400, End: telemetry.EndBadRequest, Text: "Max-Forwards must be a single number"})
	case left > 0:
		h.DelName(maxForwards)
		var text [20]byte
		h.AddName(maxForwards, strconv.AppendUint(text[:0], left-1, 10))
		return false
	case string(r.Method) == "TRACE": // the answer would show the fields that proxies have added
		return r.End(Answer{Status: 501, End: telemetry.EndBadRequest, Text: "TRACE is not supported"})
	}
	return r.End(Answer{Status: 200, End: telemetry.EndOK, Text: "the gateway; Max-Forwards is 0"})
}
