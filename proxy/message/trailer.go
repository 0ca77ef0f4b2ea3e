package message

// CleanTrailer takes off the fields that have no place in trailers: those that frame, route, authenticate
// or are about the connection (RFC 9110 section 6.5.1), and those that mpgate itself vouches for.
func CleanTrailer(h *Header) {
	for i := range h.Len() {
		switch id, _, _, _ := h.At(i); id {
		case AcceptEncoding, Authorization, CacheControl, Connection, ContentEncoding, ContentLength, ContentType, Cookie,
			Expect, Forwarded, Host, HTTP2Settings, KeepAlive, Location, ProxyAuthenticate, ProxyAuthorization,
			ProxyConnection, RetryAfter, SetCookie, TE, Trailer, TransferEncoding, Upgrade, Vary, WWWAuthenticate,
			XForwardedFor, XForwardedHost, XForwardedProto, XRealIP, XRequestID:
			h.DelAt(i)
		}
	}
}
