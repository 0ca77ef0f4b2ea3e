package proxy

import (
	"io"

	"mpgate/proxy/message"
)

// replace answers with the response of a filter instead of that of the server.
func (x *exchange) replace() {
	x.replaced = true
	x.keepFields()
	x.skipResponse()
	x.joinUpload()
	x.answer(x.filter.Answer)
}

// keepFields keeps the fields of the server's response that say something about its status, or to
// whom it may be shown, rather than about its body.
func (x *exchange) keepFields() {
	h := &x.resp.Header
	for i := range h.Len() {
		if id, name, value, ok := h.At(i); ok && isKept(id, name) {
			x.filter.Fields.AddName(name, value)
		}
	}
}

func isKept(id message.ID, name []byte) bool {
	switch id {
	case message.Location, message.RetryAfter, message.SetCookie, message.Vary, message.WWWAuthenticate:
		return true
	case message.Other:
		const cors = "Access-Control-"
		return message.EqualFold(name, "Allow") || len(name) > len(cors) && message.EqualFold(name[:len(cors)], cors)
	}
	return false
}

// skipResponse reads what has arrived of the body of the server's response, so that the connection
// can be used again. If that is not all of it, the connection is closed.
func (x *exchange) skipResponse() {
	if x.upload.done != nil {
		x.up.Abort()
		return
	}
	for n := 0; !x.resp.NoBody; {
		p, err := x.up.Body().Next(false)
		if err == io.EOF {
			return
		}
		if n += len(p); err != nil || n > maxDiscarded {
			x.up.Abort()
			return
		}
	}
}
