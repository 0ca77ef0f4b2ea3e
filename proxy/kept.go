package proxy

import (
	"sync"
	"sync/atomic"

	"mpgate/proxy/message"
)

const (
	// maxKeptBody is the longest request body that is kept for a retry, in bytes.
	maxKeptBody = 64 << 10
	smallBody   = 4 << 10
	// maxKeptBodies limits the bytes that all requests together keep. Beyond that, requests with a
	// body are sent once.
	maxKeptBodies = 64 << 20
)

var (
	smallBodies = sync.Pool{New: func() any { return new([smallBody]byte) }}
	largeBodies = sync.Pool{New: func() any { return new([maxKeptBody]byte) }}
)

// keptBody is a request's body that keeps what has been read, so that it can be sent again. It is a
// message.BodyReader: after rewind it returns the same bytes again, then continues with the
// client's. It keeps nothing more once the body is longer than limit or drop was called. The
// zero value keeps nothing.
type keptBody struct {
	src        message.BodyReader // nil: nothing is kept
	used       *atomic.Int64      // by all
	limit      int                // bytes, at most maxKeptBody
	buf        []byte             // the body from its beginning
	pos        int                // bytes of buf that Next has returned since rewind
	incomplete bool               // buf lacks a part of what was read
	unneeded   atomic.Bool        // the body will not be sent again; any goroutine may set it
}

// begin makes k keep up to limit bytes of what is read from src, of which nothing has been read
// yet. It reserves memory for the first n bytes, and returns false if there is none.
func (k *keptBody) begin(src message.BodyReader, used *atomic.Int64, n int64, limit int) bool {
	if limit <= 0 {
		return false
	}
	k.src, k.used, k.limit = src, used, min(limit, maxKeptBody)
	if k.grow(int(max(1, min(n, maxKeptBody)))) {
		return true
	}
	k.reset()
	return false
}

// active reports whether the body is read through k.
func (k *keptBody) active() bool { return k.src != nil }

// canRewind reports whether Next can return again what was read of the body.
func (k *keptBody) canRewind() bool { return k.src != nil && !k.incomplete }

// rewind makes Next start from the beginning of the body.
func (k *keptBody) rewind() { k.pos = 0 }

// remaining is the number of bytes that Next returns before it reads from the client.
func (k *keptBody) remaining() int { return len(k.buf) - k.pos }

// Next returns the next piece of the body.
func (k *keptBody) Next(wait bool) ([]byte, error) {
	if k.pos < len(k.buf) {
		p := k.buf[k.pos:]
		k.pos = len(k.buf)
		return p, nil
	}
	p, err := k.src.Next(wait)
	if err == nil {
		k.store(p)
	}
	return p, err
}

func (k *keptBody) store(p []byte) {
	if k.incomplete {
		return
	}
	if n := len(k.buf) + len(p); k.unneeded.Load() || n > k.limit || !k.grow(n) {
		k.drop()
		return
	}
	k.buf = append(k.buf, p...)
	k.pos = len(k.buf)
}

// grow reserves memory for n bytes in all.
func (k *keptBody) grow(n int) bool {
	if n <= cap(k.buf) {
		return true
	}
	size := smallBody
	if n > smallBody {
		size = maxKeptBody
	}
	if k.used.Add(int64(size)) > maxKeptBodies {
		k.used.Add(int64(-size))
		return false
	}
	old := k.buf
	if size == smallBody {
		k.buf = smallBodies.Get().(*[smallBody]byte)[:0]
	} else {
		k.buf = append(largeBodies.Get().(*[maxKeptBody]byte)[:0], old...)
	}
	k.free(old)
	return true
}

func (k *keptBody) free(b []byte) {
	switch cap(b) {
	case smallBody:
		smallBodies.Put((*[smallBody]byte)(b[:smallBody]))
	case maxKeptBody:
		largeBodies.Put((*[maxKeptBody]byte)(b[:maxKeptBody]))
	}
	if k.used != nil {
		k.used.Add(int64(-cap(b)))
	}
}

// drop releases the memory: the body is not sent again. Only the reader of the body calls it;
// others set unneeded.
func (k *keptBody) drop() {
	k.free(k.buf)
	k.buf, k.pos, k.incomplete = nil, 0, true
}

// reset makes k keep nothing.
func (k *keptBody) reset() {
	if k.src == nil {
		return
	}
	k.free(k.buf)
	k.src, k.used, k.buf, k.pos, k.incomplete = nil, nil, nil, 0, false
	k.unneeded.Store(false)
}
