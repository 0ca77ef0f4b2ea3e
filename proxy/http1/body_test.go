package http1

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"mpgate/proxy/message"
	"mpgate/proxy/netio"
)

// readBody reads one body that is delivered in these pieces, and gives what was left behind it.
func readBody(c *netio.Conn, f *feeder, framed framing, length int64) (body, trailer, rest string, err error) {
	var in netio.Buffer
	var fields message.Header
	limits := Limits{HeaderBytes: 64, HeaderFields: 3}
	b := bodyReader{s: f, in: &in, limits: &limits, nominated: []byte("X-Nominated,")}
	b.reset(framed, length, &fields)
	body, err = readAll(&b)
	if err != nil && b.done() {
		panic("a broken body is done")
	}
	if _, again := b.Next(true); err == nil && again != io.EOF || err != nil && again != err {
		panic("the end of a body does not stick")
	}
	rest = string(in.Bytes())
	in.Release()
	return body, dumpHeader(&fields), rest, err
}

var acceptedBodies = []struct {
	name          string
	framing       framing
	length        int64
	in            string
	body, trailer string
	rest          string
}{
	{"no body", noBody, 0, "GET", "", "", ""},
	{"length 0", byLength, 0, "GET", "", "", ""},
	{"length", byLength, 3, "abc", "abc", "", ""},
	{"length, and the next request", byLength, 3, "abcGET", "abc", "", "GET"},
	{"until close", untilClose, 0, "abc", "abc", "", ""},
	{"until close, empty", untilClose, 0, "", "", "", ""},
	{"tunnel", raw, 0, "0||abc", "0||abc", "", ""},
	{"no chunk", chunked, 0, "0||", "", "", ""},
	{"chunks", chunked, 0, "3|abc|A|0123456789|0||", "abc0123456789", "", ""},
	{"chunks, and the next request", chunked, 0, "3|abc|0||GET", "abc", "", "GET"},
	{"chunk that holds an end", chunked, 0, "8|0||abc|0||", "0||abc", "", ""},
	{"zeros before the size", chunked, 0, "0000000000000003|abc|0000||", "abc", "", ""},
	{"size in both cases", chunked, 0, "a|0123456789|B|0123456789a|0||", "01234567890123456789a", "", ""},
	{"extensions", chunked, 0, "3;a|abc|3 ; a=b;c=\"d e\"|def|0;last||", "abcdef", "", ""},
	{"trailers", chunked, 0, "3|abc|0|X-Sum: 1|x-B:\t2 ||", "abc", "|X-Sum: 1|x-B: 2", ""},
	{"trailers, and the next request", chunked, 0, "0|A: b||GET", "", "|A: b", "GET"},
	{"trailers that have no place", chunked, 0, "0|Host: x|X: 1|Cookie: 1||", "", "|X: 1", ""},
	{"trailer that frames", chunked, 0, "0|Content-Length: 5||abc", "", "", "abc"},
	{"trailer that codes", chunked, 0, "0|Transfer-Encoding: chunked||", "", "", ""},
	{"trailer with a forwarding field", chunked, 0, "0|X-Forwarded-For: 1|x: 1||", "", "|x: 1", ""},
	{"trailer that Connection named", chunked, 0, "0|x-nominated: 1|x: 1||", "", "|x: 1", ""},
}

var brokenBodies = []struct {
	name    string
	framing framing
	length  int64
	in      string
	body    string
	err     string
}{
	{"cut off", byLength, 4, "abc", "abc", "unexpected EOF"},
	{"nothing of it", byLength, 4, "", "", "unexpected EOF"},
	{"no chunk at all", chunked, 0, "", "", "unexpected EOF"},
	{"size cut off", chunked, 0, "3", "", "unexpected EOF"},
	{"chunk cut off", chunked, 0, "3|ab", "ab", "unexpected EOF"},
	{"no last chunk", chunked, 0, "3|abc|", "abc", "unexpected EOF"},
	{"no end of the trailers", chunked, 0, "3|abc|0|", "abc", "unexpected EOF"},
	{"trailers cut off", chunked, 0, "0|A: b|", "", "unexpected EOF"},

	{"bare LF behind the size", chunked, 0, "3\nabc|0||", "", "a line ends in a bare LF; want CRLF"},
	{"bare LF behind an extension", chunked, 0, "3;a\nabc|0||", "", "a line ends in a bare LF; want CRLF"},
	{"bare LF behind a chunk", chunked, 0, "3|abc\n0||", "abc", "missing CRLF after chunk"},
	{"bare CR behind a chunk", chunked, 0, "3|abc\r0||", "abc", "missing CRLF after chunk"},
	{"bare LF ends", chunked, 0, "0\n\n", "", "a line ends in a bare LF; want CRLF"},
	{"bare LF behind the last chunk", chunked, 0, "0|\n", "", "a line ends in a bare LF; want CRLF"},
	{"bare LF in the trailers", chunked, 0, "0|A: b\n|", "", "a line ends in a bare LF; want CRLF"},
	{"more than the size", chunked, 0, "3|abcd|0||", "abc", "missing CRLF after chunk"},
	{"no size", chunked, 0, "|abc|", "", "malformed chunk size"},
	{"size is no number", chunked, 0, "x|abc|", "", "malformed chunk size"},
	{"size with 0x", chunked, 0, "0x3|abc|", "", "malformed chunk size"},
	{"size with plus", chunked, 0, "+3|abc|", "", "malformed chunk size"},
	{"size with minus", chunked, 0, "-3|abc|", "", "malformed chunk size"},
	{"size with underscore", chunked, 0, "1_0|abc|", "", "malformed chunk size"},
	{"space before the size", chunked, 0, " 3|abc|", "", "malformed chunk size"},
	{"space behind the size", chunked, 0, "3 |abc|", "", "malformed chunk size"},
	{"two sizes", chunked, 0, "3 3|abc|", "", "malformed chunk size"},
	{"17 digits", chunked, 0, "00000000000000003|abc|", "", "malformed chunk size"},
	{"2^63", chunked, 0, "8000000000000000|abc|", "", "chunk size is too large"},
	{"2^64+3", chunked, 0, "10000000000000003|abc|", "", "chunk size is too large"},
	{"all f", chunked, 0, "FFFFFFFFFFFFFFFF|abc|", "", "chunk size is too large"},
	{"bare CR in an extension", chunked, 0, "3;a\rb|abc|", "", "malformed chunk extension"},
	{"NUL in an extension", chunked, 0, "3;a\x00b|abc|", "", "malformed chunk extension"},
	{"obs-text in an extension", chunked, 0, "3;\xc3|abc|", "", "malformed chunk extension"},
	{"endless size line", chunked, 0, "3;" + strings.Repeat("a", 300), "", "chunk size line is longer than 256 bytes"},
	{"size line of 257", chunked, 0, "3;" + strings.Repeat("a", 253) + "|abc|0||", "", "chunk size line is longer than 256 bytes"},
	{"trailers at no end", chunked, 0, "0|A: " + strings.Repeat("b", 64), "", "trailers are longer than the header limit"},
	{"trailers of 65 bytes", chunked, 0, "0|A: " + strings.Repeat("b", 58) + "||", "", "trailers are longer than the header limit"},
	{"too many trailers", chunked, 0, "0|A: 1|B: 2|C: 3|D: 4||", "", "header has more fields than the limit"},
	{"trailer without a colon", chunked, 0, "0|GET / HTTP/1.1|A: b||", "", "a header line has no colon"},
	{"trailer folded", chunked, 0, "0|A: b| c||", "", "a header line begins with white space (obsolete folding)"},
	{"trailer with a control", chunked, 0, "0|A: b\x00||", "", "a header value holds a control character"},
	{"trailer with a bad length", chunked, 0, "0|Content-Length: x||", "", "malformed Content-Length"},
}

func TestBodies(t *testing.T) {
	for _, c := range acceptedBodies {
		in := lines(c.in)
		each(in, func(pieces ...string) {
			conn, peer := unixPair(t)
			f := &feeder{Conn: conn, peer: peer, pieces: pieces}
			body, trailer, rest, err := readBody(conn, f, c.framing, c.length)
			rest += strings.Join(f.pieces, "")
			if c.framing == noBody || c.length == 0 && c.framing == byLength {
				rest = ""
			}
			if err != nil || body != lines(c.body) || lines(trailer) != lines(c.trailer) || rest != c.rest {
				t.Fatalf("%s in pieces %q: got %q, trailers %q, rest %q, %v; want %q, %q, %q", c.name, pieces, body, trailer, rest, err, c.body, c.trailer, c.rest)
			}
			conn.Close()
			peer.Close()
		})
	}
}

// A body that broke off or is malformed never looks complete, however it arrives.
func TestBrokenBodies(t *testing.T) {
	for _, c := range brokenBodies {
		in := lines(c.in)
		each(in, func(pieces ...string) {
			conn, peer := unixPair(t)
			f := &feeder{Conn: conn, peer: peer, pieces: pieces}
			body, _, _, err := readBody(conn, f, c.framing, c.length)
			if errText(err) != c.err || body != c.body {
				t.Fatalf("%s in pieces %q: got %q, %v; want %q, %s", c.name, pieces, body, err, c.body, c.err)
			}
			conn.Close()
			peer.Close()
		})
	}
}

// Every body of known framing, cut off at every byte.
func TestBodiesBrokenOffAtEveryByte(t *testing.T) {
	for _, c := range acceptedBodies {
		if c.framing != byLength && c.framing != chunked {
			continue
		}
		in := strings.TrimSuffix(lines(c.in), c.rest)
		for i := range len(in) {
			if c.length == 0 && c.framing == byLength {
				break
			}
			conn, peer := unixPair(t)
			f := &feeder{Conn: conn, peer: peer, pieces: []string{in[:i]}}
			body, _, _, err := readBody(conn, f, c.framing, c.length)
			if err != io.ErrUnexpectedEOF || !strings.HasPrefix(lines(c.body), body) {
				t.Fatalf("%s cut off at %d: got %q, %v; want a part of %q and unexpected EOF", c.name, i, body, err, c.body)
			}
			conn.Close()
			peer.Close()
		}
	}
}

func TestNextDoesNotWait(t *testing.T) {
	conn, peer := pair(t)
	f := &feeder{Conn: conn, peer: peer, open: true, pieces: []string{"5\r\nab", "cde", "\r", "\n0\r\n\r", "\nGET"}}
	var in netio.Buffer
	defer in.Release()
	b := bodyReader{s: f, in: &in, limits: &testServer.Limits}
	b.reset(chunked, message.Unknown, &message.Header{})
	want := func(wait bool, piece string, want error) {
		t.Helper()
		if p, err := b.Next(wait); string(p) != piece || err != want {
			t.Fatalf("Next(%v) = %q, %v; want %q, %v", wait, p, err, piece, want)
		}
	}
	want(false, "", message.ErrWait)
	if f.fills != 0 || b.started.Load() {
		t.Fatal("Next(false) read from the connection")
	}
	want(true, "ab", nil)
	want(false, "", message.ErrWait)
	want(false, "", message.ErrWait)
	want(true, "cde", nil)
	want(false, "", message.ErrWait)
	if b.done() {
		t.Fatal("done before the last chunk")
	}
	want(true, "", io.EOF)
	want(false, "", io.EOF)
	if !b.done() || string(in.Bytes()) != "GET" || f.fills != 5 {
		t.Fatalf("done %v, %q left after %d reads", b.done(), in.Bytes(), f.fills)
	}
}

// The silence of a peer, and its slowness, end a body; what one body took does not count for the
// next.
func TestBodyPace(t *testing.T) {
	conn, peer := pair(t)
	var in netio.Buffer
	defer in.Release()
	b := bodyReader{s: conn, in: &in, limits: &testServer.Limits, pace: netio.Pace{Window: 50 * time.Millisecond, MinRate: 1 << 20}}
	b.reset(byLength, 10, nil)
	if _, err := io.WriteString(peer, "abc"); err != nil {
		t.Fatal(err)
	}
	body, err := readAll(&b)
	if body != "abc" || !errors.Is(err, os.ErrDeadlineExceeded) || b.done() {
		t.Fatalf("got %q, %v, done %v", body, err, b.done())
	}
	_ = b.pace.Wait(40*time.Millisecond, 0)
	b.reset(byLength, 3, nil)
	if err := b.pace.Wait(40*time.Millisecond, 0); err != nil {
		t.Fatalf("the wait of the last body counts: %v", err)
	}
}

func TestTunnelDeadlineDoesNotStick(t *testing.T) {
	conn, peer := pair(t)
	var in netio.Buffer
	defer in.Release()
	b := bodyReader{s: conn, in: &in, pace: netio.Pace{Window: 20 * time.Millisecond, MinRate: 1 << 20}}
	b.reset(raw, 0, nil)
	if _, err := b.Next(true); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v, want a deadline error", err)
	}
	if _, err := io.WriteString(peer, "late"); err != nil {
		t.Fatal(err)
	}
	if p, err := b.Next(true); string(p) != "late" || err != nil {
		t.Fatalf("got %q, %v", p, err)
	}
}

// A reader with patience is told once that the next piece is late; the body continues.
func TestBodyTellsOnceThatItIsSlow(t *testing.T) {
	conn, peer := pair(t)
	var in netio.Buffer
	defer in.Release()
	b := bodyReader{s: conn, in: &in, limits: &testServer.Limits, pace: netio.Pace{Window: time.Minute}, slowAfter: 10 * time.Millisecond}
	b.reset(byLength, 3, nil)
	b.slowAfter = 10 * time.Millisecond
	if _, err := b.Next(true); err != message.ErrSlow {
		t.Fatalf("got %v, want ErrSlow", err)
	}
	timer := time.AfterFunc(50*time.Millisecond, func() { _, _ = io.WriteString(peer, "abc") })
	defer timer.Stop()
	if body, err := readAll(&b); body != "abc" || err != nil {
		t.Fatalf("got %q, %v", body, err)
	}
}

// Chunk-size lines may not cost much more than what they frame, however long the body is.
func TestChunkOverhead(t *testing.T) {
	body := func(chunks int, size string, ext int, data string) string {
		chunk := size + ";" + strings.Repeat("e", ext) + "\r\n" + data + "\r\n"
		return strings.Repeat(chunk, chunks) + "0\r\n\r\n"
	}
	for _, c := range []struct {
		name, in, want string
	}{
		{"long lines for little", body(100, "1", 250, "a"), "chunk extensions of more than 16 KiB"},
		{"long lines for enough", body(1000, "100", 200, strings.Repeat("a", 256)), ""},
		{"short lines without end", body(10000, "1", 2, "a"), ""},
		{"a large chunk buys no more than it is worth", "ffff\r\n" + strings.Repeat("a", 0xffff) + "\r\n" + body(150, "1", 250, "a"), "chunk extensions of more than 16 KiB"},
	} {
		conn, peer := pair(t)
		go func() {
			_, _ = io.WriteString(peer, c.in)
		}()
		var in netio.Buffer
		b := bodyReader{s: conn, in: &in, limits: &testServer.Limits}
		b.reset(chunked, message.Unknown, &message.Header{})
		if _, err := readAll(&b); errText(err) != c.want {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
		in.Release()
		conn.Close()
	}
}
