package http1

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"mpgate/proxy/message"
)

// dumpResponse writes down everything that decoding found.
func dumpResponse(r *message.Response) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d %q", r.Version, r.Status, r.Reason)
	if r.ContentLength != 0 {
		fmt.Fprintf(&b, " length=%d", r.ContentLength)
	}
	for _, flag := range []struct {
		name string
		set  bool
	}{{"nobody", r.NoBody}, {"untilclose", r.UntilClose}, {"close", r.Close}} {
		if flag.set {
			b.WriteString(" " + flag.name)
		}
	}
	if r.Upgrade != nil {
		fmt.Fprintf(&b, " upgrade=%s", r.Upgrade)
	}
	return b.String() + dumpHeader(&r.Header)
}

// In these tables "|" stands for CRLF, and a name that begins with HEAD is the answer to a HEAD.
var acceptedResponses = []struct{ name, in, want string }{
	{"length", "HTTP/1.1 200 OK|Content-Length: 3||abc", `HTTP/1.1 200 "OK" length=3`},
	{"length 0", "HTTP/1.1 200 OK|Content-Length: 0||", `HTTP/1.1 200 "OK"`},
	{"chunked", "HTTP/1.1 200 OK|Transfer-Encoding: chunked||", `HTTP/1.1 200 "OK" length=-1`},
	{"until close", "HTTP/1.1 200 OK||abc", `HTTP/1.1 200 "OK" length=-1 untilclose close`},
	{"until close whatever is said", "HTTP/1.1 200 OK|Connection: keep-alive||abc", `HTTP/1.1 200 "OK" length=-1 untilclose close`},
	{"no reason", "HTTP/1.1 200 |Content-Length: 0||", `HTTP/1.1 200 ""`},
	{"no space before no reason", "HTTP/1.1 200|Content-Length: 0||", `HTTP/1.1 200 ""`},
	{"reason with tab and obs-text", "HTTP/1.1 404 Nicht\tge\xffunden!|Content-Length: 0||", `HTTP/1.1 404 "Nicht\tge\xffunden!"`},
	{"reason begins with a space", "HTTP/1.1 200  OK|Content-Length: 0||", `HTTP/1.1 200 " OK"`},
	{"unknown code", "HTTP/1.1 599 x|Content-Length: 0||", `HTTP/1.1 599 "x"`},
	{"1.0", "HTTP/1.0 200 OK|Content-Length: 3||", `HTTP/1.0 200 "OK" length=3 close`},
	{"1.0 keep-alive", "HTTP/1.0 200 OK|Content-Length: 3|Connection: Keep-Alive||", `HTTP/1.0 200 "OK" length=3`},
	{"1.0 keep-alive without a length", "HTTP/1.0 200 OK|Connection: keep-alive||", `HTTP/1.0 200 "OK" length=-1 untilclose close`},
	{"close", "HTTP/1.1 200 OK|Content-Length: 3|Connection: X-A, Close|X-A: 1|x-b: 2||", `HTTP/1.1 200 "OK" length=3 close|x-b: 2`},
	{"hop-by-hop fields", "HTTP/1.1 200 OK|Content-Length: 0|Keep-Alive: timeout=5|Proxy-Authenticate: Basic|Proxy-Connection: a|Upgrade: h2|TE: a|A: 1||",
		`HTTP/1.1 200 "OK"|A: 1`},
	{"Connection: upgrade in a 200", "HTTP/1.1 200 OK|Content-Length: 0|Connection: upgrade|Upgrade: websocket||", `HTTP/1.1 200 "OK"`},
	{"Host in a response", "HTTP/1.1 200 OK|Content-Length: 0|Host: a|Host: b||", `HTTP/1.1 200 "OK"`},
	{"order and repetition are kept", "HTTP/1.1 200 OK|Set-Cookie: a|X: b|Content-Length: 0|set-cookie: c||", `HTTP/1.1 200 "OK"|Set-Cookie: a|X: b|set-cookie: c`},

	{"HEAD with a length", "HTTP/1.1 200 OK|Content-Length: 3||", `HTTP/1.1 200 "OK" length=3 nobody`},
	{"HEAD with length 0", "HTTP/1.1 200 OK|Content-Length: 0||", `HTTP/1.1 200 "OK" nobody`},
	{"HEAD chunked", "HTTP/1.1 200 OK|Transfer-Encoding: chunked||", `HTTP/1.1 200 "OK" length=-1 nobody`},
	{"HEAD without a length", "HTTP/1.1 200 OK||", `HTTP/1.1 200 "OK" length=-1 nobody`},
	{"HEAD and 204", "HTTP/1.1 204 No Content||", `HTTP/1.1 204 "No Content" nobody`},
	{"204", "HTTP/1.1 204 No Content||", `HTTP/1.1 204 "No Content" nobody`},
	{"204 with length 0", "HTTP/1.1 204 No Content|Content-Length: 0||", `HTTP/1.1 204 "No Content" nobody`},
	{"204 that announces a body", "HTTP/1.1 204 No Content|Content-Length: 3||abc", `HTTP/1.1 204 "No Content" nobody close`},
	{"204 that announces chunks", "HTTP/1.1 204 No Content|Transfer-Encoding: chunked||0||", `HTTP/1.1 204 "No Content" nobody close`},
	{"304 with a length", "HTTP/1.1 304 Not Modified|Content-Length: 3||", `HTTP/1.1 304 "Not Modified" length=3 nobody`},
	{"304 without", "HTTP/1.1 304 Not Modified||", `HTTP/1.1 304 "Not Modified" length=-1 nobody`},
	{"304 chunked", "HTTP/1.1 304 Not Modified|Transfer-Encoding: chunked||", `HTTP/1.1 304 "Not Modified" length=-1 nobody`},
	{"100", "HTTP/1.1 100 Continue||", `HTTP/1.1 100 "Continue" nobody`},
	{"100 with length 0", "HTTP/1.1 100 Continue|Content-Length: 0||", `HTTP/1.1 100 "Continue" nobody`},
	{"103 with nominated fields", "HTTP/1.1 103 Early Hints|Link: a|X-Nominated: b|Connection: X-Nominated|Keep-Alive: c|Proxy-Authenticate: d||", `HTTP/1.1 103 "Early Hints" nobody|Link: a`},
	{"101", "HTTP/1.1 101 Switching Protocols|Connection: Upgrade|Upgrade: websocket|X: 1||", `HTTP/1.1 101 "Switching Protocols" nobody upgrade=websocket|X: 1`},
	{"101 with nominated fields", "HTTP/1.1 101 x|Connection: X-Nominated, upgrade|Upgrade: websocket|X-Nominated: 1|Keep-Alive: 2||", `HTTP/1.1 101 "x" nobody upgrade=websocket`},
	{"101 that announces chunks", "HTTP/1.1 101 x|Connection: Upgrade|Upgrade: websocket|Transfer-Encoding: chunked||", `HTTP/1.1 101 "x" nobody close upgrade=websocket`},
	{"101 that does not say to what", "HTTP/1.1 101 x|Connection: Upgrade||", `HTTP/1.1 101 "x" nobody`},
	{"101 without Connection", "HTTP/1.1 101 x|Upgrade: websocket||", `HTTP/1.1 101 "x" nobody`},
	{"101 to a choice", "HTTP/1.1 101 x|Connection: Upgrade|Upgrade: websocket|Upgrade: foo||", `HTTP/1.1 101 "x" nobody`},
}

var refusedResponses = []struct{ name, in, reason string }{
	{"bare LF in the status line", "HTTP/1.1 200 OK\nContent-Length: 0||", "a line ends in a bare LF; want CRLF"},
	{"bare LF in a field", "HTTP/1.1 200 OK|Content-Length: 0\n|", "a line ends in a bare LF; want CRLF"},
	{"bare CR in the reason", "HTTP/1.1 200 O\rK|Content-Length: 0||", "malformed status line; want HTTP/1.1 SP 3DIGIT SP reason"},
	{"NUL in the reason", "HTTP/1.1 200 O\x00K|Content-Length: 0||", "malformed status line; want HTTP/1.1 SP 3DIGIT SP reason"},
	{"empty line first", "|HTTP/1.1 200 OK|Content-Length: 0||", "malformed status line; want HTTP/1.1 SP 3DIGIT SP reason"},
	{"ICY", "ICY 200 OK||", "malformed status line; want HTTP/1.1 SP 3DIGIT SP reason"},
	{"no version", "200 OK||", "malformed status line; want HTTP/1.1 SP 3DIGIT SP reason"},
	{"HTTP/2", "HTTP/2 200||", "malformed status line; want HTTP/1.1 SP 3DIGIT SP reason"},
	{"HTTP/1.2", "HTTP/1.2 200 OK||", "malformed status line; want HTTP/1.1 SP 3DIGIT SP reason"},
	{"http/1.1", "http/1.1 200 OK||", "malformed status line; want HTTP/1.1 SP 3DIGIT SP reason"},
	{"two spaces", "HTTP/1.1  200 OK||", "malformed status line; want HTTP/1.1 SP 3DIGIT SP reason"},
	{"tab", "HTTP/1.1\t200 OK||", "malformed status line; want HTTP/1.1 SP 3DIGIT SP reason"},
	{"two digits", "HTTP/1.1 20 OK||", "malformed status line; want HTTP/1.1 SP 3DIGIT SP reason"},
	{"four digits", "HTTP/1.1 2000 OK||", "malformed status line; want HTTP/1.1 SP 3DIGIT SP reason"},
	{"minus", "HTTP/1.1 -20 OK||", "malformed status line; want HTTP/1.1 SP 3DIGIT SP reason"},
	{"no digits", "HTTP/1.1 2x0 OK||", "malformed status line; want HTTP/1.1 SP 3DIGIT SP reason"},
	{"reason without a space", "HTTP/1.1 200OK||", "malformed status line; want HTTP/1.1 SP 3DIGIT SP reason"},
	{"099", "HTTP/1.1 099 x||", "status code is not from 100 to 599"},
	{"600", "HTTP/1.1 600 x||", "status code is not from 100 to 599"},
	{"000", "HTTP/1.1 000 x||", "status code is not from 100 to 599"},
	{"both lengths", "HTTP/1.1 200 OK|Content-Length: 3|Transfer-Encoding: chunked||", "both Content-Length and Transfer-Encoding"},
	{"length twice", "HTTP/1.1 200 OK|Content-Length: 3|Content-Length: 3||", "more than one Content-Length field"},
	{"length list", "HTTP/1.1 200 OK|Content-Length: 3, 3||", "malformed Content-Length"},
	{"length negative", "HTTP/1.1 200 OK|Content-Length: -1||", "malformed Content-Length"},
	{"length empty", "HTTP/1.1 200 OK|Content-Length:||", "malformed Content-Length"},
	{"length too large", "HTTP/1.1 200 OK|Content-Length: 99999999999999999999||", "Content-Length is too large"},
	{"gzip, chunked", "HTTP/1.1 200 OK|Transfer-Encoding: gzip, chunked||", "Transfer-Encoding is not exactly chunked"},
	{"identity", "HTTP/1.1 200 OK|Transfer-Encoding: identity||", "Transfer-Encoding is not exactly chunked"},
	{"coding twice", "HTTP/1.1 200 OK|Transfer-Encoding: chunked|Transfer-Encoding: chunked||", "more than one Transfer-Encoding field"},
	{"coding in 1.0", "HTTP/1.0 200 OK|Transfer-Encoding: chunked||", "Transfer-Encoding in an HTTP/1.0 message"},
	{"HEAD with both lengths", "HTTP/1.1 200 OK|Content-Length: 3|Transfer-Encoding: chunked||", "both Content-Length and Transfer-Encoding"},
	{"204 with both lengths", "HTTP/1.1 204 x|Content-Length: 3|Transfer-Encoding: chunked||", "both Content-Length and Transfer-Encoding"},
	{"304 with two lengths", "HTTP/1.1 304 x|Content-Length: 3|Content-Length: 4||", "more than one Content-Length field"},
	{"100 with a length", "HTTP/1.1 100 Continue|Content-Length: 3||", "an interim response with a body"},
	{"103 chunked", "HTTP/1.1 103 x|Transfer-Encoding: chunked||", "an interim response with a body"},
	{"obs-fold", "HTTP/1.1 200 OK|A: b| c||", "a header line begins with white space (obsolete folding)"},
	{"space before the colon", "HTTP/1.1 200 OK|Content-Length : 0||", "invalid header field name"},
	{"empty name", "HTTP/1.1 200 OK|: 0||", "a header line has an empty name"},
	{"no colon", "HTTP/1.1 200 OK|abc||", "a header line has no colon"},
	{"NUL in a value", "HTTP/1.1 200 OK|A: \x00||", "a header value holds a control character"},
	{"too many fields", "HTTP/1.1 200 OK|" + strings.Repeat("A: b|", 101) + "|", "header has more fields than the limit"},
	{"too long", "HTTP/1.1 200 OK|A: " + strings.Repeat("b", 32<<10) + "||", "header is longer than the limit"},
	{"too long a reason", "HTTP/1.1 200 " + strings.Repeat("b", 32<<10) + "||", "header is longer than the limit"},
}

func isHead(name string) bool { return strings.HasPrefix(name, "HEAD") }

func TestParseResponseAccepts(t *testing.T) {
	for _, c := range acceptedResponses {
		t.Run(c.name, func(t *testing.T) {
			in, want := lines(c.in), lines(c.want)
			var r message.Response
			n, err := ParseResponse([]byte(in), &r, isHead(c.name), testLimits)
			if err != nil {
				t.Fatal(err)
			}
			if head := strings.Index(in, "\r\n\r\n") + 4; n != head {
				t.Errorf("took %d bytes, want %d", n, head)
			}
			if got := lines(dumpResponse(&r)); got != want {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

func TestParseResponseRefuses(t *testing.T) {
	for _, c := range refusedResponses {
		t.Run(c.name, func(t *testing.T) {
			var r message.Response
			_, err := ParseResponse([]byte(lines(c.in)), &r, isHead(c.name), testLimits)
			var fault *Error
			if !errors.As(err, &fault) || fault.Error() != c.reason {
				t.Errorf("got %v, want %q", err, c.reason)
			}
		})
	}
}

// However a head arrives, the verdict on it is the same.
func TestResponseHeadsInPieces(t *testing.T) {
	conn, peer := pair(t)
	read := func(name string, pieces ...string) string {
		f := &feeder{Conn: conn, peer: peer, pieces: pieces, open: true}
		c := NewClientConn(f, &testClient)
		defer c.in.Release()
		c.isHead = isHead(name)
		c.upgrade = []byte("websocket")
		var r message.Response
		if err := c.ReadHead(&r, time.Now().Add(20*time.Second)); err != nil {
			return err.Error()
		}
		return lines(dumpResponse(&r))
	}
	for _, c := range acceptedResponses {
		want := lines(c.want)
		if strings.Contains(want, "HTTP/1.1 101") && !strings.Contains(want, "upgrade=") {
			want = errSwitch.Reason
		}
		each(lines(c.in), func(pieces ...string) {
			if got := read(c.name, pieces...); got != want {
				t.Fatalf("%s, in pieces %q:\ngot  %q\nwant %q", c.name, pieces, got, want)
			}
		})
	}
	for _, c := range refusedResponses {
		if len(c.in) > 1000 {
			continue
		}
		each(lines(c.in), func(pieces ...string) {
			if got := read(c.name, pieces...); got != c.reason {
				t.Fatalf("%s, in pieces %q: got %q, want %q", c.name, pieces, got, c.reason)
			}
		})
	}
}
