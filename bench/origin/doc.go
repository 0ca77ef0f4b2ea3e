// Package origin is the backend of the benchmarks: an HTTP/1.1 server that responds from memory at
// the lowest possible cost, so that the proxy in front of it is the bottleneck. It listens on a TCP
// and on an MPTCP socket, and counts the transport of its connections, which tells a run whether
// MPTCP was used behind the proxy (Linux only).
//
// The response looks like a real server's: Date, Content-Type, ETag, Cache-Control, Content-Length.
// Its paths are /bytes/N for a body of N bytes and /text/N for one that compresses as text does,
// also after a prefix, and /stats. A POST to /sink is read until the client closes, and never
// answered.
package origin

import (
	"bytes"
	"fmt"
	"strconv"
	"time"
)

// MaxBody bounds the bodies.
const MaxBody = 16 << 20

// Stats are what /stats answers.
type Stats struct {
	TCP      int64 `json:"tcp"`      // connections accepted as plain TCP, on either listener
	MPTCP    int64 `json:"mptcp"`    // connections accepted as MPTCP
	Fallback int64 `json:"fallback"` // of those, what fell back to TCP later
	Requests int64 `json:"requests"`
}

// request is the head of a request, as far as this server needs it.
type request struct {
	path  []byte
	close bool
	sink  bool
}

var (
	headEnd   = []byte("\r\n\r\n")
	closeLine = []byte("\r\nconnection: close\r\n")
)

// parse takes one whole request off the front of in; n is 0 while it is not whole. Requests have no
// body, except a POST to /sink, whose body has no end.
func parse(in []byte) (r request, n int, err error) {
	end := bytes.Index(in, headEnd)
	if end < 0 {
		return request{}, 0, nil
	}
	head := in[:end+2]
	line, _, _ := bytes.Cut(head, []byte("\r\n"))
	method, rest, ok1 := bytes.Cut(line, []byte(" "))
	path, version, ok2 := bytes.Cut(rest, []byte(" "))
	sink := string(method) == "POST" && string(path) == "/sink"
	if !ok1 || !ok2 || string(method) != "GET" && !sink || string(version) != "HTTP/1.1" {
		return request{}, 0, fmt.Errorf("request line (got %q); want GET /bytes/N HTTP/1.1", line)
	}
	return request{path: path, close: asksClose(head), sink: sink}, end + len(headEnd), nil
}

// asksClose looks for Connection: close without allocating; the field is rare, its first byte rarer
// than it looks.
func asksClose(head []byte) bool {
	for i := 0; i+len(closeLine) <= len(head); i++ {
		if head[i] == '\r' && (head[i+2]|0x20) == 'c' && bytes.EqualFold(head[i:i+len(closeLine)], closeLine) {
			return true
		}
	}
	return false
}

var bytesPath, textPath = []byte("/bytes/"), []byte("/text/")

// bodySize reads N of /bytes/N, whatever comes before; -1 for any other path.
func bodySize(path []byte) int { return sizeAfter(path, bytesPath) }

// textSize is bodySize for /text/N.
func textSize(path []byte) int { return sizeAfter(path, textPath) }

func sizeAfter(path, name []byte) int {
	at := bytes.LastIndex(path, name)
	if at < 0 {
		return -1
	}
	digits := path[at+len(name):]
	if len(digits) == 0 || len(digits) > 8 {
		return -1
	}
	n := 0
	for _, d := range digits {
		if d < '0' || d > '9' {
			return -1
		}
		n = n*10 + int(d-'0')
	}
	if n > MaxBody {
		return -1
	}
	return n
}

const dateFormat = "Mon, 02 Jan 2006 15:04:05 GMT"

// answer is a response as it is sent, head and body in one piece, and the position of its date.
type answer struct {
	wire   []byte
	dateAt int
	second int64
}

// newAnswer makes the response to /bytes/size, or that to /text/size.
func newAnswer(size int, fill func([]byte)) *answer {
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 200 OK\r\nDate: ")
	at := b.Len()
	b.WriteString(dateFormat + "\r\nContent-Type: text/plain; charset=utf-8\r\nETag: \"" + strconv.FormatInt(int64(size), 16) +
		"-5f1c2d\"\r\nCache-Control: max-age=60\r\nContent-Length: " + strconv.Itoa(size) + "\r\n\r\n")
	head := b.Len()
	wire := make([]byte, head+size)
	copy(wire, b.Bytes())
	fill(wire[head:])
	return &answer{wire: wire, dateAt: at, second: -1}
}

// fill writes text that does not compress well, so that a proxy that compresses by mistake has a
// visible cost.
func fill(p []byte) {
	const letters = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ.0123456789"
	x := uint32(2463534242)
	for i := range p {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		p[i] = letters[x>>8%uint32(len(letters))]
	}
}

// at gives the bytes to send at the time now.
func (a *answer) at(now time.Time) []byte {
	if s := now.Unix(); s != a.second {
		a.second = s
		now.UTC().AppendFormat(a.wire[a.dateAt:a.dateAt], dateFormat)
	}
	return a.wire
}
