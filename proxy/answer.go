package proxy

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"mpgate/proxy/message"
	"mpgate/telemetry"
)

// answer ends the exchange with a response of the gateway's own, if none has begun and there is
// anybody to have it.
func (x *exchange) answer(o outcome) { x.answerText(o, "") }

// answerText is answer with a body of its own instead of one that tells the outcome.
func (x *exchange) answerText(o outcome, text string) {
	if o.status/100 == 2 && x.asksTunnel() {
		o, text = outcome{status: 400, end: telemetry.EndBadRequest, text: "this path does not accept a WebSocket"}, ""
	}
	x.rec.End = o.end
	if x.down.HeadSent() || o.status == 0 {
		x.down.SetClose()
		return
	}
	x.rec.Status = o.status
	if o.status >= 400 {
		x.rec.Reason = o.text
	}
	if x.refused || !x.skipBody() || x.conn.ending() {
		x.down.SetClose()
	}
	r := &x.resp
	r.Reset()
	r.Status = o.status
	r.Header.Add(message.Date, date(time.Now()))
	r.Header.AddString(message.CacheControl, "no-store")
	if o.status == 503 {
		r.Header.AddString(message.RetryAfter, "1")
	}
	if len(x.location) > 0 {
		r.Header.Add(message.Location, x.location)
	}
	x.secure()
	if o.bare {
		x.scratch = x.scratch[:0]
	} else if text != "" {
		r.Header.AddString(message.ContentType, "text/plain")
		x.scratch = append(x.scratch[:0], text...)
	} else {
		x.scratch = x.appendAnswer(x.scratch[:0], o)
	}
	r.ContentLength = int64(len(x.scratch))
	r.NoBody = x.req.IsHead()
	if err := x.down.WriteHead(r); err != nil {
		x.answerLost(err)
		return
	}
	if !r.NoBody && len(x.scratch) > 0 {
		if err := x.down.WriteBody(x.scratch); err != nil {
			x.answerLost(err)
			return
		}
		x.rec.BytesOut = int64(len(x.scratch))
	}
	if err := x.down.End(nil); err != nil {
		x.answerLost(err)
	}
}

// secure adds Strict-Transport-Security where the TLS policy of the connection says so (RFC 6797).
func (x *exchange) secure() {
	if x.conn.tls == nil || x.view.TLS == nil {
		return
	}
	if terms := x.view.TLS.Terms(x.conn.tls.policy); terms != nil && terms.HSTS != "" {
		x.resp.Header.Del(message.StrictTransportSecurity)
		x.resp.Header.AddString(message.StrictTransportSecurity, terms.HSTS)
	}
}

func (x *exchange) answerLost(err error) {
	x.down.SetClose()
	if x.rec.End == telemetry.EndOK {
		x.rec.End = clientEnd(err)
	}
}

// appendAnswer writes the body: JSON where the client asks for that, a line of text otherwise.
func (x *exchange) appendAnswer(dst []byte, o outcome) []byte {
	h := &x.resp.Header
	if bytes.Contains(x.req.Header.Get(message.Accept), []byte("json")) {
		h.AddString(message.ContentType, "application/json")
		dst = append(dst, `{"status":`...)
		dst = strconv.AppendInt(dst, int64(o.status), 10)
		dst = append(dst, `,"error":`...)
		dst = strconv.AppendQuote(dst, o.text) // plain ASCII, for which Go's quoting and JSON's are the same
		dst = append(dst, `,"id":"`...)
		dst = append(dst, x.rec.IDText()...)
		return append(dst, "\"}\n"...)
	}
	h.AddString(message.ContentType, "text/plain; charset=utf-8")
	dst = strconv.AppendInt(dst, int64(o.status), 10)
	dst = append(dst, ' ')
	dst = append(dst, message.StatusText(o.status)...)
	dst = append(dst, ": "...)
	dst = append(dst, o.text...)
	dst = append(dst, "\nid: "...)
	dst = append(dst, x.rec.IDText()...)
	return append(dst, '\n')
}

// skipBody throws away what has arrived of a request body that nobody wants, and says whether that
// is all of it, so that the connection can continue.
func (x *exchange) skipBody() bool {
	for !x.down.BodyDone() {
		p, err := x.down.Body().Next(false)
		x.rec.BytesIn += int64(len(p))
		if err != nil && err != io.EOF {
			return false
		}
	}
	return true
}

// date is the value of a Date field, made once a second.
func date(now time.Time) []byte {
	sec := now.Unix()
	if d := lastDate.Load(); d != nil && d.sec == sec {
		return d.text
	}
	d := &dateText{sec, now.UTC().AppendFormat(nil, http.TimeFormat)}
	lastDate.Store(d)
	return d.text
}

type dateText struct {
	sec  int64
	text []byte
}

var lastDate atomic.Pointer[dateText]
