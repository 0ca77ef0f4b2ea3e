package proxy

import (
	"crypto/rand"
	"errors"
	"io"
	"strconv"
	"time"

	"mpgate/proxy/backend"
	"mpgate/proxy/coding"
	"mpgate/proxy/files"
	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/proxy/netio"
	"mpgate/telemetry"
)

// Files is the action that answers with files.
type Files struct {
	Root *files.Root
	// Fallback, if not nil, answers what no file does: paths without a file, and other methods than
	// GET and HEAD.
	Fallback Action
}

func (f *Files) serve(x *exchange) {
	if f.Fallback != nil && (!reads(&x.req) || x.req.Upgrade != nil) {
		f.Fallback.serve(x)
		return
	}
	if !reads(&x.req) {
		x.refuseMethod()
		return
	}
	found := f.open(x)
	if !found && f.Fallback != nil {
		f.Fallback.serve(x)
	} else if !found {
		x.noFile()
	}
}

func (x *exchange) noFile() {
	x.answer(filter.Answer{Status: 404, End: telemetry.EndOK, Text: "there is no such file"})
}

var errNoFile = &backend.ShortError{Of: telemetry.ShortDescriptors, Err: files.ErrDescriptors}

var (
	acceptRanges, bytesUnit     = []byte("Accept-Ranges"), []byte("bytes")
	contentTypeOptions, noSniff = []byte("X-Content-Type-Options"), []byte("nosniff")
	contentRange                = []byte("Content-Range")
)

func (x *exchange) refuseShort(err error) {
	x.proxy.recordShortage(err)
	x.answer(connectAnswer(err))
}

// explain says which files would be looked for, and whether the fallback answers if there is none.
// What needs no look is answered.
func (f *Files) explain(x *exchange) (names []string, fallback bool) {
	switch {
	case f.Fallback != nil && (!reads(&x.req) || x.req.Upgrade != nil):
	case !reads(&x.req):
		x.refuseMethod()
	default:
		if names = f.Root.Names(x.req.Path); names == nil && f.Fallback == nil {
			x.noFile()
		}
	}
	return names, f.Fallback != nil
}

// open answers with the file, if there is one.
func (f *Files) open(x *exchange) (found bool) {
	room := x.proxy.options.Room
	if !room.acquire() {
		x.refuseShort(errNoRoom)
		return true
	}
	defer room.release() // also of a panic
	var accepted coding.Accepted
	precompressed := f.Root.Options().Precompressed
	if precompressed {
		accepted = coding.Accept(&x.req.Header)
	}
	file, err := f.Root.Find(x.req.Path, &accepted)
	switch {
	case err == nil && x.filter.AddedSlash: // relative links in an index would lead elsewhere
		file.Close()
		x.addSlash(x.filter.Matched.Path)
	case err == nil:
		defer file.Close()
		if precompressed {
			coding.Vary(&x.filter.Fields)
		}
		x.sendFile(&file, time.Now())
	case errors.Is(err, files.ErrNotFound):
		return false
	case errors.Is(err, files.ErrSlash):
		x.addSlash(x.req.Path)
	case errors.Is(err, files.ErrDenied):
		x.answer(filter.Answer{Status: 403, End: telemetry.EndOK, Text: "the gateway may not read the file"})
	case errors.Is(err, files.ErrDescriptors):
		x.refuseShort(errNoFile)
	default:
		x.proxy.options.Logger.Warn("a file cannot be opened", "route", x.rec.Route, "id", string(x.rec.IDText()), "err", err)
		x.answer(filter.Answer{Status: 500, End: telemetry.EndInternal, Text: "the file cannot be read"})
	}
	return true
}

// addSlash redirects from a directory to the same path with a slash at its end. The reference is
// relative: whatever prefix a filter has removed from the path is kept, and it names no host.
func (x *exchange) addSlash(path []byte) {
	from := len(path)
	for from > 0 && path[from-1] != '/' {
		from--
	}
	location := append(append(append(x.scratch[:0], "./"...), path[from:]...), '/')
	if x.filter.Matched.HasQuery {
		location = append(append(location, '?'), x.filter.Matched.Query...)
	}
	x.scratch = location
	x.redirect(301, "it is a directory", location)
}

// sendFile answers with a file, as the conditions and ranges of the request ask for it.
func (x *exchange) sendFile(f *files.File, now time.Time) {
	v, size := f.Validator(), f.Size()
	switch files.Evaluate(&x.req.Header, v) {
	case files.Failed:
		x.answer(filter.Answer{Status: 412, End: telemetry.EndOK, Text: "the file has changed"})
		return
	case files.NotModified:
		x.fileHead(304, v)
		x.resp.NoBody, x.resp.ContentLength = true, message.Unknown
		x.sendParts(f, nil, now)
		return
	}
	if !x.req.IsHead() {
		if ranges, ok := files.Ranges(&x.req.Header, v, size, now); ok {
			x.sendRanges(f, v, ranges, now)
			return
		}
	}
	x.fileHead(200, v)
	x.typeOf(f)
	x.resp.ContentLength = size
	x.sendParts(f, []part{{length: size}}, now)
}

// fileHead begins the head of a response.
func (x *exchange) fileHead(status int, v *files.Validator) {
	r := &x.resp
	r.Reset()
	r.Status = status
	h := &r.Header
	h.AddString(message.ETag, v.ETag)
	if v.LastModified != "" {
		h.AddString(message.LastModified, v.LastModified)
	}
}

// typeOf says what the file is. Browsers must not guess another type: a file that a user of a site
// has uploaded as an image is no page of the site.
func (x *exchange) typeOf(f *files.File) {
	h := &x.resp.Header
	h.AddString(message.ContentType, x.mediaType(f))
	if f.Coding != coding.Identity {
		h.AddString(message.ContentEncoding, f.Coding.String())
	}
	h.AddName(acceptRanges, bytesUnit)
	h.AddName(contentTypeOptions, noSniff)
}

// part is a piece of a body: text, and then a range of the file.
type part struct {
	text           []byte
	offset, length int64
}

// sendRanges answers with parts of the file: one as it is, several as multipart/byteranges (RFC
// 9110 section 14.6).
func (x *exchange) sendRanges(f *files.File, v *files.Validator, ranges []files.Range, now time.Time) {
	size := f.Size()
	if len(ranges) == 0 {
		x.filter.Fields.AddName(contentRange, strconv.AppendInt([]byte("bytes */"), size, 10))
		x.answer(filter.Answer{Status: 416, End: telemetry.EndOK, Text: "the file is shorter than the range"})
		return
	}
	x.fileHead(206, v)
	x.typeOf(f)
	h := &x.resp.Header
	if len(ranges) == 1 {
		one := ranges[0]
		h.AddName(contentRange, appendContentRange(nil, one, size))
		x.resp.ContentLength = one.Length
		x.sendParts(f, []part{{offset: one.Start, length: one.Length}}, now)
		return
	}
	boundary := rand.Text()
	h.Set(message.ContentType, []byte("multipart/byteranges; boundary="+boundary))
	list, length := make([]part, 0, len(ranges)+1), int64(0)
	for i, one := range ranges {
		text := []byte("\r\n--" + boundary + "\r\nContent-Type: " + x.mediaType(f) + "\r\nContent-Range: ")
		if i == 0 {
			text = text[len("\r\n"):]
		}
		text = append(appendContentRange(text, one, size), "\r\n\r\n"...)
		list = append(list, part{text, one.Start, one.Length})
		length += int64(len(text)) + one.Length
	}
	last := part{text: []byte("\r\n--" + boundary + "--\r\n")}
	x.resp.ContentLength = length + int64(len(last.text))
	x.sendParts(f, append(list, last), now)
}

func appendContentRange(dst []byte, r files.Range, size int64) []byte {
	dst = strconv.AppendInt(append(dst, "bytes "...), r.Start, 10)
	dst = strconv.AppendInt(append(dst, '-'), r.Start+r.Length-1, 10)
	return strconv.AppendInt(append(dst, '/'), size, 10)
}

// sendParts sends the head, x.resp, and the body.
func (x *exchange) sendParts(f *files.File, list []part, now time.Time) {
	x.rec.Status, x.rec.End = x.resp.Status, telemetry.EndOK
	if !x.discardBody() || x.client.ending() {
		x.setClose()
	}
	x.resp.NoBody = x.resp.NoBody || x.req.IsHead()
	err := x.sendHead(now)
	if err == nil && !x.resp.NoBody {
		for i := range list {
			if err = x.sendPart(f, &list[i]); err != nil {
				break
			}
		}
	}
	if err == nil {
		err = x.out.End(nil)
	}
	if err == nil {
		return
	}
	x.down.SetClose()
	x.broken = x.resp.ContentLength == message.Unknown && x.req.Version == message.HTTP10
	var file *fileError
	if errors.As(err, &file) {
		x.rec.End, x.rec.Reason = telemetry.EndInternal, "the file changed or could not be read while it was sent"
		x.proxy.options.Logger.Warn("a file could not be sent whole", "route", x.rec.Route, "id", string(x.rec.IDText()), "err", file.error)
		return
	}
	x.rec.End = clientEnd(err)
}

// fileError is a file that could not be read to the length that the head has promised.
type fileError struct{ error }

func (x *exchange) sendPart(f *files.File, p *part) error {
	if len(p.text) > 0 {
		if err := x.out.WriteBody(p.text); err != nil {
			return err
		}
		x.rec.BytesOut += int64(len(p.text))
	}
	if w, ok := x.out.(message.FileWriter); ok {
		n, ok, err := w.WriteFile(f.File, p.offset, p.length)
		x.rec.BytesOut += n
		if ok && errors.Is(err, io.ErrUnexpectedEOF) {
			return &fileError{err}
		}
		if ok {
			return err
		}
	}
	return x.copyFile(f, p)
}

// copyFile sends a range of the file through this process.
func (x *exchange) copyFile(f *files.File, p *part) error {
	block := netio.NewBlock()
	defer netio.FreeBlock(block)
	for offset, left := p.offset, p.length; left > 0; {
		if err := message.WaitRoom(x.out, 0); err != nil {
			return err
		}
		n, err := f.ReadAt(block[:min(left, int64(len(block)))], offset)
		if n == 0 {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return &fileError{err}
		}
		if err := x.out.WriteBody(block[:n]); err != nil {
			return err
		}
		offset, left = offset+int64(n), left-int64(n)
		x.rec.BytesOut += int64(n)
	}
	return nil
}
