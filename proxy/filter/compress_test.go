package filter_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"mpgate/proxy/coding"
	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/telemetry"
)

// sink is a BodyWriter that keeps what it gets.
type sink struct {
	body    bytes.Buffer
	flushed int // bytes that had come at the last Flush
	flushes int
	ended   bool
	trailer *message.Header
	err     error
	waited  int
}

func (s *sink) WriteBody(p []byte) error {
	s.body.Write(p)
	return s.err
}
func (s *sink) End(trailer *message.Header) error { s.ended, s.trailer = true, trailer; return s.err }
func (s *sink) Flush() error                      { s.flushed = s.body.Len(); s.flushes++; return s.err }
func (s *sink) WaitRoom(held int) error           { s.waited += held; return s.err }

func unpack(t *testing.T, coding string, b []byte) string {
	t.Helper()
	var r io.Reader
	var err error
	if coding == "gzip" {
		r, err = gzip.NewReader(bytes.NewReader(b))
	} else {
		r, err = zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1))
	}
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	return string(text)
}

// response makes one of fields "Name: value".
func response(status int, length int64, fields ...string) *message.Response {
	r := &message.Response{Status: status, ContentLength: length}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.AddName([]byte(name), []byte(value))
	}
	return r
}

func get(h *message.Header, name string) string {
	var values []string
	for i := range h.Len() {
		if _, n, v, ok := h.At(i); ok && message.EqualFold(n, name) {
			values = append(values, string(v))
		}
	}
	return strings.Join(values, " | ")
}

func compressRequest(fields ...string) *filter.Request {
	r := newRequest()
	r.Method, r.Version = []byte("GET"), message.HTTP11
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.AddName([]byte(name), []byte(value))
	}
	return r
}

const accepts = "Accept-Encoding: gzip, zstd"

func TestCompressDecides(t *testing.T) {
	const html, plenty = "Content-Type: text/html; charset=utf-8", 5000
	for _, tt := range []struct {
		what    string
		request string // fields, separated by "|"
		resp    *message.Response
		coding  string
		vary    bool
	}{
		{"both", accepts, response(200, plenty, html), "zstd", true},
		{"gzip", "Accept-Encoding: gzip", response(200, plenty, html), "gzip", true},
		{"unknown length", accepts, response(200, message.Unknown, html), "zstd", true},
		{"error of a server", accepts, response(500, plenty, html), "zstd", true},
		{"created", accepts, response(201, plenty, "Content-Type: application/json"), "zstd", true},
		{"nothing accepted", "X: y", response(200, plenty, html), "", true},
		{"identity preferred", "Accept-Encoding: identity, gzip;q=0.1", response(200, plenty, html), "", true},
		{"all refused", "Accept-Encoding: gzip;q=0, zstd;q=0", response(200, plenty, html), "", true},
		{"br only", "Accept-Encoding: br", response(200, plenty, html), "", true},
		{"too short", accepts, response(200, 1023, html), "", false},
		{"just long enough", accepts, response(200, 1024, html), "zstd", true},
		{"empty", accepts, response(200, 0, html), "", false},
		{"no type", accepts, response(200, plenty), "", false},
		{"image", accepts, response(200, plenty, "Content-Type: image/png"), "", false},
		{"svg", accepts, response(200, plenty, "Content-Type: image/svg+xml"), "zstd", true},
		{"suffix", accepts, response(200, plenty, "Content-Type: application/problem+json"), "zstd", true},
		{"upper case", accepts, response(200, plenty, "Content-Type: Text/HTML"), "zstd", true},
		{"no media type", accepts, response(200, plenty, "Content-Type: text"), "", false},
		{"events", accepts, response(200, message.Unknown, "Content-Type: text/event-stream; charset=utf-8"), "", false},
		{"grpc", accepts, response(200, message.Unknown, "Content-Type: application/grpc+json"), "", false},
		{"grpc-web", accepts, response(200, message.Unknown, "Content-Type: application/grpc-web-text"), "", false},
		{"encoded", accepts, response(200, plenty, html, "Content-Encoding: br"), "", false},
		{"encoded with identity", accepts, response(200, plenty, html, "Content-Encoding: identity"), "zstd", true},
		{"no-transform", accepts, response(200, plenty, html, "Cache-Control: max-age=1, No-Transform"), "", false},
		{"no-transform in a second field", accepts, response(200, plenty, html, "Cache-Control: max-age=1", "Cache-Control: no-transform"), "", false},
		{"no-transform asked for", accepts + "|Cache-Control: no-transform", response(200, plenty, html), "", true},
		{"part", accepts, response(206, plenty, html, "Content-Range: bytes 0-4999/9999"), "", true},
		{"parts", accepts, response(206, plenty, "Content-Type: Multipart/byteranges; boundary=x"), "", true},
		{"part of an image", accepts, response(206, plenty, "Content-Type: image/png", "Content-Range: bytes 0-4999/9999"), "", false},
		{"range of unknown status", accepts, response(200, plenty, html, "Content-Range: bytes 0-4999/9999"), "", false},
		{"digest", accepts, response(200, plenty, html, "Repr-Digest: sha-256=:AA==:"), "", false},
		{"no content", accepts, response(204, message.Unknown, html), "", false},
		{"reset content", accepts, response(205, message.Unknown, html), "", false},
		{"switch", accepts, response(101, message.Unknown, html), "", false},
	} {
		f := filter.NewCompress(filter.CompressOptions{Min: 1024})
		chain := filter.Compile(f)
		for _, method := range []string{"GET", "HEAD"} {
			r := compressRequest(strings.Split(tt.request, "|")...)
			r.Method = []byte(method)
			resp := *tt.resp
			resp.Header = message.Header{}
			for i := range tt.resp.Header.Len() {
				_, name, value, _ := tt.resp.Header.At(i)
				resp.Header.AddName(name, value)
			}
			resp.NoBody = method == "HEAD"
			resp.Header.AddString(message.ETag, `"tag"`)
			resp.Header.AddName([]byte("Accept-Ranges"), []byte("bytes"))
			chain.Response(r, &resp)
			got := get(&resp.Header, "Content-Encoding")
			if before := get(&tt.resp.Header, "Content-Encoding"); got == before {
				got = ""
			}
			if got != tt.coding {
				t.Errorf("%s, %s: coding %q, want %q", tt.what, method, got, tt.coding)
			}
			if vary := get(&resp.Header, "Vary") == "Accept-Encoding"; vary != tt.vary {
				t.Errorf("%s, %s: Vary is there: %v, want %v", tt.what, method, vary, tt.vary)
			}
			length, tag, ranges := tt.resp.ContentLength, `"tag"`, "bytes"
			if tt.coding != "" {
				length, tag, ranges = message.Unknown, `W/"tag"`, ""
			}
			if resp.ContentLength != length || get(&resp.Header, "ETag") != tag || get(&resp.Header, "Accept-Ranges") != ranges {
				t.Errorf("%s, %s: length %d, tag %s, ranges %q", tt.what, method, resp.ContentLength, get(&resp.Header, "ETag"), get(&resp.Header, "Accept-Ranges"))
			}
			to := new(sink)
			if w := chain.Body(r, &resp, to); (w != message.BodyWriter(to)) != (tt.coding != "" && method == "GET") {
				t.Errorf("%s, %s: the writer is %T", tt.what, method, w)
			}
			chain.End(r)
		}
	}
}

// A client of HTTP/1.0 cannot tell a body that was cut from a complete one unless there is a
// length.
func TestCompressNotForHTTP10(t *testing.T) {
	chain := filter.Compile(filter.NewCompress(filter.CompressOptions{}))
	r := compressRequest(accepts)
	r.Version = message.HTTP10
	resp := response(200, 5000, "Content-Type: text/html")
	chain.Response(r, resp)
	if get(&resp.Header, "Content-Encoding") != "" || resp.ContentLength != 5000 || get(&resp.Header, "Vary") == "" {
		t.Errorf("%+v", resp)
	}
}

// A 304 has the entity tag that the 200 had.
func TestCompressNotModified(t *testing.T) {
	chain := filter.Compile(filter.NewCompress(filter.CompressOptions{}))
	for accept, want := range map[string]string{accepts: `W/"tag" Accept-Encoding`, "Accept-Encoding: br": `"tag" Accept-Encoding`} {
		resp := response(304, message.Unknown, `ETag: "tag"`)
		resp.NoBody = true
		chain.Response(compressRequest(accept), resp)
		if got := get(&resp.Header, "ETag") + " " + get(&resp.Header, "Vary"); got != want {
			t.Errorf("%s: %s, want %s", accept, got, want)
		}
	}
}

func TestCompressBody(t *testing.T) {
	meter := new(telemetry.CompressMeter)
	encoders := new(coding.Encoders)
	text := strings.Repeat("to be compressed, ", 20_000)
	for _, name := range []string{"gzip", "zstd"} {
		f := filter.NewCompress(filter.CompressOptions{Encoders: encoders, Meter: meter})
		chain := filter.Compile(f)
		r := compressRequest("Accept-Encoding: " + name)
		resp := response(200, int64(len(text)), "Content-Type: text/plain")
		chain.Response(r, resp)
		to := new(sink)
		w := chain.Body(r, resp, to)
		if err := w.Flush(); err != nil || to.body.Len() > 0 || to.flushes != 1 {
			t.Errorf("%s: a flush before the body brings %d bytes, %v", name, to.body.Len(), err)
		}
		if err := w.WriteBody([]byte(text[:10])); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if got := unpack(t, name, to.body.Bytes()[:to.flushed]); got != text[:10] {
			t.Errorf("%s: %q has arrived after a flush", name, got)
		}
		n := to.body.Len()
		if err := w.Flush(); err != nil || to.body.Len() != n {
			t.Errorf("%s: a second flush brings %d bytes", name, to.body.Len()-n)
		}
		if err := message.WaitRoom(w, 7); err != nil || to.waited != 7 {
			t.Errorf("%s: the room waited for is %d", name, to.waited)
		}
		for p := []byte(text[10:]); len(p) > 0; {
			k := min(len(p), 5000)
			if err := w.WriteBody(p[:k]); err != nil {
				t.Fatal(err)
			}
			p = p[k:]
		}
		trailer := new(message.Header)
		if err := w.End(trailer); err != nil || !to.ended || to.trailer != trailer {
			t.Errorf("%s: end %v, trailer %v, %v", name, to.ended, to.trailer, err)
		}
		if got := unpack(t, name, to.body.Bytes()); got != text {
			t.Errorf("%s: %d bytes come back as %d", name, len(text), len(got))
		}
		if encoders.Used() != 0 {
			t.Errorf("%s: %d bytes are in use after the end", name, encoders.Used())
		}
		r.Record.BytesOut = 1
		chain.End(r)
		if r.Record.BytesOut != int64(to.body.Len()) {
			t.Errorf("%s: bytes out %d, want %d", name, r.Record.BytesOut, to.body.Len())
		}
	}
}

// An encoder is given back when the client or the server fails.
func TestCompressReleases(t *testing.T) {
	encoders := new(coding.Encoders)
	chain := filter.Compile(filter.NewCompress(filter.CompressOptions{Encoders: encoders}))
	begin := func() (*filter.Request, message.BodyWriter, *sink) {
		r := compressRequest(accepts)
		resp := response(200, message.Unknown, "Content-Type: text/plain")
		chain.Response(r, resp)
		to := new(sink)
		return r, chain.Body(r, resp, to), to
	}
	r, w, to := begin()
	to.err = errors.New("gone")
	_ = w.WriteBody([]byte("x"))
	if err := w.Flush(); err == nil {
		t.Error("no error of a client that is gone")
	}
	if encoders.Used() != 0 {
		t.Error("an encoder is in use after an error")
	}
	for _, err := range []error{w.WriteBody([]byte("x")), w.Flush(), w.End(nil)} {
		if err == nil {
			t.Error("no error after the first one")
		}
	}
	chain.End(r)
	r, w, to = begin()
	_ = w.WriteBody([]byte("x"))
	chain.End(r) // the server has failed: no End
	if encoders.Used() != 0 || to.ended {
		t.Error("an encoder is in use after the exchange")
	}
	r, _, _ = begin()
	resp := response(500, message.Unknown, "Content-Type: text/plain") // after a panic
	chain.Response(r, resp)
	chain.End(r)
	if encoders.Used() != 0 {
		t.Error("an encoder of a first head is in use")
	}
}

// Beyond the limit of memory responses leave as they are.
func TestCompressIsBounded(t *testing.T) {
	encoders := &coding.Encoders{Limit: 3 << 20}
	chain := filter.Compile(filter.NewCompress(filter.CompressOptions{Encoders: encoders}))
	compressed := 0
	var all []*filter.Request
	for range 10 {
		r := compressRequest("Accept-Encoding: gzip")
		resp := response(200, 5000, "Content-Type: text/plain", `ETag: "a"`)
		chain.Response(r, resp)
		switch get(&resp.Header, "Content-Encoding") {
		case "gzip":
			compressed++
		case "":
			if resp.ContentLength != 5000 || get(&resp.Header, "ETag") != `"a"` || get(&resp.Header, "Vary") == "" {
				t.Errorf("%+v", resp)
			}
		}
		all = append(all, r)
	}
	if compressed != 2 {
		t.Errorf("%d responses are compressed in 3 MiB, want 2", compressed)
	}
	for _, r := range all {
		chain.End(r)
	}
	if encoders.Used() != 0 {
		t.Errorf("%d bytes are in use at the end", encoders.Used())
	}
}

func TestCompressOptions(t *testing.T) {
	f := filter.NewCompress(filter.CompressOptions{Types: []string{"application/x-own"}, Encodings: []coding.Coding{coding.Gzip}})
	for kind, want := range map[string]string{"application/x-own": "gzip", "text/html": ""} {
		resp := response(200, 10, "Content-Type: "+kind)
		r := compressRequest(accepts)
		chain := filter.Compile(f)
		chain.Response(r, resp)
		chain.End(r)
		if got := get(&resp.Header, "Content-Encoding"); got != want {
			t.Errorf("%s: %q, want %q", kind, got, want)
		}
	}
}

// The end of an exchange is told to a filter that sees only responses.
type keeper struct{ ends int }

func (*keeper) Name() string                                            { return "keeper" }
func (k *keeper) FilterResponse(r *filter.Request, _ *message.Response) { r.Keep(k, k) }
func (k *keeper) FilterEnd(*filter.Request)                             { k.ends++ }

func TestEndOfWhatWasKept(t *testing.T) {
	k := new(keeper)
	c := filter.Compile(&tracer{"a", true, new([]string)}, k)
	r := newRequest()
	c.Request(r)
	c.End(r)
	if k.ends != 0 {
		t.Error("an end without a beginning")
	}
	c.Response(r, new(message.Response))
	c.End(r)
	if k.ends != 1 {
		t.Errorf("%d ends, want 1", k.ends)
	}
}
