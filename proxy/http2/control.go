package http2

import (
	"encoding/binary"
	"time"

	"golang.org/x/net/http2"
)

// control processes the frames that are about the connection.
func (c *conn) control(h http2.FrameHeader) error {
	if h.Type == http2.FramePriority {
		return c.priorityFrame(h)
	}
	if h.Type == http2.FramePriorityUpdate && h.Length > 256 {
		return protocolError("PRIORITY_UPDATE of more than 256 bytes")
	}
	f, err := c.framer.ReadFrameForHeader(h)
	if err != nil {
		return err
	}
	switch f := f.(type) {
	case *http2.SettingsFrame:
		first := !c.gotSettings
		if err := c.settings(f); err != nil {
			return err
		}
		if first && c.client != nil && c.client.onSettings != nil {
			c.client.onSettings()
		}
	case *http2.PingFrame:
		c.ping(f)
	case *http2.GoAwayFrame:
		if c.client != nil {
			c.client.goAway(f)
		}
	case *http2.PriorityUpdateFrame:
		return c.priorityUpdate(f)
	case *http2.PushPromiseFrame:
		return protocolError("unexpected PUSH_PROMISE")
	}
	return nil
}

// settings applies the peer's settings (RFC 9113 section 6.5.2) in order.
func (c *conn) settings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		c.mu.Lock()
		c.settingsAcked()
		c.mu.Unlock()
		return nil
	}
	if f.NumSettings() > maxSettings {
		return enhanceYourCalm("too many settings in a frame")
	}
	if !c.controls.take(f.NumSettings() / usualSettings) {
		return enhanceYourCalm("too many settings")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range f.NumSettings() {
		if err := c.setting(f.Setting(i)); err != nil {
			return err
		}
	}
	if !c.gotSettings {
		c.gotSettings = true
		if c.client != nil {
			c.client.ready.Broadcast()
		}
	}
	c.appendSettingsAck()
	return nil
}

func (c *conn) setting(s http2.Setting) error {
	if err := s.Valid(); err != nil {
		return err
	}
	switch s.ID {
	case http2.SettingHeaderTableSize:
		c.encoder.setLimit(s.Val)
	case http2.SettingInitialWindowSize:
		grow := int64(s.Val) - c.sendInitial
		c.sendInitial = int64(s.Val)
		for _, s := range c.streams {
			if s.sendWindow += grow; s.sendWindow > maxWindow {
				return &ConnError{http2.ErrCodeFlowControl, "window of more than 2^31-1 bytes"}
			}
			s.wakeWriter()
		}
	case http2.SettingMaxFrameSize:
		c.frameSize = int(min(s.Val, largeBlock))
	case http2.SettingMaxConcurrentStreams:
		if c.client != nil {
			c.client.streamLimit = int(min(s.Val, maxStreams))
		}
	case http2.SettingEnableConnectProtocol:
		if c.client != nil {
			c.client.extendedConnect = s.Val == 1
		}
	case http2.SettingEnablePush:
		if c.client != nil && s.Val != 0 {
			return protocolError("a server that enables push")
		}
	}
	return nil
}

// ping answers a PING, or processes the answer to one of ours.
func (c *conn) ping(f *http2.PingFrame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !f.IsAck() {
		c.appendPing(true, f.Data)
		return
	}
	switch f.Data[0] {
	case pingSpeed:
		c.probeAnswered(time.Now())
	case pingDrain:
		if c.server != nil {
			c.server.lastGoAway()
		}
	}
}

// priorityFrame checks a PRIORITY, which is deprecated (RFC 9113 section 5.3.2).
func (c *conn) priorityFrame(h http2.FrameHeader) error {
	if h.StreamID == 0 {
		return protocolError("PRIORITY on stream 0")
	}
	if h.Length != 5 {
		if err := c.skip(int(h.Length)); err != nil {
			return err
		}
		return http2.StreamError{StreamID: h.StreamID, Code: http2.ErrCodeFrameSize}
	}
	b, err := c.readPrefix(5)
	if err != nil {
		return err
	}
	if binary.BigEndian.Uint32(b)&maxStreamID == h.StreamID {
		return http2.StreamError{StreamID: h.StreamID, Code: http2.ErrCodeProtocol}
	}
	return nil
}

// priorityUpdate changes the priority of a response (RFC 9218 section 7.1). One for a stream that
// is not open yet is dropped: the request repeats it in a field.
func (c *conn) priorityUpdate(f *http2.PriorityUpdateFrame) error {
	if c.client != nil {
		return protocolError("PRIORITY_UPDATE from a server")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.streams[f.PrioritizedStreamID]; s != nil {
		queued := s.queued
		c.dequeue(s)
		s.priority = parsePriority(f.Priority)
		if queued {
			c.enqueue(s)
		}
	}
	return nil
}

// reset processes a RST_STREAM.
func (c *conn) reset(h http2.FrameHeader) error {
	if h.Length != 4 {
		return &ConnError{http2.ErrCodeFrameSize, "RST_STREAM size is not 4"}
	}
	b, err := c.readPrefix(4)
	if err != nil {
		return err
	}
	code := http2.ErrCode(binary.BigEndian.Uint32(b))
	var gone func()
	c.mu.Lock()
	defer func() { c.unlockAndCall(gone) }()
	s := c.streams[h.StreamID]
	if s == nil {
		if !clientID(h.StreamID) || h.StreamID > c.lastID {
			return protocolError("RST_STREAM on an idle stream")
		}
		if !c.controls.take(1) {
			return enhanceYourCalm("too many resets of closed streams")
		}
		return nil
	}
	complete := s.sentEnd && s.recvEnd
	var reason error = &ResetError{code}
	if c.client != nil && code == http2.ErrCodeRefusedStream {
		reason = ErrRefused
	}
	if c.client != nil && code == http2.ErrCodeNo && s.recvEnd {
		// The response is complete, and the server wants no more of the request (RFC 9113 section
		// 8.1).
		s.stopped = true
		c.dequeue(s)
		s.pending = nil
		s.writers.wake()
		return nil
	}
	s.resetByPeer = true
	gone = c.abortStream(s, reason, noReset)
	if c.server != nil && !complete && !c.resets.take(1) {
		return enhanceYourCalm("too many stream resets")
	}
	return nil
}
