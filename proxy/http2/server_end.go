package http2

import (
	"errors"
	"io"
	"os"

	"golang.org/x/net/http2"

	"mpgate/proxy/netio"
)

// end ends the connection.
func (c *ServerConn) end(err error) error {
	orderly, told := c.sendLastFrames(err)
	c.fail(err)
	c.awaitHandlers()
	if told {
		c.linger()
	}
	c.in.Release()
	if orderly {
		return nil
	}
	return err
}

// sendLastFrames sends what is left at the end. It says whether the end is orderly, and whether the
// client is told of it.
func (c *ServerConn) sendLastFrames(err error) (orderly, tell bool) {
	code := http2.ErrCodeNo
	var fault *ConnError
	if errors.As(err, &fault) {
		code = fault.Code
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	orderly = err == io.EOF || errors.Is(err, netio.ErrInterrupted) && c.draining || errors.Is(err, os.ErrDeadlineExceeded) && c.gotSettings && c.unused()
	tell = c.err == nil && !errors.Is(err, io.EOF) && (fault != nil || orderly)
	if tell && !(c.draining && orderly) {
		last := c.lastID
		if c.finalSent { // a later one must not name a higher (RFC 9113 section 6.8)
			last = c.finalID
		}
		c.appendGoAway(last, code)
	}
	if c.drainTimer != nil {
		c.drainTimer.Stop()
	}
	if c.err == nil {
		c.sendRest()
	}
	return orderly, tell
}

// awaitHandlers returns when all handlers have returned and no write is in progress.
func (c *ServerConn) awaitHandlers() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.starting {
		c.discard(s)
	}
	c.starting = nil
	for c.running > 0 {
		c.finished.Wait()
	}
	c.waitForWriter()
}

// linger lets a client that is still sending read the last frame: a close with unread input would
// reset the connection.
func (c *ServerConn) linger() {
	if c.s.CloseWrite() != nil {
		return
	}
	c.base.Resume()
	c.in.Release()
	_ = c.base.Drop(netio.Linger{Bytes: lingerBytes, Silence: lingerTime, Time: lingerTime})
}
