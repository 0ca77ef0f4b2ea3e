package proxy

import (
	"mpgate/proxy/coding"
	"mpgate/proxy/message"
)

// setCookie adds the cookie that keeps the client on its server to the response. A shared cache
// must not store it for others: Set-Cookie alone does not prevent that (RFC 9111 section 7.3).
func (x *exchange) setCookie(cookie []byte) {
	h := &x.resp.Header
	h.Add(message.SetCookie, cookie)
	x.filter.OwnCookie = cookie
	method := string(x.req.Method)
	if (method == "GET" || method == "HEAD") && sharedCachesMayStore(&x.resp) {
		h.AddString(message.CacheControl, "private")
	}
}

// sharedCachesMayStore reports whether a shared cache may store the response to a GET or HEAD (RFC
// 9111 section 3).
func sharedCachesMayStore(r *message.Response) bool {
	h := &r.Header
	explicit := false
	for i := range h.Len() {
		id, name, value, ok := h.At(i)
		switch {
		case !ok:
		case id == message.CacheControl && (coding.HasElement(value, "private") || coding.HasElement(value, "no-store")):
			return false
		case id == message.CacheControl, message.EqualFold(name, "Expires"):
			explicit = true
		}
	}
	switch r.Status {
	case 200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501: // RFC 9110 section 15.1
		return true
	}
	return explicit
}
