package message

import "os"

// BodyReader yields a body piece by piece, without copying it.
type BodyReader interface {
	// Next gives the next piece, which is valid until the call after. With wait false it gives only
	// what has already arrived, and ErrWait if that is nothing: the caller then flushes what it
	// holds for others before it waits. At the end it gives io.EOF, and the message's trailers are
	// complete; a body that was cut off gives another error, never io.EOF.
	Next(wait bool) ([]byte, error)
}

// BodyWriter takes a body piece by piece. Pieces may be held back until Flush.
//
// A filter is a BodyWriter that wraps another one, such as a compressor:
//
//   - It keeps the other writer in a named member. A filter that embeds the writer of a codec would
//     inherit methods by which its callers pass it by.
//   - WriteBody may hold back what it makes of a piece, but no longer than until Flush, which hands
//     everything on and then flushes the other writer. End hands the rest on and then ends it.
//   - WaitRoom, see Windowed, calls the function WaitRoom for the other writer.
//   - The length changes: the head that was written before says ContentLength Unknown.
//
// A Splicer moves nothing to a filter, because it knows only the writers of its own codec.
type BodyWriter interface {
	// WriteBody sends p or holds a copy. p may be used again when it returns.
	WriteBody(p []byte) error
	// End completes the body; trailer may be nil. A body that is not ended must not look complete
	// to the peer.
	End(trailer *Header) error
	// Flush sends what is held.
	Flush() error
}

// Windowed is a BodyWriter whose peer says how much it takes, as in HTTP/2. Nothing is read for one
// that takes nothing: the bytes stay with their source.
type Windowed interface {
	// WaitRoom returns once the peer takes at least one byte more, or with the error by which the
	// body fails. held is how many bytes of the body the caller holds meanwhile.
	WaitRoom(held int) error
}

// WaitRoom is w's, if w is Windowed; otherwise it returns at once.
func WaitRoom(w BodyWriter, held int) error {
	if w, ok := w.(Windowed); ok {
		return w.WaitRoom(held)
	}
	return nil
}

// Splicer is a BodyReader that can move the rest of its body to some writers inside the kernel.
type Splicer interface {
	// Splice moves bytes to dst, which it flushes first. ok is false when it does not apply; then
	// nothing was moved. With wait false it moves only what has arrived. ErrSlow is as in Next.
	Splice(dst BodyWriter, wait bool) (n int64, ok bool, srcErr, dstErr error)
}

// FileWriter is a BodyWriter that can send a file as part of its body inside the kernel.
type FileWriter interface {
	// WriteFile sends n bytes of f, which begin at an offset. ok is false when it does not apply;
	// then nothing was sent. io.ErrUnexpectedEOF means that the file is shorter.
	WriteFile(f *os.File, offset, n int64) (sent int64, ok bool, err error)
}

// ErrSlow is what Next(true) may give once when the next piece is late. Nothing is wrong with the
// body: the caller checks the other side, then asks again.
var ErrSlow = errSlow{}

type errSlow struct{}

func (errSlow) Error() string { return "the next piece of the body is late" }

// ErrWait is what Next(false) gives when the next piece has not arrived.
var ErrWait = errWait{}

type errWait struct{}

func (errWait) Error() string { return "the next piece of the body has not arrived" }
