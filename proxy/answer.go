package proxy

import (
	"io"
	"strconv"
	"time"

	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/telemetry"
)

// answer ends the exchange with a response of the gateway, unless a response has begun or the
// client is gone.
func (x *exchange) answer(a filter.Answer) {
	if a.Status/100 == 2 && x.wantsTunnel() {
		a = errorAnswer(400, telemetry.EndBadRequest, "this path does not accept a WebSocket")
	}
	x.rec.End = a.End
	if x.down.HeadSent() || a.Status == 0 {
		x.down.SetClose()
		return
	}
	if a.Status >= 400 {
		x.rec.Reason = a.Text
	}
	x.filter.Answer = a
	if !x.replaced && x.replaces(a.Status, true) {
		x.replaced = true
		a = x.filter.Answer
	}
	x.rec.Status = a.Status
	if x.refused || !x.discardBody() || x.client.ending() {
		x.down.SetClose()
	}
	r := &x.resp
	r.Reset()
	r.Status = a.Status
	if !a.Store {
		r.Header.AddString(message.CacheControl, "no-store")
	}
	if a.Status == 503 && !x.filter.Fields.Has(message.RetryAfter) {
		r.Header.AddString(message.RetryAfter, "1")
	}
	body := a.Body
	switch {
	case a.Bare:
		body = nil
	case a.Type != "":
		r.Header.AddString(message.ContentType, a.Type)
	default:
		x.scratch = x.appendText(x.scratch[:0], &a)
		body = x.scratch
	}
	r.ContentLength = int64(len(body))
	r.NoBody = x.req.IsHead() || a.Status == 204 || a.Status == 304
	if err := x.sendHead(time.Now()); err != nil {
		x.answerFailed(err)
		return
	}
	if !r.NoBody && len(body) > 0 {
		if err := x.out.WriteBody(body); err != nil {
			x.answerFailed(err)
			return
		}
		x.rec.BytesOut = int64(len(body))
	}
	if err := x.out.End(nil); err != nil {
		x.answerFailed(err)
	}
}

// redirect sends the client to another URL. location is copied.
func (x *exchange) redirect(status int, text string, location []byte) {
	x.filter.Fields.Add(message.Location, location)
	x.answer(filter.Answer{Status: status, End: telemetry.EndOK, Text: text})
}

func (x *exchange) answerFailed(err error) {
	x.down.SetClose()
	if x.rec.End == telemetry.EndOK {
		x.rec.End = clientEnd(err)
	}
}

// appendText writes the body: JSON where the client asks for that, a line of text otherwise.
func (x *exchange) appendText(dst []byte, a *filter.Answer) []byte {
	h := &x.resp.Header
	if filter.Prefers(&x.req.Header, "application/json", "text/plain") {
		h.AddString(message.ContentType, "application/json")
		dst = append(dst, `{"status":`...)
		dst = strconv.AppendInt(dst, int64(a.Status), 10)
		dst = append(dst, `,"error":`...)
		// Plain ASCII, for which Go's quoting and JSON's are the same.
		dst = strconv.AppendQuote(dst, a.Text)
		dst = append(dst, `,"id":"`...)
		dst = append(dst, x.rec.IDText()...)
		return append(dst, "\"}\n"...)
	}
	h.AddString(message.ContentType, "text/plain; charset=utf-8")
	dst = strconv.AppendInt(dst, int64(a.Status), 10)
	dst = append(dst, ' ')
	dst = append(dst, message.StatusText(a.Status)...)
	dst = append(dst, ": "...)
	dst = append(dst, a.Text...)
	dst = append(dst, "\nid: "...)
	dst = append(dst, x.rec.IDText()...)
	return append(dst, '\n')
}

// discardBody discards what has arrived of an unused request body, and reports whether the body is
// complete, so that the connection can continue.
func (x *exchange) discardBody() bool {
	for !x.down.BodyDone() {
		p, err := x.down.Body().Next(false)
		x.rec.BytesIn += int64(len(p))
		if err != nil && err != io.EOF {
			return false
		}
	}
	return true
}
