package http1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/textproto"
	"path"
	"reflect"
	"strings"
	"testing"

	"mpgate/proxy/message"
	"mpgate/proxy/netio"
	"mpgate/proxy/target"
)

// The oracle of these fuzz tests is net/http: what we accept it accepts too, and sees the same
// message in it. The exceptions, each on purpose:
//
//   - We are stricter in much; what we refuse is not compared.
//   - It merges what it takes for one field's business into others: "Pragma: no-cache" adds a Cache-Control.
//   - It knows no white space before the semicolon of a chunk extension, which RFC 9112 section 7.1.1 wants
//     parsed, and takes at most 4096 bytes of trailers.
//   - It keeps a host as it came; we compare canonical ones (target.Host).

const fuzzMost = 32 << 10 // longer input shows nothing new

// hopByHop are the fields that do not pass, whether Connection names them or not, and those that
// become members of the message.
var hopByHop = []string{"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "Http2-Settings",
	"Upgrade", "Te", "Transfer-Encoding", "Content-Length", "Host"}

// endToEnd takes off h what a gateway does not pass on, by other means than the code under test.
func endToEnd(h http.Header, more ...string) http.Header {
	h = h.Clone()
	for _, line := range h["Connection"] {
		for _, option := range strings.Split(line, ",") {
			if option = strings.Trim(option, " \t"); !strings.EqualFold(option, "close") {
				more = append(more, http.CanonicalHeaderKey(option))
			}
		}
	}
	for _, name := range append(more, hopByHop...) {
		delete(h, name)
	}
	return h
}

// rawFields reads the fields of a head as net/textproto does. http.ReadResponse would take off a
// Connection that holds close, with all that it names.
func rawFields(t *testing.T, data []byte) http.Header {
	r := textproto.NewReader(bufio.NewReader(bytes.NewReader(data)))
	if _, err := r.ReadLine(); err != nil {
		t.Fatal(err)
	}
	h, err := r.ReadMIMEHeader()
	if err != nil {
		t.Fatalf("net/textproto refuses it: %v", err)
	}
	return http.Header(h)
}

// asHTTP is our header in the form of net/http.
func asHTTP(h *message.Header) http.Header {
	m := http.Header{}
	for i := range h.Len() {
		if _, name, value, ok := h.At(i); ok {
			m.Add(string(name), string(value))
		}
	}
	return m
}

// sameFields compares headers; net/http reads trailers announced by Trailer into a place of their
// own.
func sameFields(t *testing.T, ours *message.Header, theirs http.Header) {
	t.Helper()
	got := asHTTP(ours)
	delete(got, "Trailer")
	delete(theirs, "Trailer")
	if strings.Contains(strings.ToLower(strings.Join(theirs["Pragma"], ",")), "no-cache") {
		delete(got, "Cache-Control")
		delete(theirs, "Cache-Control")
	}
	if len(got)+len(theirs) > 0 && !reflect.DeepEqual(got, theirs) {
		t.Fatalf("fields %q, net/http says %q", got, theirs)
	}
}

// decoded undoes the percent-encoding where there is any.
func decoded(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			hi, ok1 := unhex(s[i+1])
			lo, ok2 := unhex(s[i+2])
			if ok1 && ok2 {
				b.WriteByte(hi<<4 | lo)
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// sameTarget compares host, path and query with those that net/http found.
func sameTarget(t *testing.T, r *message.Request, req *http.Request) {
	t.Helper()
	var scratch []byte
	host, port := []byte(nil), []byte(nil)
	if req.Host != "" {
		var err error
		if host, port, err = target.Host([]byte(req.Host), &scratch); err != nil {
			t.Fatalf("net/http found host %q: %v", req.Host, err)
		}
	}
	if !bytes.Equal(r.Host, host) || !bytes.Equal(r.Port, port) {
		t.Fatalf("host %q port %q, net/http says %q", r.Host, r.Port, req.Host)
	}
	if string(r.Path) == "*" {
		if req.RequestURI != "*" && req.URL.Path != "" {
			t.Fatalf("path *, net/http says %q", req.RequestURI)
		}
		return
	}
	if decoded(string(r.Query)) != decoded(req.URL.RawQuery) {
		t.Fatalf("query %q, net/http says %q", r.Query, req.URL.RawQuery)
	}
	if r.EncodedSlash {
		return // it has decoded them: one of several readings
	}
	clean := path.Clean("/" + req.URL.Path)
	if dir := strings.TrimRight(req.URL.Path, "."); clean != "/" && strings.HasSuffix(dir, "/") && len(req.URL.Path)-len(dir) <= 2 {
		clean += "/"
	}
	if got := decoded(string(r.Path)); got != clean {
		t.Fatalf("path %q, net/http says %q, which is %q", got, req.URL.Path, clean)
	}
}

// fuzzBody reads a body from data, cut in two, and gives what is behind it.
func fuzzBody(t *testing.T, data []byte, cut int, framed framing, length int64, trailer *message.Header) (body string, rest []byte, err error) {
	conn, peer := unixPair(t)
	defer conn.Close()
	defer peer.Close()
	var in netio.Buffer
	defer in.Release()
	f := &feeder{Conn: conn, peer: peer, pieces: []string{string(data[:cut]), string(data[cut:])}}
	b := bodyReader{s: f, in: &in, limits: &testServer.Limits}
	b.reset(framed, length, trailer)
	body, err = readAll(&b)
	rest = append(rest, in.Bytes()...)
	for _, p := range f.pieces {
		rest = append(rest, p...)
	}
	return body, rest, err
}

func FuzzRequest(f *testing.F) {
	for _, c := range acceptedRequests {
		f.Add([]byte(lines(c.in)))
	}
	for _, c := range refusedRequests {
		f.Add([]byte(lines(c.in)))
	}
	f.Add([]byte(browserRequest))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > fuzzMost {
			return
		}
		var r message.Request
		n, err := ParseRequest(data, &r, testLimits)
		if err != nil {
			return
		}
		br := bufio.NewReaderSize(bytes.NewReader(data), fuzzMost)
		req, err := http.ReadRequest(br)
		if err != nil {
			t.Fatalf("net/http refuses it: %v", err)
		}
		if string(r.Method) != req.Method || r.Version.String() != req.Proto || r.Close != req.Close {
			t.Fatalf("%q %v close %v, net/http says %q %v close %v", r.Method, r.Version, r.Close, req.Method, req.Proto, req.Close)
		}
		sameTarget(t, &r, req)
		sameFields(t, &r.Header, endToEnd(req.Header, "Expect"))
		if r.ContentLength != req.ContentLength {
			t.Fatalf("length %d, net/http says %d", r.ContentLength, req.ContentLength)
		}
		body, rest, err := fuzzBody(t, data[n:], (len(data)-n)/2, lengthFraming(r.ContentLength), r.ContentLength, &r.Trailer)
		if err == nil {
			sameBody(t, body, rest, &r.Trailer, req.Body, br, func() http.Header { return req.Trailer }, data[n:])
		}
	})
}

// sameBody compares a body that we have read whole.
func sameBody(t *testing.T, body string, rest []byte, trailer *message.Header, theirs io.Reader, br *bufio.Reader, theirTrailer func() http.Header, raw []byte) {
	t.Helper()
	b, err := io.ReadAll(theirs)
	if err != nil {
		if spaceBeforeExtension(raw) {
			return
		}
		t.Fatalf("net/http finds the body broken: %v", err)
	}
	if string(b) != body {
		t.Fatalf("body %q, net/http says %q", body, b)
	}
	behind, _ := io.ReadAll(br)
	if !bytes.Equal(rest, behind) {
		t.Fatalf("behind the body %q, net/http says %q", rest, behind)
	}
	got := asHTTP(trailer)
	for name, values := range got {
		if !reflect.DeepEqual(values, theirTrailer()[name]) {
			t.Fatalf("trailers %q, net/http says %q", got, theirTrailer())
		}
	}
	var all message.Header
	for name := range theirTrailer() {
		all.AddName([]byte(name), nil)
	}
	message.CleanTrailer(&all)
	for name := range asHTTP(&all) {
		if got[name] == nil && theirTrailer()[name] != nil {
			t.Fatalf("trailer %q is missing", name)
		}
	}
}

func spaceBeforeExtension(raw []byte) bool {
	return bytes.Contains(raw, []byte(" ;")) || bytes.Contains(raw, []byte("\t;"))
}

func FuzzResponse(f *testing.F) {
	for _, c := range acceptedResponses {
		f.Add([]byte(lines(c.in)), isHead(c.name))
	}
	for _, c := range refusedResponses {
		f.Add([]byte(lines(c.in)), isHead(c.name))
	}
	f.Add([]byte(nginxSuccess), false)
	f.Fuzz(func(t *testing.T, data []byte, isHead bool) {
		if len(data) > fuzzMost {
			return
		}
		var r message.Response
		n, err := ParseResponse(data, &r, isHead, testLimits)
		if err != nil {
			return
		}
		method := "GET"
		if isHead {
			method = "HEAD"
		}
		br := bufio.NewReaderSize(bytes.NewReader(data), fuzzMost)
		resp, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("net/http refuses it: %v", err)
		}
		if r.Status != resp.StatusCode || r.Version.String() != resp.Proto {
			t.Fatalf("%v %d, net/http says %v %d", r.Version, r.Status, resp.Proto, resp.StatusCode)
		}
		sameFields(t, &r.Header, endToEnd(rawFields(t, data)))
		if r.NoBody {
			return
		}
		if r.ContentLength != resp.ContentLength || r.Close != resp.Close {
			t.Fatalf("length %d close %v, net/http says %d %v", r.ContentLength, r.Close, resp.ContentLength, resp.Close)
		}
		framed := lengthFraming(r.ContentLength)
		if r.UntilClose {
			framed = untilClose
		}
		body, rest, err := fuzzBody(t, data[n:], (len(data)-n)/2, framed, r.ContentLength, &r.Trailer)
		if err == nil {
			sameBody(t, body, rest, &r.Trailer, resp.Body, br, func() http.Header { return resp.Trailer }, data[n:])
		}
	})
}

// A chunked body: the same however it arrives, the same to net/http, and when it is sent on.
func FuzzChunked(f *testing.F) {
	for _, c := range acceptedBodies {
		if c.framing == chunked {
			f.Add([]byte(lines(c.in)), 1)
		}
	}
	for _, c := range brokenBodies {
		if c.framing == chunked {
			f.Add([]byte(lines(c.in)), 2)
		}
	}
	const head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		if len(data) > fuzzMost {
			return
		}
		var trailer, again message.Header
		body, rest, err := fuzzBody(t, data, 0, chunked, message.Unknown, &trailer)
		body2, rest2, err2 := fuzzBody(t, data, max(0, min(cut, len(data))), chunked, message.Unknown, &again)
		if body != body2 || errText(err) != errText(err2) || err == nil && !bytes.Equal(rest, rest2) || dumpHeader(&trailer) != dumpHeader(&again) {
			t.Fatalf("whole: %q, rest %q, %v; in two: %q, rest %q, %v", body, rest, err, body2, rest2, err2)
		}
		if err != nil {
			return
		}
		br := bufio.NewReaderSize(io.MultiReader(strings.NewReader(head), bytes.NewReader(data)), 2*fuzzMost)
		req, err := http.ReadRequest(br)
		if err != nil {
			t.Fatal(err)
		}
		sameBody(t, body, rest, &trailer, req.Body, br, func() http.Header { return req.Trailer }, data)

		sent := sentOn(t, body, &trailer)
		br = bufio.NewReaderSize(strings.NewReader(head+sent), 2*fuzzMost)
		if req, err = http.ReadRequest(br); err != nil {
			t.Fatal(err)
		}
		sameBody(t, body, nil, &trailer, req.Body, br, func() http.Header { return req.Trailer }, nil)
	})
}

// sentOn is what a body looks like when it is sent on in chunks.
func sentOn(t *testing.T, body string, trailer *message.Header) string {
	conn, peer := unixPair(t)
	defer conn.Close()
	defer peer.Close()
	w := bodyWriter{s: conn}
	w.reset(chunked, message.Unknown)
	for len(body) > 0 {
		n := min(len(body), 1000)
		if err := w.WriteBody([]byte(body[:n])); err != nil {
			t.Fatal(err)
		}
		body = body[n:]
	}
	if err := w.End(trailer); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(peer)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What we send parses again, to the same message, for us and for net/http.
func FuzzRoundTrip(f *testing.F) {
	for _, c := range acceptedRequests {
		f.Add([]byte(lines(c.in)))
	}
	for _, c := range acceptedResponses {
		f.Add([]byte(lines(c.in)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > fuzzMost {
			return
		}
		roundTripRequest(t, data)
		for _, v := range []message.Version{message.HTTP10, message.HTTP11} {
			roundTripResponse(t, data, v, false)
			roundTripResponse(t, data, v, true)
		}
	})
}

// wide is for what we made ourselves: a head may grow by the fields that we write.
var wide = Limits{HeaderBytes: 1 << 20, HeaderFields: 1000}

func roundTripRequest(t *testing.T, data []byte) {
	var r, again message.Request
	if _, err := ParseRequest(data, &r, testLimits); err != nil {
		return
	}
	sent := AppendRequest(nil, &r)
	if n, err := ParseRequest(sent, &again, wide); err != nil || n != len(sent) {
		t.Fatalf("we send %q, which gives %d, %v", sent, n, err)
	}
	r.Version, r.Close = message.HTTP11, false // what we say of ourselves
	if r.Upgrade != nil {
		r.TrailersOK = false // one of them at a time
	}
	if dumpRequest(&r) != dumpRequest(&again) {
		t.Fatalf("we send %q:\nwas %q\nis  %q", sent, dumpRequest(&r), dumpRequest(&again))
	}
	if twice := AppendRequest(nil, &again); !bytes.Equal(sent, twice) {
		t.Fatalf("first %q\nthen  %q", sent, twice)
	}
	req, err := http.ReadRequest(bufio.NewReaderSize(bytes.NewReader(sent), 2*fuzzMost))
	if err != nil {
		t.Fatalf("net/http refuses what we send, %q: %v", sent, err)
	}
	if req.Method != string(r.Method) || req.ContentLength != r.ContentLength {
		t.Fatalf("net/http sees %q, length %d in %q", req.Method, req.ContentLength, sent)
	}
	sameTarget(t, &r, req)
	sameFields(t, &r.Header, endToEnd(req.Header, "Expect"))
}

func roundTripResponse(t *testing.T, data []byte, v message.Version, isHead bool) {
	var r, again message.Response
	if _, err := ParseResponse(data, &r, isHead, testLimits); err != nil {
		return
	}
	if r.Status == 101 && r.Upgrade == nil || r.Status < 200 && v == message.HTTP10 {
		return // never sent on
	}
	framed := lengthFraming(r.ContentLength)
	close := r.Close
	switch {
	case r.NoBody:
		framed = noBody
	case framed == chunked && v == message.HTTP10:
		framed, close = untilClose, true
	}
	sent := appendResponse(nil, &r, v, framed, close)
	if n, err := ParseResponse(sent, &again, isHead, wide); err != nil || n != len(sent) {
		t.Fatalf("we send %q, which gives %d, %v", sent, n, err)
	}
	r.Version, r.Close = message.HTTP11, close && r.Status >= 200
	if r.Reason == nil {
		r.Reason = again.Reason
	}
	r.UntilClose = framed == untilClose
	if r.Status < 200 && v == message.HTTP11 {
		r.Close = again.Close
	}
	if dumpResponse(&r) != dumpResponse(&again) {
		t.Fatalf("we send %q:\nwas %q\nis  %q", sent, dumpResponse(&r), dumpResponse(&again))
	}
	method := "GET"
	if isHead {
		method = "HEAD"
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(bytes.NewReader(sent), 2*fuzzMost), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("net/http refuses what we send, %q: %v", sent, err)
	}
	if resp.StatusCode != r.Status || !r.NoBody && resp.ContentLength != r.ContentLength {
		t.Fatalf("net/http sees %d, length %d in %q", resp.StatusCode, resp.ContentLength, sent)
	}
	sameFields(t, &r.Header, endToEnd(resp.Header))
}
