package http2

import (
	"encoding/binary"
	"errors"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"mpgate/proxy/message"
)

// blockState is the header block that is being read: HEADERS and the CONTINUATIONs behind it.
type blockState struct {
	open      bool
	id        uint32
	endStream bool
	frames    int
	bytes     int
	began     time.Time
	refused   http2.ErrCode // the stream is refused with it; noReset: it is not
}

// headers takes a HEADERS frame.
func (c *conn) headers(h http2.FrameHeader) error {
	if h.StreamID == 0 {
		return protocolError("HEADERS on stream 0")
	}
	n, pad, err := c.padding(h, int(h.Length))
	if err != nil {
		return err
	}
	var self bool
	if h.Flags.Has(http2.FlagHeadersPriority) {
		if n < 5 {
			return &ConnError{http2.ErrCodeFrameSize, "HEADERS without the priority that its flags announce"}
		}
		b, err := c.readPrefix(5)
		if err != nil {
			return err
		}
		n -= 5
		self = binary.BigEndian.Uint32(b)&maxStreamID == h.StreamID
	}
	c.block = blockState{open: true, id: h.StreamID, began: time.Now(), endStream: h.Flags.Has(http2.FlagHeadersEndStream), refused: noReset}
	if c.server != nil {
		err = c.server.openBlock()
	} else {
		err = c.client.openBlock()
	}
	if err != nil {
		return err
	}
	if c.fields.kind == discarded && c.block.refused == noReset && !c.controls.take(1) {
		return enhanceYourCalm("too many header blocks for closed streams")
	}
	if self {
		c.block.refused = http2.ErrCodeProtocol
	}
	return c.fragment(n, pad, h.Flags.Has(http2.FlagHeadersEndHeaders))
}

// continuation takes a CONTINUATION frame; the Framer has checked that it follows its HEADERS.
func (c *conn) continuation(h http2.FrameHeader) error {
	return c.fragment(int(h.Length), 0, h.Flags.Has(http2.FlagContinuationEndHeaders))
}

// fragment decodes n bytes of the block, and drops the padding after them.
func (c *conn) fragment(n, pad int, last bool) error {
	b := &c.block
	b.frames++
	b.bytes += n
	if b.frames > maxContinuations || b.bytes > 2*c.limits.HeaderBytes+maxFrame {
		return enhanceYourCalm("header block of too many frames or bytes")
	}
	for n > 0 {
		p, err := c.take(n)
		if err != nil {
			return err
		}
		n -= len(p)
		if _, err := c.decoder.Write(p); err != nil {
			if errors.Is(err, hpack.ErrStringLength) {
				return enhanceYourCalm("a field is longer than the header limit")
			}
			return &ConnError{http2.ErrCodeCompression, err.Error()}
		}
		if c.fields.isBomb() {
			return enhanceYourCalm("header block of many times the header limit")
		}
	}
	if err := c.skip(pad); err != nil || !last {
		return err
	}
	if err := c.decoder.Close(); err != nil {
		return &ConnError{http2.ErrCodeCompression, err.Error()}
	}
	c.fields.finish()
	b.open = false
	if c.server != nil {
		return c.server.closeBlock()
	}
	return c.client.closeBlock()
}

// takeTrailer ends the body of s with the block that was decoded into c's trailer. c.mu is not
// held.
func (c *conn) takeTrailer(id uint32) (err error) {
	var gone func()
	c.mu.Lock()
	defer func() { c.unlockAndCall(gone) }()
	s := c.streams[id]
	if s == nil {
		return nil
	}
	if f := c.fields.err; f != nil {
		gone, err = c.rejectMessage(s, f)
		return err
	}
	message.CleanTrailer(&c.trailer)
	s.trailer, c.trailer = c.trailer, s.trailer
	gone, err = c.endBody(s)
	return err
}

// rejectMessage ends a stream for a malformed message, c.mu held. It returns the function given to
// Watch.
func (c *conn) rejectMessage(s *stream, f *message.Error) (gone func(), err error) {
	if !c.resets.take(1) {
		return nil, enhanceYourCalm("too many stream resets")
	}
	return c.abortStream(s, f, http2.ErrCodeProtocol), nil
}
