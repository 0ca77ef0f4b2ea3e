package http1

import (
	"errors"
	"os"
	"strconv"
	"sync"

	"mpgate/proxy/message"
	"mpgate/proxy/netio"
)

// heads are buffers in which a head is built before it is written in one piece.
var heads = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

func appendFields(dst []byte, h *message.Header) []byte {
	for i := range h.Len() {
		_, name, value, ok := h.At(i)
		if !ok {
			continue
		}
		dst = append(dst, name...)
		dst = append(dst, ": "...)
		dst = append(dst, value...)
		dst = append(dst, "\r\n"...)
	}
	return dst
}

func appendLength(dst []byte, n int64) []byte {
	dst = append(dst, "Content-Length: "...)
	dst = strconv.AppendInt(dst, n, 10)
	return append(dst, "\r\n"...)
}

// AppendRequest writes the head of r for a server. The body, if any, is framed by its length or
// chunked.
func AppendRequest(dst []byte, r *message.Request) []byte {
	dst = append(dst, r.Method...)
	dst = append(dst, ' ')
	dst = append(dst, r.Path...)
	if r.HasQuery {
		dst = append(dst, '?')
		dst = append(dst, r.Query...)
	}
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = append(dst, r.Host...)
	if len(r.Port) > 0 {
		dst = append(dst, ':')
		dst = append(dst, r.Port...)
	}
	dst = append(dst, "\r\n"...)
	dst = appendFields(dst, &r.Header)
	switch {
	case r.ContentLength == message.Unknown:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	case r.ContentLength > 0 || r.NeedsLength():
		dst = appendLength(dst, r.ContentLength)
	}
	if r.Expect {
		dst = append(dst, "Expect: 100-continue\r\n"...)
	}
	switch {
	case r.Upgrade != nil:
		dst = append(dst, "Connection: Upgrade\r\nUpgrade: "...)
		dst = append(dst, r.Upgrade...)
		dst = append(dst, "\r\n"...)
	case r.TrailersOK:
		dst = append(dst, "Connection: TE\r\nTE: trailers\r\n"...)
	}
	return append(dst, "\r\n"...)
}

// appendResponse writes the head of r for a client of version v, with the body framed by f. The
// status line has our own version, whatever the client's (RFC 9110 section 6.2).
func appendResponse(dst []byte, r *message.Response, v message.Version, f framing, close bool) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(r.Status), 10)
	dst = append(dst, ' ')
	if r.Reason != nil {
		dst = append(dst, r.Reason...)
	} else {
		dst = append(dst, message.StatusText(r.Status)...)
	}
	dst = append(dst, "\r\n"...)
	dst = appendFields(dst, &r.Header)
	switch {
	case r.Status < 200 || r.Status == 204:
	case f == chunked:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	case r.ContentLength >= 0:
		dst = appendLength(dst, r.ContentLength)
	}
	switch {
	case r.Status == 101:
		dst = append(dst, "Connection: Upgrade\r\nUpgrade: "...)
		dst = append(dst, r.Upgrade...)
		dst = append(dst, "\r\n"...)
	case r.Status < 200:
	case r.Upgrade != nil: // a 426
		dst = append(dst, "Connection: Upgrade"...)
		switch {
		case close:
			dst = append(dst, ", close"...)
		case v == message.HTTP10:
			dst = append(dst, ", keep-alive"...)
		}
		dst = append(dst, "\r\nUpgrade: "...)
		dst = append(dst, r.Upgrade...)
		dst = append(dst, "\r\n"...)
	case close:
		dst = append(dst, "Connection: close\r\n"...)
	case v == message.HTTP10:
		dst = append(dst, "Connection: keep-alive\r\n"...)
	}
	return append(dst, "\r\n"...)
}

// ErrBodyLength: the body that was written is not as long as its head said.
var ErrBodyLength = message.ErrBodyLength

var errBodyEnded = errors.New("write after the end of the body")

// bodyWriter frames a body. It is a message.BodyWriter.
type bodyWriter struct {
	s       netio.Stream
	framing framing
	left    int64
	ended   bool
	line    [18]byte // a chunk-size line; a member, because what is passed to s escapes
}

func (w *bodyWriter) reset(f framing, length int64) {
	w.framing, w.left, w.ended = f, length, false
}

// WriteBody sends or holds a piece of the body.
func (w *bodyWriter) WriteBody(p []byte) error {
	if len(p) == 0 {
		return nil // an empty chunk would end the body
	}
	if w.ended {
		return errBodyEnded
	}
	switch w.framing {
	case noBody:
		return ErrBodyLength
	case byLength:
		if w.left -= int64(len(p)); w.left < 0 {
			return ErrBodyLength
		}
	case chunked:
		size := append(strconv.AppendInt(w.line[:0], int64(len(p)), 16), "\r\n"...)
		if _, err := w.s.Write(size); err != nil {
			return err
		}
		if _, err := w.s.Write(p); err != nil {
			return err
		}
		p = crlf
	}
	_, err := w.s.Write(p)
	return err
}

var (
	crlf      = []byte("\r\n")
	lastChunk = []byte("0\r\n\r\n")
)

// WriteFile sends a part of a file. It applies to bodies of known length on a plain socket, if the
// part is worth a call of its own.
func (w *bodyWriter) WriteFile(f *os.File, offset, n int64) (sent int64, ok bool, err error) {
	s, plain := w.s.(*netio.Conn)
	if !plain || w.ended || w.framing != byLength || n > w.left || n < netio.SpliceMin || !netio.CanSendFile(s) {
		return 0, false, nil
	}
	sent, err = s.SendFile(f, offset, n)
	w.left -= sent
	return sent, true, err
}

// End completes the body. It is an error if that is shorter than its head said: the connection must
// then end so that the body cannot look complete.
func (w *bodyWriter) End(trailer *message.Header) error {
	if w.ended {
		return nil
	}
	var err error
	switch w.framing {
	case byLength:
		if w.left != 0 {
			return ErrBodyLength
		}
	case chunked:
		err = w.endChunked(trailer)
	case raw:
		err = w.s.CloseWrite()
	}
	w.ended = err == nil // a connection whose last message is not complete is not used again
	return err
}

func (w *bodyWriter) endChunked(trailer *message.Header) error {
	if trailer == nil || trailer.Len() == 0 {
		_, err := w.s.Write(lastChunk)
		return err
	}
	buf := heads.Get().(*[]byte)
	defer heads.Put(buf)
	*buf = append((*buf)[:0], "0\r\n"...)
	*buf = append(appendFields(*buf, trailer), "\r\n"...)
	_, err := w.s.Write(*buf)
	return err
}

// Flush sends what is held.
func (w *bodyWriter) Flush() error { return w.s.Flush() }
