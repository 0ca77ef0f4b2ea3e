package message

// ID names a well-known header field. Fields that are not in the list have ID Other.
type ID uint8

// The fields that mpgate itself looks at or writes. At most 63 fit, as Header keeps one bit for
// each.
const (
	Other ID = iota
	Accept
	AcceptEncoding
	AltSvc
	Authorization
	CDNLoop
	CacheControl
	Connection
	ContentEncoding
	ContentLength
	ContentType
	Cookie
	Date
	ETag
	Expect
	Forwarded
	GRPCStatus
	Host
	HTTP2Settings
	KeepAlive
	LastModified
	Location
	Origin
	PersistentAuth
	ProxyAuthenticate
	ProxyAuthorization
	ProxyConnection
	Referer
	RetryAfter
	SecWebSocketAccept
	SecWebSocketExtensions
	SecWebSocketKey
	SecWebSocketProtocol
	SecWebSocketVersion
	Server
	SetCookie
	StrictTransportSecurity
	TE
	Trailer
	TransferEncoding
	Upgrade
	UserAgent
	Vary
	Via
	WWWAuthenticate
	XForwardedFor
	XForwardedHost
	XForwardedProto
	XRealIP
	XRequestID
	numIDs

	deleted ID = 255 // a removed field; never leaves this package
)

// names holds the spelling that mpgate writes for the fields it adds itself.
var names = [numIDs]string{
	Accept: "Accept", AcceptEncoding: "Accept-Encoding", AltSvc: "Alt-Svc", Authorization: "Authorization",
	CDNLoop: "CDN-Loop", CacheControl: "Cache-Control", Connection: "Connection", ContentEncoding: "Content-Encoding",
	ContentLength: "Content-Length", ContentType: "Content-Type", Cookie: "Cookie", Date: "Date", ETag: "ETag",
	Expect: "Expect", Forwarded: "Forwarded", GRPCStatus: "Grpc-Status", Host: "Host", HTTP2Settings: "HTTP2-Settings",
	KeepAlive: "Keep-Alive", LastModified: "Last-Modified", Location: "Location", Origin: "Origin",
	PersistentAuth:    "Persistent-Auth",
	ProxyAuthenticate: "Proxy-Authenticate", ProxyAuthorization: "Proxy-Authorization",
	ProxyConnection: "Proxy-Connection", Referer: "Referer", RetryAfter: "Retry-After",
	SecWebSocketAccept: "Sec-WebSocket-Accept", SecWebSocketExtensions: "Sec-WebSocket-Extensions",
	SecWebSocketKey: "Sec-WebSocket-Key", SecWebSocketProtocol: "Sec-WebSocket-Protocol",
	SecWebSocketVersion: "Sec-WebSocket-Version", Server: "Server", SetCookie: "Set-Cookie",
	StrictTransportSecurity: "Strict-Transport-Security", TE: "TE", Trailer: "Trailer",
	TransferEncoding: "Transfer-Encoding", Upgrade: "Upgrade", UserAgent: "User-Agent", Vary: "Vary", Via: "Via",
	WWWAuthenticate: "WWW-Authenticate", XForwardedFor: "X-Forwarded-For", XForwardedHost: "X-Forwarded-Host",
	XForwardedProto: "X-Forwarded-Proto", XRealIP: "X-Real-IP", XRequestID: "X-Request-ID",
}

// String is the field's name as mpgate spells it, "" for Other.
func (id ID) String() string {
	if id >= numIDs {
		return ""
	}
	return names[id]
}

// slots is a hash table without chains: hash spreads the known names so that no two share a slot
// (a test checks that): Lookup makes one comparison.
var slots = func() (t [256]ID) {
	for id := Other + 1; id < numIDs; id++ {
		t[hash(names[id])] = id
	}
	return t
}()

// hash needs at least one byte. Bit 5 is masked out, which folds the case of letters.
func hash[T string | []byte](name T) uint8 {
	first, mid, last := name[0]|0x20, name[len(name)/2]|0x20, name[len(name)-1]|0x20
	return uint8(uint(len(name))*99 + uint(first)*101 + uint(mid)*3 + uint(last)*91)
}

// Lookup gives the ID of a field name in any case (RFC 9110 section 5.1), Other if it is not
// known.
func Lookup(name []byte) ID {
	if len(name) == 0 {
		return Other
	}
	id := slots[hash(name)]
	if id != Other && EqualFold(name, names[id]) {
		return id
	}
	return Other
}

// EqualFold compares ASCII without regard to case. Unlike bytes.EqualFold it folds nothing beyond
// ASCII: to an HTTP parser a Kelvin sign is not a k.
func EqualFold[T string | []byte](b []byte, s T) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range len(b) {
		x, y := b[i], s[i]
		if x == y {
			continue
		}
		if x|0x20 != y|0x20 || x|0x20 < 'a' || x|0x20 > 'z' {
			return false
		}
	}
	return true
}
