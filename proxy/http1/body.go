package http1

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"mpgate/proxy/message"
	"mpgate/proxy/netio"
)

const (
	maxChunkLine = 256
	// What chunk-size lines may take beyond a share of what they frame, in one body: extensions
	// make work for the receiver and cost the sender nothing (CVE-2023-39326 of Go).
	maxChunkOverhead = 16 << 10
	freeChunkLine    = 16 // bytes of each line that do not count
)

// framing is how the end of a body is found.
type framing uint8

const (
	noBody     framing = iota
	byLength           // after so many bytes
	chunked            // by the last chunk
	untilClose         // by the end of the connection
	raw                // a tunnel: no body, just bytes, until the end of the connection
)

// bodyReader reads the body from a connection, piece by piece. It is a message.BodyReader. The
// states of a chunked body:
//
//	size ──► data ──► dataEnd ──► size …
//	  └─(0)─► trailers ──► done
type bodyReader struct {
	s       netio.Stream
	in      *netio.Buffer
	trailer *message.Header
	// nominated is what Connection named, each followed by a comma: it is removed from the trailers
	// too (RFC 9110 section 7.6.1).
	nominated []byte
	limits    *Limits
	pace      netio.Pace
	// slowAfter, if set, is how long one wait may last before Next gives message.ErrSlow, once per
	// body.
	slowAfter time.Duration

	framing  framing
	state    chunkState
	left     int64 // of the body, or of the chunk
	overhead int64
	scanned  int   // of the trailers, while their end has not come
	err      error // sticky; io.EOF once the body is complete
	// Any goroutine may ask for the next two.
	started  atomic.Bool // something was taken
	complete atomic.Bool // err is io.EOF
	// mayAwait100: the sender may wait for a 100; its silence before that is no fault of its own.
	mayAwait100 bool
	sent100     atomic.Bool // the 100 was sent
}

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkData
	chunkDataEnd
	chunkTrailers
)

func (b *bodyReader) reset(f framing, length int64, trailer *message.Header) {
	b.framing, b.left, b.trailer = f, length, trailer
	b.state, b.overhead, b.scanned, b.err, b.mayAwait100 = chunkSize, 0, 0, nil, false
	if b.started.Load() { // a store costs more than a load
		b.started.Store(false)
	}
	if b.sent100.Load() {
		b.sent100.Store(false)
	}
	// The time that the last body took does not count.
	b.pace = netio.Pace{Window: b.pace.Window, MinRate: b.pace.MinRate, Own: b.pace.Own, Other: b.pace.Other}
	if f == noBody || f == byLength && length == 0 {
		b.framing, b.err = noBody, io.EOF
	}
	b.complete.Store(b.err == io.EOF)
}

// lengthFraming says how a body of a known or unknown length is framed.
func lengthFraming(length int64) framing {
	switch length {
	case 0:
		return noBody
	case message.Unknown:
		return chunked
	}
	return byLength
}

// Next is the next piece of the body.
func (b *bodyReader) Next(wait bool) ([]byte, error) {
	for b.err == nil {
		p, err := b.take()
		if len(p) > 0 {
			b.markStarted()
			return p, nil
		}
		if err == ErrMore {
			if !wait {
				return nil, message.ErrWait
			}
			err = b.fill()
			if err == message.ErrSlow {
				return nil, err
			}
			if err == netio.ErrInterrupted || b.framing == raw && errors.Is(err, os.ErrDeadlineExceeded) {
				// Not sticky: the body continues, or the other direction of a tunnel may be busy.
				return nil, err
			}
		}
		b.err = err
		if err == io.EOF {
			b.complete.Store(true)
		}
	}
	return nil, b.err
}

// markStarted notes that something was taken.
func (b *bodyReader) markStarted() {
	if !b.started.Load() {
		b.started.Store(true)
	}
}

// done says whether the whole body has been read, and with it the message.
func (b *bodyReader) done() bool { return b.complete.Load() }

// fill waits for more bytes; the silence of the peer is bounded by the pace.
func (b *bodyReader) fill() error {
	if b.mayAwait100 && !b.started.Load() && b.in.Len() == 0 {
		return b.fillAwaiting100()
	}
	before, had := time.Now(), b.in.Len()
	window := b.window()
	if window > 0 {
		b.s.Base().ReadBy(before.Add(window))
	}
	err := b.s.Fill(b.in)
	if window < b.pace.Window && errors.Is(err, os.ErrDeadlineExceeded) {
		b.slowAfter = 0
		return message.ErrSlow
	}
	err = b.extendFill(err)
	if err == nil && b.framing != raw {
		return b.pace.Wait(time.Since(before), b.in.Len()-had)
	}
	if err == io.EOF && b.framing != untilClose && b.framing != raw {
		return io.ErrUnexpectedEOF
	}
	return err
}

// extendFill continues a wait that ended with err, as long as silence is not an error.
func (b *bodyReader) extendFill(err error) error {
	for b.framing != raw && errors.Is(err, os.ErrDeadlineExceeded) {
		grace := b.pace.Grace()
		if grace <= 0 {
			break
		}
		b.s.Base().ReadBy(time.Now().Add(grace))
		err = b.s.Fill(b.in)
	}
	return err
}

// setProgress sets the directions that the pace considers, see netio.Pace.
func (b *bodyReader) setProgress(own, other *netio.Progress) { b.pace.Own, b.pace.Other = own, other }

// fillAwaiting100 waits for a sender that may be waiting for a 100.
func (b *bodyReader) fillAwaiting100() error {
	b.s.Base().ReadBy(time.Time{})
	if b.sent100.Load() { // the 100 was sent before
		b.s.Base().ReadBy(time.Now().Add(b.pace.Window))
	}
	err := b.extendFill(b.s.Fill(b.in))
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// noteContinue notes that a 100 was sent. Any goroutine may call it.
func (b *bodyReader) noteContinue() {
	if b.mayAwait100 && !b.started.Load() && b.pace.Window > 0 {
		b.sent100.Store(true)
		_ = b.s.Base().SetReadDeadline(time.Now().Add(b.pace.Window))
	}
}

// window is how long one wait may last.
func (b *bodyReader) window() time.Duration {
	if b.slowAfter > 0 && b.slowAfter < b.pace.Window {
		return b.slowAfter
	}
	return b.pace.Window
}

// take gives what has arrived of the body; ErrMore if that is nothing.
func (b *bodyReader) take() ([]byte, error) {
	switch b.framing {
	case byLength:
		if b.left == 0 {
			return nil, io.EOF
		}
		if p := b.takeUpTo(b.left); len(p) > 0 {
			return p, nil
		}
	case untilClose, raw:
		if p := b.in.Take(b.in.Len()); len(p) > 0 {
			return p, nil
		}
	case chunked:
		return b.takeChunked()
	}
	return nil, ErrMore
}

func (b *bodyReader) takeUpTo(n int64) []byte {
	p := b.in.Take(int(min(n, int64(b.in.Len()))))
	b.left -= int64(len(p))
	return p
}

func (b *bodyReader) takeChunked() ([]byte, error) {
	for {
		switch b.state {
		case chunkSize:
			if err := b.takeSize(); err != nil {
				return nil, err
			}
		case chunkData:
			if p := b.takeUpTo(b.left); len(p) > 0 {
				if b.left == 0 {
					b.state = chunkDataEnd
				}
				return p, nil
			}
			return nil, ErrMore
		case chunkDataEnd:
			p := b.in.Bytes()
			if len(p) > 0 && p[0] != '\r' || len(p) > 1 && p[1] != '\n' {
				return nil, errChunkEnd
			}
			if len(p) < 2 {
				return nil, ErrMore
			}
			b.in.Discard(2)
			b.state = chunkSize
		case chunkTrailers:
			return nil, b.takeTrailers()
		}
	}
}

// takeSize reads a chunk-size line (RFC 9112 section 7.1).
func (b *bodyReader) takeSize() error {
	p := b.in.Bytes()
	i := bytes.IndexByte(p, '\n')
	if i < 0 && len(p) < maxChunkLine {
		return ErrMore
	}
	if i < 0 || i >= maxChunkLine {
		return errChunkLine
	}
	if i == 0 || p[i-1] != '\r' {
		return errBareLF
	}
	size, err := parseChunkSize(p[:i-1])
	if err != nil {
		return err
	}
	b.overhead = max(0, b.overhead+int64(i-freeChunkLine)-min(size, maxChunkOverhead))
	if b.overhead > maxChunkOverhead {
		return errChunkOverhead
	}
	b.in.Discard(i + 1)
	b.left = size
	b.state = chunkData
	if size == 0 {
		b.state = chunkTrailers
	}
	return nil
}

func parseChunkSize(line []byte) (size int64, err error) {
	i := 0
	for ; i < len(line); i++ {
		digit, ok := unhex(line[i])
		if !ok {
			break
		}
		if size > 1<<58 {
			return 0, errChunkBig
		}
		size = size<<4 | int64(digit)
	}
	if i == 0 || i > 16 {
		return 0, errChunkSize
	}
	extension := line[i:]
	rest := bytes.TrimLeft(extension, " \t") // BWS before the semicolon
	if len(extension) > 0 && (len(rest) == 0 || rest[0] != ';') {
		return 0, errChunkSize
	}
	for _, c := range extension {
		if !isText[c] || c >= 0x80 {
			return 0, errChunkExt
		}
	}
	return size, nil
}

func unhex(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

// takeTrailers reads what follows the last chunk. Fields that frame, route or authenticate are not
// allowed there (RFC 9110 section 6.5.1) and are dropped.
func (b *bodyReader) takeTrailers() error {
	p := b.in.Bytes()
	end, next, err := headEnd(p, b.scanned, b.limits)
	b.scanned = next
	if err == errHeaderBytes {
		return errTrailerBytes
	}
	if err != nil {
		return err
	}
	if end > 2 {
		base := b.trailer.Size()
		var sp framingFields
		if err := parseFields(b.trailer, b.trailer.Copy(p[:end]), base, 0, b.limits, &sp); err != nil {
			return err
		}
		message.CleanTrailer(b.trailer)
		for names := b.nominated; len(names) > 0; {
			var name []byte
			name, names = nextOption(names)
			b.trailer.DelName(name)
		}
	}
	b.in.Discard(end)
	return io.EOF
}

// Splice moves the rest of the body to dst inside the kernel if both are plain sockets and enough
// is left; ok is false if it does not apply, and then nothing was moved. It returns nil errors once
// it has moved all, or something and would have to wait: the next call of Next tells which.
func (b *bodyReader) Splice(dst message.BodyWriter, wait bool) (n int64, ok bool, srcErr, dstErr error) {
	w, fits := dst.(spliceTarget)
	if !fits || b.err != nil || b.framing != byLength || b.left < netio.SpliceMin || b.in.Len() > 0 {
		return 0, false, nil, nil
	}
	out := w.spliceWriter()
	src, plain := b.s.(*netio.Conn)
	to, plainTo := out.s.(*netio.Conn)
	if !plain || !plainTo || out.framing != byLength || out.left < b.left || !netio.CanSplice(src, to) {
		return 0, false, nil, nil
	}
	window := b.window()
	if window > 0 {
		_ = src.SetReadDeadline(time.Now().Add(window))
	}
	n, waited, err := netio.Splice(to, src, b.left, wait)
	b.left -= n
	out.left -= n
	if n > 0 {
		b.markStarted()
	}
	b.in.ShortenNext() // what is read into it would be copied
	var side *netio.SpliceError
	switch {
	case err == nil && wait:
		b.err = b.pace.Wait(waited, int(n))
	case err == nil:
		return n, true, nil, nil
	case !errors.As(err, &side):
		return 0, false, nil, nil // no pipe is free: the bytes can still be copied
	case !side.Reading:
		return n, true, nil, side.Err
	case window < b.pace.Window && errors.Is(side.Err, os.ErrDeadlineExceeded):
		b.slowAfter = 0
		return n, true, message.ErrSlow, nil
	case errors.Is(side.Err, os.ErrDeadlineExceeded) && b.pace.Grace() > 0:
		return n, true, nil, nil // it is tried again
	case side.Err == io.EOF:
		b.err = io.ErrUnexpectedEOF
	default:
		b.err = side.Err
	}
	return n, true, b.err, nil
}

// spliceTarget is a bodyWriter, or what embeds one.
type spliceTarget interface{ spliceWriter() *bodyWriter }

func (w *bodyWriter) spliceWriter() *bodyWriter { return w }
