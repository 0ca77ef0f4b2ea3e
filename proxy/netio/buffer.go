package netio

import (
	"errors"
	"sync"
)

const (
	smallBlock = 16 << 10 // holds a head, a small body, and what is held back for writing
	largeBlock = 64 << 10 // for bodies: beyond this larger reads gain nothing
	shortRead  = 2 << 10  // a head, and little of a body that is spliced
)

// MaxBuffered is the most bytes a Buffer grows to, which bounds what a head may take.
const MaxBuffered = 1 << 20

// ErrBufferFull is what Fill gives when a Buffer holds MaxBuffered bytes.
var ErrBufferFull = errors.New("netio: buffer full")

var smallBlocks = sync.Pool{New: func() any { return new([smallBlock]byte) }}
var largeBlocks = sync.Pool{New: func() any { return new([largeBlock]byte) }}

// Buffer holds bytes that were read and not yet taken. Its memory comes from a pool when the first
// byte arrives, and returns there when the last one is taken and the connection has nothing more.
// The zero value is ready. The size of the block adapts to what the connection brings.
type Buffer struct {
	data      []byte // the whole block, nil when there is none
	r, w      int    // data[r:w] is held
	bulk      bool   // the next block is a large one
	shortNext bool   // the next read into an empty block is a short one
}

// Bytes is what is held, valid until the next Fill.
func (b *Buffer) Bytes() []byte { return b.data[b.r:b.w] }

// Len is how much is held, in bytes.
func (b *Buffer) Len() int { return b.w - b.r }

// Discard removes the first n bytes.
func (b *Buffer) Discard(n int) {
	b.r += n
	if b.r > b.w {
		panic("netio: more bytes discarded than held")
	}
}

// Take removes up to n bytes and returns them; they are valid until the next Fill.
func (b *Buffer) Take(n int) []byte {
	n = min(n, b.w-b.r)
	p := b.data[b.r : b.r+n : b.r+n]
	b.r += n
	return p
}

// ShortenNext limits the next read into an empty buffer to what a head needs: the bytes after that
// go elsewhere.
func (b *Buffer) ShortenNext() { b.bulk, b.shortNext = false, true }

// Release returns the memory. What is held is lost.
func (b *Buffer) Release() {
	freeBlock(b.data)
	b.data, b.r, b.w = nil, 0, 0
}

// room gives space for the next read, after what is held; nil if the buffer is full.
func (b *Buffer) room() []byte {
	switch {
	case b.r == b.w:
		b.r, b.w = 0, 0
		if b.bulk && len(b.data) < largeBlock {
			b.Release()
		}
		if b.data == nil {
			b.data = newBlock(b.bulk)
		}
	case b.w < len(b.data):
	case b.r > 0:
		b.w = copy(b.data, b.data[b.r:b.w])
		b.r = 0
	case len(b.data) >= MaxBuffered:
		return nil
	default:
		b.grow()
	}
	if b.shortNext && b.w == 0 {
		b.shortNext = false
		return b.data[:shortRead]
	}
	return b.data[b.w:]
}

// NewBlock returns 64 KiB from the pool that the buffers use.
func NewBlock() []byte { return newBlock(true) }

// FreeBlock puts a block back.
func FreeBlock(b []byte) { freeBlock(b) }

func newBlock(large bool) []byte {
	if large {
		return largeBlocks.Get().(*[largeBlock]byte)[:]
	}
	return smallBlocks.Get().(*[smallBlock]byte)[:]
}

func freeBlock(b []byte) {
	switch len(b) {
	case smallBlock:
		smallBlocks.Put((*[smallBlock]byte)(b))
	case largeBlock:
		largeBlocks.Put((*[largeBlock]byte)(b))
	}
}

// grow moves what is held to a larger block.
func (b *Buffer) grow() {
	var data []byte
	if len(b.data) < largeBlock {
		data = newBlock(true)
	} else {
		data = make([]byte, 4*len(b.data))
	}
	n := copy(data, b.data)
	b.Release()
	b.data, b.w = data, n
}

// added accounts for n bytes read into room.
func (b *Buffer) added(n int) {
	full := n == len(b.data)-b.w
	b.w += n
	if b.r == 0 && b.w == n { // a read into an empty block
		b.bulk = full || b.bulk && n > smallBlock
	}
}

// releaseIfEmpty returns the memory if nothing is held.
func (b *Buffer) releaseIfEmpty() {
	if b.r == b.w {
		b.Release()
	}
}
