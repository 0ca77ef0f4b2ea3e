package http2

import (
	"errors"
	"io"
	"os"

	"golang.org/x/net/http2"

	"mpgate/task"
)

// lateData checks a DATA frame of that size for a stream that does not exist (any more).
func (c *conn) lateData(id uint32, size int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !clientID(id) || id > c.lastID:
		return protocolError("DATA on an idle stream")
	case !c.recentlyClosed.has(id):
		return &ConnError{http2.ErrCodeStreamClosed, "DATA on a closed stream"}
	case size > 0 && size <= c.lateBytes:
		c.lateBytes -= size
	case !c.controls.take(1):
		return enhanceYourCalm("too much DATA for closed streams")
	}
	return nil
}

// failStream ends a stream because of an error of the peer. It counts like a reset by the peer.
func (c *conn) failStream(id uint32, code http2.ErrCode) error {
	if id == 0 {
		return &ConnError{code, "invalid frame"}
	}
	if !c.resets.take(1) {
		return enhanceYourCalm("too many stream resets")
	}
	var gone func()
	c.mu.Lock()
	defer func() { c.unlockAndCall(gone) }()
	switch s := c.streams[id]; {
	case s != nil:
		gone = c.abortStream(s, &ConnError{code, "protocol error on the stream"}, code)
	case id > c.lastID:
		return &ConnError{code, "invalid frame on an idle stream"}
	case !c.recentlyClosed.has(id):
		c.appendReset(id, code)
		c.remember(id, defaultWindow)
	}
	return nil
}

// unlockAndCall unlocks c.mu, which is held, and calls a function given to Watch.
func (c *conn) unlockAndCall(gone func()) {
	if gone == nil {
		c.mu.Unlock()
		return
	}
	c.goneMu.Lock()
	defer c.goneMu.Unlock()
	c.mu.Unlock()
	gone()
}

// abortStream ends s with err, and with a reset unless code is noReset; c.mu is held. It returns
// the function given to Watch.
func (c *conn) abortStream(s *stream, err error, code http2.ErrCode) (gone func()) {
	if s.err == nil {
		s.err = err
	}
	if !s.reset {
		s.reset = true
		c.dequeue(s)
		s.pending = nil
		s.uncount()
		if code != noReset {
			s.resetByUs = true
			c.appendReset(s.id, code)
		}
	}
	gone, s.onGone = s.onGone, nil
	s.readers.wake()
	s.writers.wake()
	return gone
}

const noReset = http2.ErrCode(1 << 31)

// fail ends the connection and all its streams.
func (c *conn) fail(err error) {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF // to a stream, io.EOF is an orderly end
	}
	var gone []func()
	c.mu.Lock()
	defer func() {
		c.unlockAndCall(func() {
			for _, g := range gone {
				g()
			}
		})
	}()
	c.failLocked(err)
	for _, s := range c.streams {
		if g := c.abortStream(s, s.connError(), noReset); g != nil {
			gone = append(gone, g)
		}
	}
}

// runReader is read, with a panic turned into an error: it ends the connection and its streams.
func (c *conn) runReader() (err error) {
	end := "client"
	if c.client != nil {
		end = "server"
	}
	if p := task.Call("HTTP/2 connection to a "+end+": reading", func() { err = c.read() }); p != nil {
		return &ConnError{http2.ErrCodeInternal, p.Error()}
	}
	return err
}

// panicked is called for a panic of a writer: it is not known what has left.
func (c *conn) panicked(*task.Panic) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.scheduled = false
	c.afterWrite(ErrInternal)
}

// Fail ends the connection after a panic of its reading goroutine.
func (c *conn) Fail(p *task.Panic) {
	c.panicked(p)
	c.fail(ErrInternal)
}

// connError is why the connection has ended, as s reports it; c.mu is held. A request that was
// still in the buffer has not been sent.
func (s *stream) connError() error {
	if s.client != nil && s.id != 0 && s.client.headBatch == s.conn.batch {
		return errors.Join(ErrNotProcessed, s.conn.err)
	}
	return s.conn.err
}

func (c *conn) failLocked(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = ErrTooSlow
	}
	if c.err == nil {
		if c.client != nil && c.client.goAwayCode != http2.ErrCodeNo {
			err = &GoAwayError{c.client.goAwayCode, err}
		}
		c.err = err
	}
	c.written.Broadcast()
}
