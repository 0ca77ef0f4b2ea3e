package proxy

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"mpgate/proxy/message"
)

// closeFrameTime is how long a WebSocket client may take to answer a close frame.
const closeFrameTime = time.Second

// frameWriter writes one direction of a tunnel. If that is a WebSocket, it tracks where frames end,
// so that a close frame can be sent between two of them.
type frameWriter struct {
	dst       message.BodyWriter
	webSocket bool
	masked    bool // as a client's frames
	wanted    atomic.Bool

	mu        sync.Mutex // held during writes; guards what follows
	frames    frames
	closeSent bool // a close frame of ours ended the direction: nothing follows it
}

// WriteBody forwards p. If a close frame is wanted, it follows the first frame that ends in p.
func (w *frameWriter) WriteBody(p []byte) error {
	if !w.webSocket {
		return w.dst.WriteBody(p)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closeSent {
		w.frames.skip(p, false)
		return nil
	}
	n := w.frames.skip(p, w.wanted.Load())
	if err := w.dst.WriteBody(p[:n]); err != nil {
		return err
	}
	if !w.wanted.Load() {
		return nil
	}
	if err := w.writeClose(); err != nil {
		return err
	}
	w.frames.skip(p[n:], false) // what is dropped may contain the answer to our close frame
	if w.closeSent {
		return nil
	}
	return w.dst.WriteBody(p[n:])
}

// Flush flushes the destination.
func (w *frameWriter) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dst.Flush()
}

// End ends the direction.
func (w *frameWriter) End(*message.Header) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dst.End(nil)
}

// sendClose sends a close frame: now if the last frame has ended, else once it does.
func (w *frameWriter) sendClose() {
	w.wanted.Store(true)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.writeClose() == nil {
		_ = w.dst.Flush()
	}
}

// writeClose writes a close frame, unless the last frame has not ended or was a close frame.
func (w *frameWriter) writeClose() error {
	if w.closeSent || w.frames.closed || !w.frames.between() {
		return nil
	}
	w.closeSent = true
	frame := [8]byte{0x80 | opClose, 2, goingAway >> 8, goingAway & 0xff}
	n := 4
	if w.masked {
		var key [4]byte
		_, _ = rand.Read(key[:]) // never fails
		frame[1] |= 0x80
		copy(frame[2:], key[:])
		frame[6], frame[7] = goingAway>>8^key[0], goingAway&0xff^key[1]
		n = 8
	}
	return w.dst.WriteBody(frame[:n])
}

// sawClose reports whether a close frame has been forwarded or dropped.
func (w *frameWriter) sawClose() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.frames.closed
}

const (
	opClose   = 8
	goingAway = 1001 // RFC 6455 section 7.4.1
)

// frames finds the ends of WebSocket frames (RFC 6455 section 5.2) in a stream of bytes.
type frames struct {
	head   [14]byte
	have   int    // bytes of a head that is not complete
	left   uint64 // bytes of the frame's payload to come
	closed bool   // a close frame has begun
}

// between reports whether the last frame has ended.
func (f *frames) between() bool { return f.have == 0 && f.left == 0 }

// skip moves past p, or with stop past the part of it that ends the first frame, and returns the
// number of bytes.
func (f *frames) skip(p []byte, stop bool) (n int) {
	if stop && f.between() {
		return 0
	}
	for n < len(p) {
		if f.left > 0 {
			k := min(f.left, uint64(len(p)-n))
			n += int(k)
			f.left -= k
		} else {
			f.head[f.have] = p[n]
			f.have++
			n++
			f.parseHead()
		}
		if stop && f.between() {
			return n
		}
	}
	return n
}

// parseHead begins the payload if the head is complete.
func (f *frames) parseHead() {
	if f.have < 2 {
		return
	}
	length, size := uint64(f.head[1]&0x7f), 2
	switch length {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	key := 0
	if f.head[1]&0x80 != 0 {
		key = 4
	}
	if f.have < size+key {
		return
	}
	switch size {
	case 4:
		length = uint64(binary.BigEndian.Uint16(f.head[2:]))
	case 10:
		length = binary.BigEndian.Uint64(f.head[2:])
	}
	f.have, f.left = 0, length
	if f.head[0]&0x0f == opClose {
		f.closed = true
	}
}

// startClose begins the orderly end of a tunnel whose time is over, if it is a WebSocket: close
// frames go to both sides, and the client may answer. The caller stops the tunnel after
// closeFrameTime.
func (t *tunnel) startClose() bool {
	if !t.client.webSocket {
		return false
	}
	if t.closing.CompareAndSwap(false, true) {
		t.closers.Go("WebSocket: close to the client", t.client.sendClose, nil)
		t.closers.Go("WebSocket: close to the server", t.server.sendClose, nil)
	}
	return true
}

// tunnels are the tunnels of a connection.
type tunnels struct {
	mu   sync.Mutex // guards open
	open map[*exchange]*tunnel
}

func (l *tunnels) add(t *tunnel) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil {
		l.open = map[*exchange]*tunnel{}
	}
	l.open[t.exchange] = t
}

// remove is called once both directions have ended. No close frame is sent after it.
func (l *tunnels) remove(t *tunnel) {
	l.mu.Lock()
	delete(l.open, t.exchange)
	l.mu.Unlock()
	t.closers.Wait()
}

// startClose calls startClose of the tunnel of x, or of all tunnels if x is nil, and reports
// whether any of them is a WebSocket.
func (l *tunnels) startClose(x *exchange) (closing bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for of, t := range l.open {
		if (x == nil || of == x) && t.startClose() {
			closing = true
		}
	}
	return closing
}

var errTimeOver = errors.New("the time for the exchange is over")

// stop ends the tunnel of x, or all tunnels if x is nil, on both sides: a goroutine that waits for
// the server does not notice the end of the client's connection.
func (l *tunnels) stop(x *exchange) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for of, t := range l.open {
		if x == nil || of == x {
			t.pump.Stop(errTimeOver, false)
		}
	}
}
