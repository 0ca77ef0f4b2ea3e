package proxy

import (
	"net/http"
	"sync/atomic"
	"time"

	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/proxy/netio"
	"mpgate/telemetry"
)

// deliver gives the response, whose head came at now, to the client.
func (x *exchange) deliver(now time.Time) {
	x.rec.Status = x.resp.Status
	if x.resp.Status == 101 {
		x.tunnel()
		return
	}
	if x.asksTunnel() && x.resp.Status/100 == 2 {
		x.up.Abort()
		x.answer(filter.Answer{Status: 502, End: telemetry.EndBackendInvalid, Text: "the server did not switch protocols"})
		return
	}
	x.filter.FromServer = true
	if x.chain.Replace(&x.filter, x.resp.Status, false) {
		x.replace()
		return
	}
	x.closeEarly()
	x.movedDown().Begin()
	if err := x.sendHead(now); err != nil {
		x.endResponse(nil, err)
		return
	}
	var fromServer, toClient error
	if !x.resp.NoBody {
		x.watchEarly()
		x.rec.BytesOut, fromServer, toClient = relay(x.out, x.up.Body(), x.watch, x.movedDown())
		x.stopWatch()
	}
	if fromServer == nil && toClient == nil {
		if x.unasked() {
			x.stopUpload()
		}
		if fromServer = x.out.End(&x.resp.Trailer); fromServer == nil && x.upload.done != nil {
			toClient = x.out.Flush() // nobody will read from the client, which would send it
		}
	}
	x.endResponse(fromServer, toClient)
}

// sendHead sends the head of the final response, x.resp. It is the only place where one leaves. The
// body then goes to x.out.
func (x *exchange) sendHead(now time.Time) error {
	r := &x.resp
	x.out = x.down
	x.filter.Status = r.Status
	if r.Status != 101 {
		if !r.Header.Has(message.Date) {
			r.Header.Add(message.Date, date(now))
		}
		x.addFields()
		x.secure()
	}
	x.chain.Response(&x.filter, r)
	if r.Status != 101 && !r.NoBody {
		x.out = x.chain.Body(&x.filter, r, x.out)
	}
	return x.down.WriteHead(r)
}

// addFields adds what filters and redirects add to any response.
func (x *exchange) addFields() {
	fields := &x.filter.Fields
	for i := range fields.Len() {
		if _, name, value, ok := fields.At(i); ok {
			x.resp.Header.AddName(name, value)
		}
	}
}

// secure adds Strict-Transport-Security where the TLS policy of the connection says so (RFC 6797).
func (x *exchange) secure() {
	if x.client.tls == nil || x.view.TLS == nil {
		return
	}
	if terms := x.view.TLS.Terms(x.client.tls.policy); terms != nil && terms.HSTS != "" {
		x.resp.Header.Del(message.StrictTransportSecurity)
		x.resp.Header.AddString(message.StrictTransportSecurity, terms.HSTS)
	}
}

// closeEarly says in the response that the client's connection ends, where that is known.
func (x *exchange) closeEarly() {
	if x.client.ending() {
		x.setClose()
		return
	}
	if x.upload.done == nil || x.down.BodyDone() {
		return
	}
	if x.req.Expect {
		// A client that was not told to go on may send its body or not: nobody could tell it from a
		// request.
		x.setClose()
		return
	}
	if x.resp.Status >= 300 && !x.down.Multiplexed() && x.uploading() {
		x.setClose() // the server does not want what the client still sends
	}
}

// uploading says whether the client still sends its request's body. Mostly a server answers when it
// has it whole, and the goroutine that sent it has yet to notice.
func (x *exchange) uploading() bool {
	late := time.NewTimer(5 * time.Millisecond)
	defer late.Stop()
	select {
	case <-x.upload.done:
	case <-late.C:
	}
	return !x.down.BodyDone()
}

// unasked says whether a server of HTTP/1 has answered in full instead of asking for the body, of
// which nothing has come: what the client may still send could be a request to it.
func (x *exchange) unasked() bool {
	return x.req.Expect && !x.continued && x.upload.done != nil && !x.up.MayReturn() && !x.down.BodyStarted()
}

func (x *exchange) setClose() {
	x.closing = true
	x.down.SetClose()
}

// asksTunnel reports whether the request is an extended CONNECT. Any 2xx then tells the client that
// the tunnel stands (RFC 9110 section 9.3.6), so only a switch of protocols may become one: a
// server of HTTP/1 that answers with an ordinary 2xx has declined.
func (x *exchange) asksTunnel() bool { return x.down.Multiplexed() && x.req.Upgrade != nil }

// movedDown is the progress of the response while the request's body is still under way, else nil.
func (x *exchange) movedDown() *netio.Progress {
	if x.upload.done == nil {
		return nil
	}
	return &x.downloaded
}

// endResponse notes how the response ended, and ends the request's body if it is still coming.
func (x *exchange) endResponse(fromServer, toClient error) {
	if x.rec.GRPCStatus = grpcStatus(&x.resp.Trailer); x.rec.GRPCStatus < 0 {
		x.rec.GRPCStatus = grpcStatus(&x.resp.Header) // an answer that is only trailers
	}
	if fromServer == nil && toClient == nil {
		x.rec.End = telemetry.EndOK
		x.settleUpload()
	} else {
		x.passReset(x.blame(fromServer))
		// The body was cut: it must not look complete. A length or chunks say so; the end of a
		// connection would not.
		x.down.SetClose()
		x.broken = x.resp.ContentLength == message.Unknown && x.req.Version == message.HTTP10
		x.up.Abort()
		switch {
		case toClient != nil:
			x.rec.End = clientEnd(toClient)
		case x.gone.Load() && !x.down.Multiplexed():
			x.rec.End = telemetry.EndClientGone
		default:
			x.rec.End = serverAnswer(x.blame(fromServer)).End
		}
	}
	x.joinUpload()
}

// grpcStatus is what a gRPC server says of the outcome, -1 where it says nothing.
func grpcStatus(h *message.Header) (status int) {
	v := h.Get(message.GRPCStatus)
	if len(v) == 0 || len(v) > 3 {
		return -1
	}
	for _, c := range v {
		if c < '0' || c > '9' {
			return -1
		}
		status = 10*status + int(c-'0')
	}
	return status
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
