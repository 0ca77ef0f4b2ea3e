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

// closeFrameTime is how long a WebSocket client may take to answer a closing frame.
const closeFrameTime = time.Second

// direction is one direction of a tunnel. Of a WebSocket it follows the frames, as far as to know
// where one ends.
type direction struct {
	webSocket bool
	masked    bool // as what clients send
	wanted    atomic.Bool

	mu     sync.Mutex // held while something is written; guards what follows
	frames frames
	said   bool // a closing frame of ours ended the direction: nothing follows it
}

// forward passes p on. If a closing frame is wanted, it follows the first frame that ends in p.
func (d *direction) forward(dst message.BodyWriter, p []byte) error {
	if !d.webSocket {
		return dst.WriteBody(p)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.said {
		d.frames.follow(p, false)
		return nil
	}
	n := d.frames.follow(p, d.wanted.Load())
	if err := dst.WriteBody(p[:n]); err != nil {
		return err
	}
	if !d.wanted.Load() {
		return nil
	}
	if err := d.close(dst); err != nil {
		return err
	}
	d.frames.follow(p[n:], false) // what nobody gets may still be the answer to ours
	if d.said {
		return nil
	}
	return dst.WriteBody(p[n:])
}

// flush and end are those of dst.
func (d *direction) flush(dst message.BodyWriter) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return dst.Flush()
}

func (d *direction) end(dst message.BodyWriter) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return dst.End(nil)
}

// sendClose sends a closing frame, now if the last frame has ended, or else once it does.
func (d *direction) sendClose(dst message.BodyWriter) {
	if !d.webSocket {
		return
	}
	d.wanted.Store(true)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.close(dst) == nil {
		_ = dst.Flush()
	}
}

// close sends the closing frame, where that can be understood: between two frames, and behind none
// of the same kind.
func (d *direction) close(dst message.BodyWriter) error {
	if d.said || d.frames.closed || !d.frames.between() {
		return nil
	}
	d.said = true
	frame := [8]byte{0x80 | opClose, 2, goingAway >> 8, goingAway & 0xff}
	n := 4
	if d.masked {
		var key [4]byte
		_, _ = rand.Read(key[:]) // never fails
		frame[1] |= 0x80
		copy(frame[2:], key[:])
		frame[6], frame[7] = goingAway>>8^key[0], goingAway&0xff^key[1]
		n = 8
	}
	return dst.WriteBody(frame[:n])
}

// over says whether this side has said the last that it says.
func (d *direction) over() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.frames.closed
}

const (
	opClose   = 8
	goingAway = 1001 // RFC 6455 section 7.4.1
)

// frames finds the ends of WebSocket frames (RFC 6455 section 5.2) in what passes.
type frames struct {
	head   [14]byte
	have   int    // bytes of a head that is not complete
	left   uint64 // bytes of the frame's payload to come
	closed bool   // a closing frame went by
}

func (f *frames) between() bool { return f.have == 0 && f.left == 0 }

// follow takes p, or with stop as much of it as ends the first frame, and says how much.
func (f *frames) follow(p []byte, stop bool) (n int) {
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
			f.complete()
		}
		if stop && f.between() {
			return n
		}
	}
	return n
}

// complete looks whether the head is, and begins the payload if so.
func (f *frames) complete() {
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

// startClose ends a tunnel whose time is over in order, where it is a WebSocket: closing frames go
// to both sides, and the client gets a moment to answer. Whoever asks for it cuts what is left
// after closeFrameTime.
func (t *tunnel) startClose() bool {
	if !t.toClient.webSocket {
		return false
	}
	if t.leaving.CompareAndSwap(false, true) {
		t.closers.Go("WebSocket: close to the client", func() { t.toClient.sendClose(t.exchange.down) }, nil)
		t.closers.Go("WebSocket: close to the server", func() { t.toServer.sendClose(t.exchange.up) }, nil)
	}
	return true
}

// tunnels are those of a connection.
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

// remove is called once both directions have ended. No closing frame is sent after it.
func (l *tunnels) remove(t *tunnel) {
	l.mu.Lock()
	delete(l.open, t.exchange)
	l.mu.Unlock()
	t.closers.Wait()
}

// startClose begins that of x, or of all where x is nil, and says whether any are under way.
func (l *tunnels) startClose(x *exchange) (under bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for of, t := range l.open {
		if (x == nil || of == x) && t.startClose() {
			under = true
		}
	}
	return under
}

var errTimeOver = errors.New("the time for the exchange is over")

// cut ends that of x, or all where x is nil, on both sides: who waits for the server does not see
// the outcome of the client.
func (l *tunnels) cut(x *exchange) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for of, t := range l.open {
		if x == nil || of == x {
			t.fail(errTimeOver, false)
		}
	}
}
