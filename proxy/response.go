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

// deliver sends the response, whose head came at now, to the client.
func (x *exchange) deliver(now time.Time) {
	x.rec.Status = x.resp.Status
	if x.resp.Status == 101 {
		x.tunnel()
		return
	}
	if x.wantsTunnel() && x.resp.Status/100 == 2 {
		x.statusOnly = true // any client can ask for a tunnel where there is none
		x.up.Abort()
		x.answer(errorAnswer(502, telemetry.EndBackendInvalid, "the server did not switch protocols"))
		return
	}
	if x.route.AccelRedirect && x.takeAccel() {
		return
	}
	x.filter.FromServer = true
	if x.replaces(x.resp.Status, false) {
		x.replace()
		return
	}
	x.announceClose()
	x.downProgress().Begin()
	if err := x.sendHead(now); err != nil {
		x.endResponse(nil, err)
		return
	}
	var fromServer, toClient error
	if !x.resp.NoBody {
		x.watchEarly()
		x.rec.BytesOut, fromServer, toClient = relay(x.out, x.up.Body(), x.watch, x.downProgress())
		x.stopWatch()
		x.statusOnly = fromServer != nil && isEnd(fromServer) && time.Since(now) >= clientTime
	}
	if fromServer == nil && toClient == nil {
		if x.bodyUnrequested() {
			x.stopUpload()
		}
		if x.route.AccelRedirect {
			filter.RemoveAccel(&x.resp.Trailer)
		}
		if fromServer = x.out.End(&x.resp.Trailer); fromServer == nil && x.upload.done != nil {
			toClient = x.out.Flush() // no read from the client follows, which would flush it
		}
	}
	x.endResponse(fromServer, toClient)
}

// sendHead sends the head of the final response, x.resp. No other function does that. The body then
// goes to x.out.
func (x *exchange) sendHead(now time.Time) error {
	r := &x.resp
	x.out = x.down
	x.filter.Status = r.Status
	if r.Status != 101 {
		if !r.Header.Has(message.Date) {
			r.Header.Add(message.Date, date(now))
		}
		x.addFields()
		x.addHSTS()
	}
	if x.accel != nil {
		x.filterAccel(r)
	} else {
		x.chain.Response(&x.filter, r)
		if r.Status != 101 && !r.NoBody {
			x.out = x.chain.Body(&x.filter, r, x.out)
		}
	}
	x.noteResponseHeader()
	return x.down.WriteHead(r)
}

// addFields adds the fields that filters and redirects set.
func (x *exchange) addFields() {
	fields := &x.filter.Fields
	for i := range fields.Len() {
		if _, name, value, ok := fields.At(i); ok {
			x.resp.Header.AddName(name, value)
		}
	}
}

// addHSTS adds Strict-Transport-Security where the TLS policy of the connection says so (RFC 6797).
func (x *exchange) addHSTS() {
	if x.client.tls == nil || x.view.TLS == nil {
		return
	}
	if terms := x.view.TLS.Terms(x.client.tls.policy); terms != nil && terms.HSTS != "" {
		x.resp.Header.Del(message.StrictTransportSecurity)
		x.resp.Header.AddString(message.StrictTransportSecurity, terms.HSTS)
	}
}

// announceClose announces in the head that the client's connection will end, if that is known.
func (x *exchange) announceClose() {
	if x.client.ending() {
		x.setClose()
		return
	}
	if x.upload.done == nil || x.down.BodyDone() {
		return
	}
	if x.req.Expect {
		// A client that got no 100 may send its body or not: it could not be distinguished from a
		// request.
		x.setClose()
		return
	}
	if x.resp.Status >= 300 && !x.down.Multiplexed() && x.uploading() {
		x.setClose() // the server does not want what the client still sends
	}
}

// uploading reports whether the client still sends its request's body. Usually a server answers
// when the body is complete, and only the goroutine that sent it has not ended yet.
func (x *exchange) uploading() bool {
	late := time.NewTimer(5 * time.Millisecond)
	defer late.Stop()
	select {
	case <-x.upload.done:
	case <-late.C:
	}
	return !x.down.BodyDone()
}

// bodyUnrequested reports whether an HTTP/1 server has answered instead of asking for the body, of
// which nothing has come: it could take what the client still sends for a request.
func (x *exchange) bodyUnrequested() bool {
	return x.req.Expect && !x.continued && x.upload.done != nil && !x.up.MayReturn() && !x.down.BodyStarted()
}

func (x *exchange) setClose() {
	x.closing = true
	x.down.SetClose()
}

// wantsTunnel reports whether the request is an extended CONNECT. Any 2xx then opens the tunnel for
// the client (RFC 9110 section 9.3.6), so only a 101 may become one: an HTTP/1 server that answers
// with an ordinary 2xx has declined.
func (x *exchange) wantsTunnel() bool { return x.down.Multiplexed() && x.req.Upgrade != nil }

// downProgress returns the progress of the response while the request's body is still being sent,
// else nil.
func (x *exchange) downProgress() *netio.Progress {
	if x.upload.done == nil {
		return nil
	}
	return &x.downloaded
}

// endResponse records the outcome of the response, and ends the request's body.
func (x *exchange) endResponse(fromServer, toClient error) {
	if x.rec.GRPCStatus = grpcStatus(&x.resp.Trailer); x.rec.GRPCStatus < 0 {
		x.rec.GRPCStatus = grpcStatus(&x.resp.Header) // a trailers-only response
	}
	if fromServer == nil && toClient == nil {
		x.rec.End = telemetry.EndOK
		x.lingerUpload()
	} else {
		x.forwardReset(x.cause(fromServer))
		x.statusOnly = x.statusOnly || canceled(fromServer)
		// The body is truncated and must not look complete. A length or chunks show that; the end
		// of a connection does not.
		x.down.SetClose()
		x.broken = x.resp.ContentLength == message.Unknown && x.req.Version == message.HTTP10
		x.up.Abort()
		switch {
		case toClient != nil:
			x.rec.End = clientEnd(toClient)
		case x.clientGone.Load() && !x.down.Multiplexed():
			x.rec.End = telemetry.EndClientGone
		default:
			x.rec.End = serverAnswer(x.cause(fromServer)).End
		}
	}
	x.joinUpload()
}

// grpcStatus returns the value of grpc-status, -1 if it is absent or invalid.
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

// date returns the value of a Date field, formatted once a second.
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
