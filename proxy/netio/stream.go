package netio

import (
	"crypto/tls"
	"errors"
	"io"
	"sync"
	"time"
)

// Stream is the connection below a codec: a *Conn, or a *TLS above one. It is an interface because
// neither net.Conn nor io.ReadWriter has Fill and Flush, on which the cost of a request depends.
type Stream interface {
	io.Writer
	// Fill adds what has arrived to b and waits if that is nothing. It sends what is held first.
	Fill(b *Buffer) error
	// Flush sends what Write has held back.
	Flush() error
	// CloseWrite sends what is held, then ends this direction.
	CloseWrite() error
	// Idle says whether the connection is open and silent.
	Idle() bool
	// Close ends both directions in order.
	Close() error
	// Base is the socket below, for deadlines, interruption and socket options.
	Base() *Conn
}

// Base is c itself.
func (c *Conn) Base() *Conn { return c }

// TLS is a Stream of a TLS connection above a Conn. It holds plain text first, so that a head and a
// short body become one record, and the records of one response leave in one write.
type TLS struct {
	conn             *tls.Conn
	base             *Conn
	firstByte        [1]byte // what a read waits for
	needsCloseNotify bool    // see NeedsCloseNotify

	mu    sync.Mutex // guards what follows; a reader never waits for it
	block []byte
	held  []byte // plain text
}

// recordSize is the most that a TLS record carries (RFC 8446 section 5.1).
const recordSize = 16 << 10

// NewTLS makes the stream of t, a connection above base whose handshake is complete.
func NewTLS(base *Conn, t *tls.Conn) *TLS {
	base.UseLargeBlocks()
	base.replies.Store(true)
	return &TLS{conn: t, base: base}
}

// NeedsCloseNotify makes an end without close_notify an io.ErrUnexpectedEOF. Anyone on the path can
// send a FIN, and a message that the end of the connection frames must not look complete (RFC 9112
// section 9.8). crypto/tls accepts it.
func (t *TLS) NeedsCloseNotify() { t.needsCloseNotify = true }

// Base is the socket below.
func (t *TLS) Base() *Conn { return t.base }

// Write holds a copy of p until the next Flush or Fill, or until it makes a full record.
func (t *TLS) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.held)+len(p) > recordSize {
		if err := t.seal(); err != nil {
			return 0, err
		}
		if len(p) >= recordSize {
			return t.encrypt(p)
		}
	}
	if t.block == nil {
		t.block = newBlock(false)
		t.held = t.block[:0]
	}
	t.held = append(t.held, p...)
	return len(p), nil
}

// seal makes records of what is held and writes them to the socket below, which holds them.
func (t *TLS) seal() error {
	if len(t.held) == 0 {
		return nil
	}
	_, err := t.encrypt(t.held)
	freeBlock(t.block)
	t.block, t.held = nil, nil
	return err
}

// encrypt makes records of p. What crypto/tls writes at other times are replies, which must not
// wait.
func (t *TLS) encrypt(p []byte) (int, error) {
	t.base.replies.Store(false)
	n, err := t.conn.Write(p)
	t.base.replies.Store(true)
	return n, err
}

// Flush sends what is held.
func (t *TLS) Flush() error {
	if err := t.sealHeld(); err != nil {
		return err
	}
	return t.base.Flush()
}

func (t *TLS) sealHeld() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seal()
}

// CloseWrite sends what is held and a close_notify.
func (t *TLS) CloseWrite() error {
	err := t.sealEnd()
	// crypto/tls has set one in the past, and nothing has left yet.
	_ = t.base.SetWriteDeadline(time.Time{})
	return errors.Join(err, t.base.Flush())
}

func (t *TLS) sealEnd() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return errors.Join(t.seal(), t.conn.CloseWrite())
}

// Close sends what is held if that needs no waiting, with a close_notify, and closes the socket.
func (t *TLS) Close() error {
	t.trySeal()
	return t.conn.Close()
}

func (t *TLS) trySeal() {
	if !t.mu.TryLock() {
		return
	}
	defer t.mu.Unlock()
	_ = t.base.SetWriteDeadline(time.Now()) // nothing waits: the socket below makes one attempt
	_ = t.seal()
}

// Idle says whether the connection is open and has nothing to read. It asks crypto/tls, not the
// socket: that may hold further records, and it reads session tickets, which are not data.
func (t *TLS) Idle() bool {
	_ = t.base.SetReadDeadline(time.Time{}) // that of the last read may have passed
	t.base.noWait = true
	n, err := t.conn.Read(t.firstByte[:])
	t.base.noWait = false
	return n == 0 && errors.Is(err, ErrAgain)
}

// Fill waits for a single byte, so that a connection that waits needs no other buffer than the one
// of crypto/tls. The rest of its record then takes no system call.
func (t *TLS) Fill(b *Buffer) error {
	if b.Len() >= MaxBuffered {
		return ErrBufferFull
	}
	if t.mu.TryLock() { // another writer flushes itself
		err := t.seal()
		t.mu.Unlock()
		if err != nil {
			return err
		}
	}
	b.releaseIfEmpty()
	// An error that comes with the last byte comes again.
	if n, err := t.conn.Read(t.firstByte[:]); n == 0 {
		if err == io.EOF && t.needsCloseNotify && t.base.gotFIN {
			return io.ErrUnexpectedEOF
		}
		return err
	}
	room := b.room()
	room[0] = t.firstByte[0]
	t.base.noWait = true
	n, _ := t.conn.Read(room[1:])
	t.base.noWait = false
	b.added(1 + n)
	return nil
}
