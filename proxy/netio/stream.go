package netio

import (
	"crypto/tls"
	"errors"
	"io"
)

// Stream is what a codec speaks on: a *Conn, or a *TLS above one. It is an interface because neither
// net.Conn nor io.ReadWriter can say Fill and Flush, on which the cost of a request depends.
type Stream interface {
	io.Writer
	// Fill adds what has arrived to b and waits if that is nothing; what is held leaves first.
	Fill(b *Buffer) error
	// Flush sends what Write has held back.
	Flush() error
	// CloseWrite sends what is held, then ends this direction.
	CloseWrite() error
	// Idle says whether the connection is open and silent.
	Idle() bool
	// Close ends both directions in order.
	Close() error
	// Base is the socket below, for deadlines, interruption and the kernel's knowledge.
	Base() *Conn
}

// Base is c itself.
func (c *Conn) Base() *Conn { return c }

// TLS is a Stream of a TLS connection whose records go through a Conn, so that those of one response leave
// in one write.
type TLS struct {
	*tls.Conn
	base *Conn
	// unread: the last read filled all the room it had, so crypto/tls may hold more.
	unread bool
}

// NewTLS gives the stream of t, which must sit on base and have its handshake behind it.
func NewTLS(base *Conn, t *tls.Conn) *TLS { return &TLS{Conn: t, base: base} }

// Base is the socket below.
func (t *TLS) Base() *Conn { return t.base }

// Flush sends the records that are held.
func (t *TLS) Flush() error { return t.base.Flush() }

// CloseWrite sends what is held and a close_notify.
func (t *TLS) CloseWrite() error {
	err := t.Conn.CloseWrite()
	return errors.Join(err, t.base.Flush())
}

// Idle says whether nothing waits, neither in the socket nor in crypto/tls.
func (t *TLS) Idle() bool { return !t.unread && t.base.Idle() }

// Fill asks crypto/tls without waiting, and waits on the socket with no buffer in hand.
func (t *TLS) Fill(b *Buffer) error {
	if b.Len() >= MaxBuffered {
		return ErrBufferFull
	}
	for {
		room := b.room()
		t.base.noWait = true
		n, err := t.Conn.Read(room)
		t.base.noWait = false
		if n > 0 {
			t.unread = n == len(room)
			b.took(n)
			return nil
		}
		t.unread = false
		b.quiet()
		if !errors.Is(err, ErrAgain) {
			return err
		}
		if err := t.base.WaitReadable(); err != nil {
			return err
		}
	}
}
