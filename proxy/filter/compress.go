package filter

import (
	"bytes"

	"mpgate/proxy/coding"
	"mpgate/proxy/message"
	"mpgate/telemetry"
)

// Compress compresses the bodies of responses for clients that accept that. It leaves alone what
// has a content coding or must not be transformed, parts of bodies, streams of events, gRPC, and
// responses to HTTP/1.0, which could not tell a body that was cut from a complete one.
type Compress struct {
	options CompressOptions
}

// CompressOptions say what to compress, and how.
type CompressOptions struct {
	// Types are media types: "type/subtype", "type/*" or "*/*+suffix". nil: CompressTypes.
	Types []string
	// Min is the least length in bytes, of bodies whose length is known.
	Min int64
	// Encodings are Gzip and Zstd, the preferred one first. nil: Zstd, Gzip.
	Encodings []coding.Coding
	// Level is from 1, the fastest, to coding.MaxLevel; 0 is the default.
	Level int
	// Encoders bounds the memory. It is shared by all routes.
	Encoders *coding.Encoders
	// Meter, if set, counts.
	Meter *telemetry.CompressMeter
}

// CompressTypes are the media types that are compressed by default.
var CompressTypes = []string{
	"text/*", "*/*+json", "*/*+xml", "application/json", "application/x-ndjson", "application/javascript", "application/x-javascript",
	"application/xml", "application/wasm", "application/yaml", "application/toml", "application/graphql-response+json",
	"application/vnd.ms-fontobject", "application/x-sh", "font/ttf", "font/otf", "font/collection", "image/svg+xml", "image/bmp",
	"image/x-icon", "image/vnd.microsoft.icon",
}

// NewCompress makes the filter.
func NewCompress(o CompressOptions) *Compress {
	if o.Types == nil {
		o.Types = CompressTypes
	}
	if o.Encodings == nil {
		o.Encodings = []coding.Coding{coding.Zstd, coding.Gzip}
	}
	if o.Encoders == nil {
		o.Encoders = &coding.Encoders{Limit: coding.EncoderMemory()}
	}
	return &Compress{o}
}

// Name implements Filter.
func (*Compress) Name() string { return "compress" }

// FilterResponse implements ResponseFilter. It decides, and changes the head: that of the answer to
// a HEAD and of a 304 as that of the answer to a GET.
func (f *Compress) FilterResponse(r *Request, resp *message.Response) {
	h := &resp.Header
	accepted := coding.Accept(&r.Header)
	best := accepted.Best(f.options.Encodings)
	if r.Version < message.HTTP11 || noTransform(&r.Header) {
		best = coding.Identity
	}
	switch resp.Status {
	case 304: // whether the representation was compressed is not known any more
		coding.Vary(h) // RFC 9110 section 15.4.5: as the 200
		if best != coding.Identity {
			coding.WeakenETag(h)
		}
		return
	case 206: // likewise, section 15.3.7
		if f.hasType(h.Get(message.ContentType)) || isMultipart(h.Get(message.ContentType)) {
			coding.Vary(h)
		}
		return
	}
	if !f.eligible(resp) {
		return
	}
	coding.Vary(h)
	if best == coding.Identity {
		return
	}
	if !resp.NoBody {
		w := f.writer(r, best)
		if w == nil {
			return
		}
		r.Keep(f, w)
	}
	h.Set(message.ContentEncoding, []byte(best.String()))
	h.DelName(acceptRanges)
	coding.WeakenETag(h)
	resp.ContentLength = message.Unknown
}

var acceptRanges = []byte("Accept-Ranges")

// eligible reports whether a response may be compressed at all, whatever the client accepts.
func (f *Compress) eligible(resp *message.Response) bool {
	switch s := resp.Status; {
	case s < 200, s == 204, s == 205:
		return false
	}
	h := &resp.Header
	if resp.ContentLength != message.Unknown && resp.ContentLength < max(1, f.options.Min) {
		return false
	}
	for i := range h.Len() {
		switch id, name, value, ok := h.At(i); {
		case !ok:
		case id == message.ContentEncoding && !message.EqualFold(value, "identity"):
			return false
		case id == message.Other && describesBytes(name):
			return false
		}
	}
	return f.hasType(h.Get(message.ContentType)) && !noTransform(h)
}

// describesBytes names the fields that hold for the bytes of a body as they are: those of a part,
// and digests (RFC 9530).
func describesBytes(name []byte) bool {
	for _, n := range [...]string{"Content-Range", "Content-Digest", "Repr-Digest", "Digest", "Content-MD5"} {
		if message.EqualFold(name, n) {
			return true
		}
	}
	return false
}

// noTransform reports whether Cache-Control forbids to change the body (RFC 9111 sections 5.2.1.6
// and 5.2.2.6).
func noTransform(h *message.Header) bool {
	for i := h.Index(message.CacheControl, 0); i >= 0; i = h.Index(message.CacheControl, i+1) {
		if _, _, value, _ := h.At(i); coding.HasElement(value, "no-transform") {
			return true
		}
	}
	return false
}

// hasType reports whether a media type is compressed. Events and gRPC are streams of messages that
// their receivers wait for.
func (f *Compress) hasType(contentType []byte) bool {
	essence, _, _ := bytes.Cut(contentType, []byte(";"))
	essence = bytes.ToLower(bytes.TrimSpace(essence))
	kind, subtype, found := bytes.Cut(essence, []byte("/"))
	if !found || string(essence) == "text/event-stream" || bytes.HasPrefix(essence, []byte("application/grpc")) {
		return false
	}
	for _, t := range f.options.Types {
		switch {
		case len(t) > 4 && t[:4] == "*/*+":
			if bytes.HasSuffix(subtype, []byte(t[3:])) {
				return true
			}
		case len(t) > 2 && t[len(t)-2:] == "/*":
			if string(kind) == t[:len(t)-2] {
				return true
			}
		case string(essence) == t:
			return true
		}
	}
	return false
}

// isMultipart reports whether a response has several parts, whose types are within them.
func isMultipart(contentType []byte) bool { return hasPrefixFold(contentType, "multipart/byteranges") }

// writer takes an encoder; nil if there is none.
func (f *Compress) writer(r *Request, c coding.Coding) *compressor {
	if before, ok := r.Kept(f).(*compressor); ok { // a second head, after a panic
		before.release()
	}
	w := &compressor{meter: f.options.Meter, coding: c}
	if w.encoder = f.options.Encoders.Take(c, f.options.Level, (*encoded)(w)); w.encoder == nil {
		w.meter.Refuse()
		return nil
	}
	w.held = w.encoder.Block()[:0]
	return w
}

// FilterBody implements BodyFilter.
func (f *Compress) FilterBody(r *Request, _ *message.Response, to message.BodyWriter) message.BodyWriter {
	w, ok := r.Kept(f).(*compressor)
	if !ok || w.encoder == nil {
		return to
	}
	w.to = to
	return w
}

// FilterEnd implements EndFilter. The record has what was sent to the client.
func (f *Compress) FilterEnd(r *Request) {
	w, ok := r.Kept(f).(*compressor)
	if !ok {
		return
	}
	w.release()
	if w.to != nil {
		r.Record.BytesOut = w.after
	}
	w.meter.Add(w.coding.String(), w.before, w.after)
}

// compressor is the writer of one response.
type compressor struct {
	to      message.BodyWriter
	encoder *coding.Encoder // nil once it was released
	coding  coding.Coding
	meter   *telemetry.CompressMeter
	held    []byte // encoded, in the encoder's block; what is written to the client at once
	dirty   bool   // the encoder holds something
	err     error  // sticky

	before, after int64 // bytes
}

// encoded is the compressor as its encoder sees it.
type encoded compressor

// Write holds p back, or writes what is held.
func (e *encoded) Write(p []byte) (int, error) {
	w := (*compressor)(e)
	for rest := p; len(rest) > 0; {
		n := min(len(rest), cap(w.held)-len(w.held))
		w.held, rest = append(w.held, rest[:n]...), rest[n:]
		if len(w.held) == cap(w.held) {
			if err := w.pass(); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

// pass writes what is held.
func (w *compressor) pass() error {
	if len(w.held) == 0 {
		return nil
	}
	err := w.to.WriteBody(w.held)
	w.after += int64(len(w.held))
	w.held = w.held[:0]
	return err
}

// WriteBody implements message.BodyWriter, as do the following.
func (w *compressor) WriteBody(p []byte) error {
	if w.err != nil || len(p) == 0 {
		return w.err
	}
	w.before += int64(len(p))
	w.dirty = true
	_, err := w.encoder.Write(p)
	return w.fail(err)
}

func (w *compressor) Flush() error {
	if w.err != nil {
		return w.err
	}
	if w.dirty {
		w.dirty = false
		if err := w.encoder.Flush(); err != nil {
			return w.fail(err)
		}
	}
	if err := w.pass(); err != nil {
		return w.fail(err)
	}
	return w.fail(w.to.Flush())
}

func (w *compressor) End(trailer *message.Header) error {
	if w.err != nil {
		return w.err
	}
	err := w.encoder.Close()
	if err == nil {
		err = w.pass()
	}
	if err == nil {
		err = w.to.End(trailer)
	}
	w.release()
	return w.fail(err)
}

// WaitRoom implements message.Windowed.
func (w *compressor) WaitRoom(held int) error { return message.WaitRoom(w.to, held) }

// fail notes the first error: nothing is written after that.
func (w *compressor) fail(err error) error {
	if err != nil {
		w.err = err
		w.release()
	}
	return err
}

func (w *compressor) release() {
	if w.encoder != nil {
		w.encoder.Release()
		w.encoder, w.held = nil, nil
	}
}
