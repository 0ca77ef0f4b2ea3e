package http2

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// The append functions add a frame to the connection's buffer; c.mu is held.

func appendHeader(dst []byte, length int, t http2.FrameType, flags http2.Flags, id uint32) []byte {
	return append(dst, byte(length>>16), byte(length>>8), byte(length), byte(t), byte(flags),
		byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

// controlFrame appends a frame that the peer can request: the bytes that wait are counted.
func (c *conn) controlFrame(t http2.FrameType, flags http2.Flags, id uint32, payload []byte) {
	if c.err != nil {
		return
	}
	c.buf = append(appendHeader(c.reserve(len(payload)), len(payload), t, flags, id), payload...)
	c.controlHeld += frameHeaderLen + len(payload)
}

func (c *conn) appendWindowUpdate(id, n uint32) {
	var p [4]byte
	binary.BigEndian.PutUint32(p[:], n)
	c.controlFrame(http2.FrameWindowUpdate, 0, id, p[:])
}

func (c *conn) appendReset(id uint32, code http2.ErrCode) {
	var p [4]byte
	binary.BigEndian.PutUint32(p[:], uint32(code))
	c.controlFrame(http2.FrameRSTStream, 0, id, p[:])
}

func (c *conn) appendPing(ack bool, data [8]byte) {
	var flags http2.Flags
	if ack {
		flags = http2.FlagPingAck
	}
	c.controlFrame(http2.FramePing, flags, 0, data[:])
}

func (c *conn) appendSettingsAck() {
	c.controlFrame(http2.FrameSettings, http2.FlagSettingsAck, 0, nil)
}

func (c *conn) appendSettings(list ...http2.Setting) {
	var p [60]byte
	b := p[:0]
	for _, s := range list {
		b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, uint16(s.ID)), s.Val)
	}
	c.unacked++
	c.controlFrame(http2.FrameSettings, 0, 0, b)
}

func (c *conn) appendGoAway(last uint32, code http2.ErrCode) {
	var p [8]byte
	binary.BigEndian.PutUint32(p[:], last)
	binary.BigEndian.PutUint32(p[4:], uint32(code))
	c.controlFrame(http2.FrameGoAway, 0, 0, p[:])
}

// appendBlock adds a header block, as HEADERS and as many CONTINUATIONs as it takes.
func (c *conn) appendBlock(id uint32, block []byte, end bool) {
	t, flags := http2.FrameHeaders, http2.Flags(0)
	if end {
		flags = http2.FlagHeadersEndStream
	}
	for {
		n := min(len(block), c.frameSize)
		if n == len(block) {
			flags |= http2.FlagHeadersEndHeaders
		}
		c.buf = append(appendHeader(c.reserve(n), n, t, flags, id), block[:n]...)
		if block = block[n:]; len(block) == 0 {
			return
		}
		t, flags = http2.FrameContinuation, 0
	}
}
