package http1

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"mpgate/proxy/message"
)

// dumpRequest writes down everything that decoding found.
func dumpRequest(r *message.Request) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", r.Method, r.Path)
	if r.HasQuery {
		fmt.Fprintf(&b, "?%s", r.Query)
	}
	fmt.Fprintf(&b, " %s host=%s", r.Version, r.Host)
	if r.Port != nil {
		fmt.Fprintf(&b, ":%s", r.Port)
	}
	if r.ContentLength != 0 {
		fmt.Fprintf(&b, " length=%d", r.ContentLength)
	}
	for _, flag := range []struct {
		name string
		set  bool
	}{{"slash", r.EncodedSlash}, {"close", r.Close}, {"expect", r.Expect}, {"trailers", r.TrailersOK}} {
		if flag.set {
			b.WriteString(" " + flag.name)
		}
	}
	if r.Upgrade != nil {
		fmt.Fprintf(&b, " upgrade=%s", r.Upgrade)
	}
	return b.String() + dumpHeader(&r.Header)
}

// In these tables "|" stands for CRLF.
var acceptedRequests = []struct{ name, in, want string }{
	{"minimal", "GET / HTTP/1.1|Host: x||", "GET / HTTP/1.1 host=x"},
	{"query", "GET /a?b=c?d HTTP/1.1|Host: x||", "GET /a?b=c?d HTTP/1.1 host=x"},
	{"empty query", "GET /a? HTTP/1.1|Host: x||", "GET /a? HTTP/1.1 host=x"},
	{"canonical path", "GET //a/%7eb/../%c3 HTTP/1.1|Host: x||", "GET /a/%C3 HTTP/1.1 host=x"},
	{"encoded slash", "GET /a%2fb HTTP/1.1|Host: x||", "GET /a%2Fb HTTP/1.1 host=x slash"},
	{"obs-text in the target", "GET /\xc3\xa4 HTTP/1.1|Host: x||", "GET /%C3%A4 HTTP/1.1 host=x"},
	{"unknown method", "M-SEARCH!#$%&'*+.^_`~ / HTTP/1.1|Host: x||", "M-SEARCH!#$%&'*+.^_`~ / HTTP/1.1 host=x"},
	{"method of 32 bytes", strings.Repeat("M", 32) + " / HTTP/1.1|Host: x||", strings.Repeat("M", 32) + " / HTTP/1.1 host=x"},
	{"lower-case method is another", "get / HTTP/1.1|Host: x||", "get / HTTP/1.1 host=x"},
	{"asterisk", "OPTIONS * HTTP/1.1|Host: x||", "OPTIONS * HTTP/1.1 host=x"},
	{"absolute OPTIONS", "OPTIONS http://x HTTP/1.1|Host: x||", "OPTIONS * HTTP/1.1 host=x"},
	{"OPTIONS of a path", "OPTIONS /* HTTP/1.1|Host: x||", "OPTIONS /* HTTP/1.1 host=x"},

	{"Host in upper case, port, dot", "GET / HTTP/1.1|Host: ADMIN.example.com.:8080||", "GET / HTTP/1.1 host=admin.example.com:8080"},
	{"Host in any case", "GET / HTTP/1.1|hOsT: x||", "GET / HTTP/1.1 host=x"},
	{"IPv6 Host", "GET / HTTP/1.1|Host: [2001:DB8::1]:80||", "GET / HTTP/1.1 host=[2001:db8::1]:80"},
	{"Host behind a tab", "GET / HTTP/1.1|Host:\tx\t||", "GET / HTTP/1.1 host=x"},
	{"Host without space", "GET / HTTP/1.1|Host:x||", "GET / HTTP/1.1 host=x"},
	{"empty Host", "GET / HTTP/1.1|Host:||", "GET / HTTP/1.1 host="},
	{"absolute form", "GET http://x/a?b HTTP/1.1|Host: x||", "GET /a?b HTTP/1.1 host=x"},
	{"absolute form without path", "GET http://X:81 HTTP/1.1|Host: x:81||", "GET / HTTP/1.1 host=x:81"},
	{"empty Host in absolute form", "GET http://x/ HTTP/1.1|Host:||", "GET / HTTP/1.1 host=x"},
	{"default port in the target", "GET http://x:80/ HTTP/1.1|Host: x||", "GET / HTTP/1.1 host=x:80"},
	{"default port in Host", "GET http://x/ HTTP/1.1|Host: x:80||", "GET / HTTP/1.1 host=x"},
	{"default port and none", "GET http://x:/ HTTP/1.1|Host: x:080||", "GET / HTTP/1.1 host=x"},
	{"default port of https", "GET HTTPS://x:443/ HTTP/1.1|Host: x||", "GET / HTTP/1.1 host=x:443"},
	{"default port of IPv6", "GET http://[::1]/ HTTP/1.1|Host: [::1]:80||", "GET / HTTP/1.1 host=[::1]"},
	{"absolute form in 1.0 without Host", "GET http://x/ HTTP/1.0||", "GET / HTTP/1.0 host=x close"},

	{"1.0", "GET / HTTP/1.0||", "GET / HTTP/1.0 host= close"},
	{"1.0 keep-alive", "GET / HTTP/1.0|Connection: keep-alive||", "GET / HTTP/1.0 host="},
	{"1.0 Keep-Alive in any case", "GET / HTTP/1.0|Connection: x, KEEP-ALIVE||", "GET / HTTP/1.0 host="},
	{"1.0 keep-alive and close", "GET / HTTP/1.0|Connection: keep-alive, close||", "GET / HTTP/1.0 host= close"},
	{"1.0 with a body", "POST / HTTP/1.0|Content-Length: 3||abc", "POST / HTTP/1.0 host= length=3 close"},
	{"1.0 knows no Expect", "POST / HTTP/1.0|Content-Length: 3|Expect: 100-continue||", "POST / HTTP/1.0 host= length=3 close"},
	{"1.0 knows no Upgrade", "GET / HTTP/1.0|Host: x|Connection: upgrade|Upgrade: websocket||", "GET / HTTP/1.0 host=x close"},
	{"1.0 knows no TE", "GET / HTTP/1.0|Host: x|TE: trailers||", "GET / HTTP/1.0 host=x close"},
	{"close", "GET / HTTP/1.1|Host: x|Connection: close||", "GET / HTTP/1.1 host=x close"},
	{"Close in any case and place", "GET / HTTP/1.1|Host: x|Connection: a|CONNECTION: b ,\tCLOSE, c||", "GET / HTTP/1.1 host=x close"},
	{"closed is not close", "GET / HTTP/1.1|Host: x|Connection: closed||", "GET / HTTP/1.1 host=x"},

	{"length", "POST / HTTP/1.1|Host: x|Content-Length: 10||", "POST / HTTP/1.1 host=x length=10"},
	{"length with zeros", "POST / HTTP/1.1|Host: x|content-length:   0010\t ||", "POST / HTTP/1.1 host=x length=10"},
	{"length of a GET", "GET / HTTP/1.1|Host: x|Content-Length: 10||", "GET / HTTP/1.1 host=x length=10"},
	{"largest length", "POST / HTTP/1.1|Host: x|Content-Length: 9223372036854775799||", "POST / HTTP/1.1 host=x length=9223372036854775799"},
	{"chunked", "POST / HTTP/1.1|Host: x|Transfer-Encoding: chunked||", "POST / HTTP/1.1 host=x length=-1"},
	{"Chunked in any case", "POST / HTTP/1.1|Host: x|TRANSFER-encoding:\tCHUNKED ||", "POST / HTTP/1.1 host=x length=-1"},
	{"Expect", "POST / HTTP/1.1|Host: x|Content-Length: 3|Expect: 100-Continue||", "POST / HTTP/1.1 host=x length=3 expect"},
	{"Expect without a body", "GET / HTTP/1.1|Host: x|Expect: 100-continue||", "GET / HTTP/1.1 host=x"},
	{"Expect twice", "POST / HTTP/1.1|Host: x|Content-Length: 3|Expect: 100-continue|Expect: 100-continue||", "POST / HTTP/1.1 host=x length=3 expect"},
	{"TE", "GET / HTTP/1.1|Host: x|Connection: TE|TE: deflate;q=0.5, Trailers||", "GET / HTTP/1.1 host=x trailers"},
	{"TE in a second line", "GET / HTTP/1.1|Host: x|TE: gzip|TE: trailers||", "GET / HTTP/1.1 host=x trailers"},
	{"TE without trailers", "GET / HTTP/1.1|Host: x|TE: trailersx, gzip||", "GET / HTTP/1.1 host=x"},
	{"Trailer is end to end", "POST / HTTP/1.1|Host: x|Transfer-Encoding: chunked|Trailer: X-Sum||", "POST / HTTP/1.1 host=x length=-1|Trailer: X-Sum"},

	{"order, case and repetition are kept", "GET / HTTP/1.1|x-B: 1|Host: x|X-b: 2|A:3|x-B:||", "GET / HTTP/1.1 host=x|x-B: 1|X-b: 2|A: 3|x-B: "},
	{"white space around, not inside", "GET / HTTP/1.1|Host: x|A: \t b \tc\t ||", "GET / HTTP/1.1 host=x|A: b \tc"},
	{"obs-text in a value", "GET / HTTP/1.1|Host: x|A: \x80\xff||", "GET / HTTP/1.1 host=x|A: \x80\xff"},
	{"every text byte", "GET / HTTP/1.1|Host: x|A: " + allText() + "||", "GET / HTTP/1.1 host=x|A: " + strings.TrimSpace(allText())},
	{"every token byte", "GET / HTTP/1.1|Host: x|!#$%&'*+-.^_`~09azAZ: 1||", "GET / HTTP/1.1 host=x|!#$%&'*+-.^_`~09azAZ: 1"},

	{"hop-by-hop fields", "GET / HTTP/1.1|Host: x|Keep-Alive: 5|Proxy-Connection: close|Proxy-Authorization: b|Proxy-Authenticate: c|TE: a|Upgrade: b|A: 1||",
		"GET / HTTP/1.1 host=x|A: 1"},
	{"nominated", "GET / HTTP/1.1|Host: x|X-A: 1|X-B: 2|x-a: 3|Connection: X-A||", "GET / HTTP/1.1 host=x|X-B: 2"},
	{"nominated beside close", "GET / HTTP/1.1|Connection: close, X-Real-IP, x-FORWARDED-for|Host: x|X-Real-IP: 1|X-Forwarded-For: 2|X-Forwarded-Proto: s||",
		"GET / HTTP/1.1 host=x close|X-Forwarded-Proto: s"},
	{"nominated in several lines", "GET / HTTP/1.1|Host: x|Connection: ,,|X-A: 1|Connection: x-a|connection: \t, X-B\t,|X-B: 2|X-C: 3||", "GET / HTTP/1.1 host=x|X-C: 3"},
	{"Connection names itself", "GET / HTTP/1.1|Host: x|X-A: 1|Connection: connection|Connection: X-A||", "GET / HTTP/1.1 host=x"},
	{"what frames cannot be nominated", "POST / HTTP/1.1|Host: x|Content-Length: 3|Connection: Content-Length, Host, Transfer-Encoding||", "POST / HTTP/1.1 host=x length=3"},
	{"nominated Expect goes", "POST / HTTP/1.1|Host: x|Content-Length: 3|Expect: 100-continue|Connection: Expect||", "POST / HTTP/1.1 host=x length=3"},

	{"upgrade", "GET / HTTP/1.1|Host: x|Connection: Upgrade|Upgrade: websocket|Sec-WebSocket-Key: k||", "GET / HTTP/1.1 host=x upgrade=websocket|Sec-WebSocket-Key: k"},
	{"upgrade with a version", "GET / HTTP/1.1|Host: x|Connection: keep-alive, upgrade|Upgrade: Foo/1.0||", "GET / HTTP/1.1 host=x upgrade=Foo/1.0"},
	{"upgrade not named", "GET / HTTP/1.1|Host: x|Upgrade: websocket||", "GET / HTTP/1.1 host=x"},
	{"upgrade not said to what", "GET / HTTP/1.1|Host: x|Connection: upgrade||", "GET / HTTP/1.1 host=x"},
	{"upgrade to nothing", "GET / HTTP/1.1|Host: x|Connection: upgrade|Upgrade:||", "GET / HTTP/1.1 host=x"},
	{"h2c", "GET / HTTP/1.1|Host: x|Connection: Upgrade, HTTP2-Settings|Upgrade: h2c|HTTP2-Settings: AAMAAABk||", "GET / HTTP/1.1 host=x"},
	{"h2c settings not named", "GET / HTTP/1.1|Host: x|Connection: Upgrade|Upgrade: H2C|HTTP2-Settings: AAMAAABk||", "GET / HTTP/1.1 host=x"},
	{"h2c of a draft", "GET / HTTP/1.1|Host: x|Connection: Upgrade|Upgrade: h2c-14||", "GET / HTTP/1.1 host=x"},
	{"upgrade to HTTP/2", "GET / HTTP/1.1|Host: x|Connection: Upgrade|Upgrade: HTTP/2.0||", "GET / HTTP/1.1 host=x"},
	{"upgrade to TLS", "GET / HTTP/1.1|Host: x|Connection: Upgrade|Upgrade: TLS/1.0||", "GET / HTTP/1.1 host=x"},
	{"a choice of upgrades", "GET / HTTP/1.1|Host: x|Connection: Upgrade|Upgrade: websocket, h2c||", "GET / HTTP/1.1 host=x"},
	{"a choice in two lines", "GET / HTTP/1.1|Host: x|Connection: Upgrade|Upgrade: websocket|Upgrade: h2c||", "GET / HTTP/1.1 host=x"},
	{"upgrade outside the grammar", "GET / HTTP/1.1|Host: x|Connection: Upgrade|Upgrade: a//b||", "GET / HTTP/1.1 host=x"},
	{"upgrade without a name", "GET / HTTP/1.1|Host: x|Connection: Upgrade|Upgrade: /1.0||", "GET / HTTP/1.1 host=x"},
	{"upgrade without a version", "GET / HTTP/1.1|Host: x|Connection: Upgrade|Upgrade: foo/||", "GET / HTTP/1.1 host=x"},
	{"upgrade with a body", "POST / HTTP/1.1|Host: x|Connection: Upgrade|Upgrade: websocket|Content-Length: 1||", "POST / HTTP/1.1 host=x length=1 upgrade=websocket"},
	{"upgrade with a chunked body", "POST / HTTP/1.1|Host: x|Connection: Upgrade|Upgrade: websocket|Transfer-Encoding: chunked||", "POST / HTTP/1.1 host=x length=-1 upgrade=websocket"},
}

func allText() string {
	var b strings.Builder
	b.WriteByte('\t')
	for c := ' '; c < 0x7f; c++ {
		if c != '|' {
			b.WriteByte(byte(c))
		}
	}
	for c := 0x80; c <= 0xff; c++ {
		b.WriteByte(byte(c))
	}
	return b.String()
}

var refusedRequests = []struct {
	name, in string
	status   int
	reason   string
}{
	{"bare LF in the request line", "GET / HTTP/1.1\nHost: x||", 400, "a line ends in a bare LF; want CRLF"},
	{"bare LF in a field", "GET / HTTP/1.1|Host: x\nA: b||", 400, "a line ends in a bare LF; want CRLF"},
	{"bare LF as the empty line", "GET / HTTP/1.1|Host: x|\n", 400, "a line ends in a bare LF; want CRLF"},
	{"only bare LF", "\n", 400, "a line ends in a bare LF; want CRLF"},
	{"LF CR", "GET / HTTP/1.1\n\rHost: x||", 400, "a line ends in a bare LF; want CRLF"},
	{"bare CR in the method", "G\rT / HTTP/1.1|Host: x||", 400, "invalid method"},
	{"bare CR in the target", "GET /\r HTTP/1.1|Host: x||", 400, `path: a space, control character, "?" or "#" is not percent-encoded`},
	{"bare CR in the version", "GET / HTTP/1.1\r|Host: x||", 400, "malformed HTTP version"},
	{"bare CR in a name", "GET / HTTP/1.1|Host: x|A\rB: c||", 400, "invalid header field name"},
	{"bare CR in a value", "GET / HTTP/1.1|Host: x|A: b\rc||", 400, "a header value holds a control character"},
	{"bare CR at the end of a value", "GET / HTTP/1.1|Host: x|A: b\r||", 400, "a header value holds a control character"},
	{"bare CR alone in a line", "GET / HTTP/1.1|Host: x|\r||", 400, "a header line has no colon"},
	{"two empty lines before", "||GET / HTTP/1.1|Host: x||", 400, "malformed request line; want METHOD SP target SP HTTP/1.1"},

	{"no spaces", "GET||", 400, "malformed request line; want METHOD SP target SP HTTP/1.1"},
	{"0.9", "GET /||", 400, "malformed request line; want METHOD SP target SP HTTP/1.1"},
	{"two spaces", "GET  / HTTP/1.1|Host: x||", 400, "malformed request line; want METHOD SP target SP HTTP/1.1"},
	{"two spaces before the version", "GET /  HTTP/1.1|Host: x||", 400, "malformed request line; want METHOD SP target SP HTTP/1.1"},
	{"space in the target", "GET /a b HTTP/1.1|Host: x||", 400, "malformed request line; want METHOD SP target SP HTTP/1.1"},
	{"space at the end", "GET / HTTP/1.1 |Host: x||", 400, "malformed request line; want METHOD SP target SP HTTP/1.1"},
	{"space at the beginning", " GET / HTTP/1.1|Host: x||", 400, "malformed request line; want METHOD SP target SP HTTP/1.1"},
	{"tab between", "GET\t/\tHTTP/1.1|Host: x||", 400, "malformed request line; want METHOD SP target SP HTTP/1.1"},
	{"tab in the method", "GE\tT / HTTP/1.1|Host: x||", 400, "invalid method"},
	{"method no token", "G(T / HTTP/1.1|Host: x||", 400, "invalid method"},
	{"method obs-text", "G\xc3T / HTTP/1.1|Host: x||", 400, "invalid method"},
	{"method of 33 bytes", strings.Repeat("M", 33) + " / HTTP/1.1|Host: x||", 501, "method is longer than 32 bytes"},
	{"CONNECT", "CONNECT x:80 HTTP/1.1|Host: x|Transfer-Encoding: chunked||1c|GET / HTTP/1.1|Host: x||", 405, "CONNECT is not supported"},
	{"HTTP/2 preface", "PRI * HTTP/2.0||SM||", 505, "HTTP version is not 1.0 or 1.1"},
	{"HTTP/1.2", "GET / HTTP/1.2|Host: x||", 505, "HTTP version is not 1.0 or 1.1"},
	{"HTTP/0.9 named", "GET / HTTP/0.9|Host: x||", 505, "HTTP version is not 1.0 or 1.1"},
	{"http/1.1", "GET / http/1.1|Host: x||", 400, "malformed HTTP version"},
	{"HTTP/1.10", "GET / HTTP/1.10|Host: x||", 400, "malformed HTTP version"},
	{"HTTP/01.1", "GET / HTTP/01.1|Host: x||", 400, "malformed HTTP version"},
	{"HTTP/1", "GET / HTTP/1|Host: x||", 400, "malformed HTTP version"},
	{"HTTP /1.1", "GET / HTTP /1.1|Host: x||", 400, "malformed request line; want METHOD SP target SP HTTP/1.1"},
	{"ICY", "GET / ICY|Host: x||", 400, "malformed HTTP version"},

	{"NUL in the target", "GET /\x00 HTTP/1.1|Host: x||", 400, `path: a space, control character, "?" or "#" is not percent-encoded`},
	{"DEL in the target", "GET /\x7f HTTP/1.1|Host: x||", 400, `path: a space, control character, "?" or "#" is not percent-encoded`},
	{"fragment", "GET /a#b HTTP/1.1|Host: x||", 400, `path: a space, control character, "?" or "#" is not percent-encoded`},
	{"broken escape", "GET /%zz HTTP/1.1|Host: x||", 400, "path: a percent sign is not followed by two hexadecimal digits"},
	{"above the root", "GET /../a HTTP/1.1|Host: x||", 400, "path: its dot segments lead above the root"},
	{"hidden dots", "GET /public/..%2fadmin HTTP/1.1|Host: x||", 400, "path: an encoded slash, an encoded backslash or a semicolon hides a dot segment"},
	{"relative", "GET a HTTP/1.1|Host: x||", 400, `request target: neither a path, nor an http or https URL, nor "*"`},
	{"asterisk of a GET", "GET * HTTP/1.1|Host: x||", 400, `request target: "*" is for OPTIONS only`},
	{"user", "GET http://u@x/ HTTP/1.1|Host: x||", 400, "request target: the URL has no host, or has a user"},
	{"other scheme", "GET ftp://x/ HTTP/1.1|Host: x||", 400, `request target: neither a path, nor an http or https URL, nor "*"`},
	{"control in the query", "GET /?\x01 HTTP/1.1|Host: x||", 400, `query: a space, control character or "#" is not percent-encoded`},

	{"no Host", "GET / HTTP/1.1||", 400, "Host is missing"},
	{"no Host in absolute form", "GET http://x/ HTTP/1.1||", 400, "Host is missing"},
	{"two Hosts", "GET / HTTP/1.1|Host: x|Host: x||", 400, "more than one Host field"},
	{"two Hosts in 1.0", "GET / HTTP/1.0|Host: x|A: b|HOST: y||", 400, "more than one Host field"},
	{"two Hosts in absolute form", "GET http://x/ HTTP/1.1|Host: x|Host: x||", 400, "more than one Host field"},
	{"list in Host", "GET / HTTP/1.1|Host: x, y||", 400, `host: has characters other than letters, digits, "-", "." and "_"`},
	{"path in Host", "GET / HTTP/1.1|Host: x/y||", 400, `host: has characters other than letters, digits, "-", "." and "_"`},
	{"user in Host", "GET / HTTP/1.1|Host: u@x||", 400, `host: has characters other than letters, digits, "-", "." and "_"`},
	{"port no number", "GET / HTTP/1.1|Host: x:8a||", 400, "host: the port is not a number up to 65535"},
	{"port too large", "GET / HTTP/1.1|Host: x:65536||", 400, "host: the port is not a number up to 65535"},
	{"port alone", "GET / HTTP/1.1|Host: :80||", 400, "host: empty"},
	{"space in Host", "GET / HTTP/1.1|Host: x y||", 400, `host: has characters other than letters, digits, "-", "." and "_"`},
	{"obs-text in Host", "GET / HTTP/1.1|Host: \xc3||", 400, `host: has characters other than letters, digits, "-", "." and "_"`},
	{"another host in the target", "GET http://y/ HTTP/1.1|Host: x||", 400, "Host differs from the host of the request target"},
	{"another port in the target", "GET http://x:81/ HTTP/1.1|Host: x||", 400, "Host differs from the host of the request target"},
	{"the other scheme's port in the target", "GET http://x:443/ HTTP/1.1|Host: x||", 400, "Host differs from the host of the request target"},
	{"another host, default port", "GET http://x:80/ HTTP/1.1|Host: y||", 400, "Host differs from the host of the request target"},
	{"port alone beside the target's", "GET http://x/ HTTP/1.1|Host: :80||", 400, "host: empty"},
	{"bad host in the target", "GET http://x,y/ HTTP/1.1|Host: x||", 400, `host: has characters other than letters, digits, "-", "." and "_"`},

	{"obs-fold", "GET / HTTP/1.1|Host: x|A: b| c||", 400, "a header line begins with white space (obsolete folding)"},
	{"obs-fold with a tab and a colon", "GET / HTTP/1.1|Host: x|A: b|\tc: d||", 400, "a header line begins with white space (obsolete folding)"},
	{"fold behind the request line", "GET / HTTP/1.1| Host: x||", 400, "a header line begins with white space (obsolete folding)"},
	{"line of one space", "GET / HTTP/1.1|Host: x| ||", 400, "a header line begins with white space (obsolete folding)"},
	{"space before the colon", "GET / HTTP/1.1|Host: x|Transfer-Encoding : chunked||", 400, "invalid header field name"},
	{"tab before the colon", "GET / HTTP/1.1|Host: x|Content-Length\t: 3||", 400, "invalid header field name"},
	{"empty name", "GET / HTTP/1.1|Host: x|: y||", 400, "a header line has an empty name"},
	{"only a colon", "GET / HTTP/1.1|Host: x|:||", 400, "a header line has an empty name"},
	{"no colon", "GET / HTTP/1.1|Host: x|A||", 400, "a header line has no colon"},
	{"no colon but in the next line", "GET / HTTP/1.1|A b|Host: x||", 400, "a header line has no colon"},
	{"name no token", "GET / HTTP/1.1|Host: x|A(b): c||", 400, "invalid header field name"},
	{"name obs-text", "GET / HTTP/1.1|Host: x|\xc3: c||", 400, "invalid header field name"},
	{"NUL in a name", "GET / HTTP/1.1|Host: x|A\x00: c||", 400, "invalid header field name"},
	{"NUL in a value", "GET / HTTP/1.1|Host: x|A: b\x00||", 400, "a header value holds a control character"},
	{"NUL far behind in a value", "GET / HTTP/1.1|Host: x|A: bbbbbbbbbbbbbbbbbbb\x00bbbbbbbbbbbbbb||", 400, "a header value holds a control character"},
	{"DEL in a value", "GET / HTTP/1.1|Host: x|A: bbbbbbbbbbbb\x7fbbbbbbbbbbbb||", 400, "a header value holds a control character"},
	{"VT for white space", "GET / HTTP/1.1|Host: x|Content-Length:\v3||", 400, "a header value holds a control character"},
	{"ESC in a value", "GET / HTTP/1.1|Host: x|A: \x1b[0m||", 400, "a header value holds a control character"},

	{"both lengths", "POST / HTTP/1.1|Host: x|Content-Length: 3|Transfer-Encoding: chunked||0||", 400, "both Content-Length and Transfer-Encoding"},
	{"both lengths, other order", "POST / HTTP/1.1|Host: x|Transfer-Encoding: chunked|Content-Length: 0||0||", 400, "both Content-Length and Transfer-Encoding"},
	{"length twice", "POST / HTTP/1.1|Host: x|Content-Length: 3|Content-Length: 4||", 400, "more than one Content-Length field"},
	{"length twice the same", "POST / HTTP/1.1|Host: x|Content-Length: 3|content-length: 3||", 400, "more than one Content-Length field"},
	{"empty length beside another", "POST / HTTP/1.1|Host: x|Content-Length:|Content-Length: 3||", 400, "malformed Content-Length"},
	{"empty length", "POST / HTTP/1.1|Host: x|Content-Length: ||", 400, "malformed Content-Length"},
	{"length list", "POST / HTTP/1.1|Host: x|Content-Length: 3, 3||", 400, "malformed Content-Length"},
	{"length with plus", "POST / HTTP/1.1|Host: x|Content-Length: +3||", 400, "malformed Content-Length"},
	{"length with minus", "POST / HTTP/1.1|Host: x|Content-Length: -3||", 400, "malformed Content-Length"},
	{"length in hex", "POST / HTTP/1.1|Host: x|Content-Length: 0x3||", 400, "malformed Content-Length"},
	{"length with underscore", "POST / HTTP/1.1|Host: x|Content-Length: 1_0||", 400, "malformed Content-Length"},
	{"length with a point", "POST / HTTP/1.1|Host: x|Content-Length: 3.0||", 400, "malformed Content-Length"},
	{"length with a space", "POST / HTTP/1.1|Host: x|Content-Length: 3 3||", 400, "malformed Content-Length"},
	{"length 2^63", "POST / HTTP/1.1|Host: x|Content-Length: 9223372036854775808||", 413, "Content-Length is too large"},
	{"length 2^64+3", "POST / HTTP/1.1|Host: x|Content-Length: 18446744073709551619||", 413, "Content-Length is too large"},
	{"xchunked", "POST / HTTP/1.1|Host: x|Transfer-Encoding: xchunked||", 400, "Transfer-Encoding is not exactly chunked"},
	{"chunked, chunked", "POST / HTTP/1.1|Host: x|Transfer-Encoding: chunked, chunked||", 400, "Transfer-Encoding is not exactly chunked"},
	{"gzip, chunked", "POST / HTTP/1.1|Host: x|Transfer-Encoding: gzip, chunked||", 400, "Transfer-Encoding is not exactly chunked"},
	{"chunked, identity", "POST / HTTP/1.1|Host: x|Transfer-Encoding: chunked, identity||", 400, "Transfer-Encoding is not exactly chunked"},
	{"identity", "POST / HTTP/1.1|Host: x|Transfer-Encoding: identity||", 400, "Transfer-Encoding is not exactly chunked"},
	{"empty coding", "POST / HTTP/1.1|Host: x|Transfer-Encoding:||", 400, "Transfer-Encoding is not exactly chunked"},
	{"coding with a comma", "POST / HTTP/1.1|Host: x|Transfer-Encoding: ,chunked||", 400, "Transfer-Encoding is not exactly chunked"},
	{"coding with a parameter", "POST / HTTP/1.1|Host: x|Transfer-Encoding: chunked;q=1||", 400, "Transfer-Encoding is not exactly chunked"},
	{"coding quoted", "POST / HTTP/1.1|Host: x|Transfer-Encoding: \"chunked\"||", 400, "Transfer-Encoding is not exactly chunked"},
	{"coding behind VT", "POST / HTTP/1.1|Host: x|Transfer-Encoding: \vchunked||", 400, "a header value holds a control character"},
	{"coding twice", "POST / HTTP/1.1|Host: x|Transfer-Encoding: chunked|Transfer-Encoding: chunked||", 400, "more than one Transfer-Encoding field"},
	{"coding in 1.0", "POST / HTTP/1.0|Transfer-Encoding: chunked||", 400, "Transfer-Encoding in an HTTP/1.0 message"},
	{"other expectation", "POST / HTTP/1.1|Host: x|Content-Length: 3|Expect: 200-ok||", 417, "an expectation other than 100-continue"},
	{"other expectation in a second line", "POST / HTTP/1.1|Host: x|Expect: 100-continue|Expect: x||", 417, "an expectation other than 100-continue"},
	{"list of expectations", "POST / HTTP/1.1|Host: x|Expect: 100-continue, x||", 417, "an expectation other than 100-continue"},
	{"options without end", "GET / HTTP/1.1|Host: x|Connection: " + strings.Repeat(",", 101) + "||", 431, "Connection names more options than the limit of fields"},
}

func TestParseRequestAccepts(t *testing.T) {
	for _, c := range acceptedRequests {
		t.Run(c.name, func(t *testing.T) {
			in, want := lines(c.in), lines(c.want)
			var r message.Request
			n, err := ParseRequest([]byte(in), &r, testLimits)
			if err != nil {
				t.Fatal(err)
			}
			if head := strings.Index(in, "\r\n\r\n") + 4; n != head {
				t.Errorf("took %d bytes, want %d", n, head)
			}
			if got := lines(dumpRequest(&r)); got != want {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

func TestParseRequestRefuses(t *testing.T) {
	for _, c := range refusedRequests {
		t.Run(c.name, func(t *testing.T) {
			var r message.Request
			_, err := ParseRequest([]byte(lines(c.in)), &r, testLimits)
			var fault *Error
			if !errors.As(err, &fault) || fault.Status != c.status || fault.Error() != c.reason {
				t.Errorf("got %v (%+v), want %d %q", err, fault, c.status, c.reason)
			}
		})
	}
}

// However a head arrives, the verdict on it is the same.
func TestRequestHeadsInPieces(t *testing.T) {
	conn, peer := pair(t)
	read := func(pieces ...string) string {
		f := &feeder{Conn: conn, peer: peer, pieces: pieces, open: true}
		c := NewServerConn(f, &testServer)
		defer c.Release()
		var r message.Request
		if err := c.Wait(time.Now().Add(20 * time.Second)); err != nil {
			return err.Error()
		}
		if err := c.ReadRequest(&r, time.Now()); err != nil {
			return err.Error()
		}
		return lines(dumpRequest(&r))
	}
	for _, c := range acceptedRequests {
		want := lines(c.want)
		each(lines(c.in), func(pieces ...string) {
			if got := read(pieces...); got != want {
				t.Fatalf("%s, in pieces %q:\ngot  %q\nwant %q", c.name, pieces, got, want)
			}
		})
	}
	for _, c := range refusedRequests {
		if c.name == "two empty lines before" {
			continue // Wait takes one of them
		}
		each(lines(c.in), func(pieces ...string) {
			if got := read(pieces...); got != c.reason {
				t.Fatalf("%s, in pieces %q: got %q, want %q", c.name, pieces, got, c.reason)
			}
		})
	}
}

func TestParseRequestWantsMore(t *testing.T) {
	for _, in := range []string{wrkRequest, browserRequest} {
		for i := range len(in) {
			var r message.Request
			if n, err := ParseRequest([]byte(in[:i]), &r, testLimits); n != 0 || err != ErrMore {
				t.Fatalf("after %d bytes: %d, %v; want ErrMore", i, n, err)
			}
		}
	}
}

func TestRequestLimits(t *testing.T) {
	limits := Limits{HeaderBytes: 64, HeaderFields: 3}
	fit := func(head string, size int) string { // pads the last value until the head has this size
		return head + strings.Repeat("a", size-len(head)-4) + "\r\n\r\n"
	}
	long := "GET /" + strings.Repeat("a", 100) + " HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, c := range []struct{ name, in, want string }{
		{"at the limit", fit("GET / HTTP/1.1\r\nHost: x\r\nA: ", 64), ""},
		{"one byte above", fit("GET / HTTP/1.1\r\nHost: x\r\nA: ", 65), "header is longer than the limit"},
		{"far above", fit("GET / HTTP/1.1\r\nHost: x\r\nA: ", 640), "header is longer than the limit"},
		{"fault beyond the limit", fit("GET / HTTP/1.1\r\nHost: x\r\nA: ", 70) + "\n", "header is longer than the limit"},
		{"request line", long, "request line is longer than the header limit"},
		{"request line without end", strings.Repeat("a", 64), "request line is longer than the header limit"},
		{"three fields", "GET / HTTP/1.1\r\nHost: x\r\nA:\r\nB:\r\n\r\n", ""},
		{"four fields", "GET / HTTP/1.1\r\nHost: x\r\nA:\r\nB:\r\nC:\r\n\r\n", "header has more fields than the limit"},
		{"framing counts", "GET / HTTP/1.1\r\nHost: x\r\nA:\r\nB:\r\nContent-Length: 0\r\n\r\n", "header has more fields than the limit"},
		{"a body behind does not count", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n" + strings.Repeat("a", 99), ""},
	} {
		var r message.Request
		if _, err := ParseRequest([]byte(c.in), &r, limits); errText(err) != c.want {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
		conn, peer := pair(t)
		options := testServer
		options.Limits = limits
		each(c.in[:min(len(c.in), 64)], func(pieces ...string) {
			f := &feeder{Conn: conn, peer: peer, pieces: pieces, open: true}
			s := NewServerConn(f, &options)
			r.Reset()
			if err := s.ReadRequest(&r, time.Now()); errText(err) != c.want {
				t.Fatalf("%s in pieces %q: got %v, want %q", c.name, pieces, err, c.want)
			}
		})
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
