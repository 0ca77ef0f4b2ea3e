package message

// forbiddenTrailers are fields without an ID that are not allowed in trailers.
var forbiddenTrailers = [...]string{"Age", "Content-Range", "Expires", "If-Match", "If-Modified-Since", "If-None-Match", "If-Range",
	"If-Unmodified-Since", "Max-Forwards", "Pragma", "Range", "Warning"}

// CleanTrailer removes the fields that are not allowed in trailers: those that frame, route,
// authenticate, modify the message or are about the connection (RFC 9110 section 6.5.1), and those
// that mpgate itself sets.
func CleanTrailer(h *Header) {
	for i := range h.Len() {
		switch id, name, _, _ := h.At(i); id {
		case AcceptEncoding, Authorization, CacheControl, Connection, ContentEncoding, ContentLength, ContentType, Cookie,
			Date, Expect, Forwarded, Host, HTTP2Settings, KeepAlive, Location, ProxyAuthenticate, ProxyAuthorization,
			ProxyConnection, RetryAfter, SetCookie, TE, Trailer, TransferEncoding, Upgrade, Vary, WWWAuthenticate,
			XForwardedFor, XForwardedHost, XForwardedProto, XRealIP, XRequestID:
			h.DelAt(i)
		case Other:
			if IsForwarded(name) {
				h.DelAt(i)
				continue
			}
			for _, no := range forbiddenTrailers {
				if EqualFold(name, no) {
					h.DelAt(i)
				}
			}
		}
	}
}

// IsForwarded says whether a name is one of X-Forwarded-*, in any case.
func IsForwarded(name []byte) bool {
	const prefix = "X-Forwarded-"
	return len(name) > len(prefix) && EqualFold(name[:len(prefix)], prefix)
}
