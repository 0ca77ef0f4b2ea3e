package mirror

import (
	"io"
	"slices"

	"mpgate/proxy/backend"
	"mpgate/proxy/message"
	"mpgate/telemetry"
)

// copied is the copy of a request. It reads the body of the original for the exchange, and keeps
// what it has read.
type copied struct {
	mirror  *Mirror
	ask     backend.Ask
	src     message.BodyReader
	whole   bool                   // the end of the body was read
	refused telemetry.MirrorResult // why the body is not kept; MirrorSent: it is
}

// take copies the head of a request.
func (c *copied) take(from *message.Request) {
	to := &c.ask.Request
	n := len(from.Method) + len(from.Host) + len(from.Port) + len(from.Path) + len(from.Query)
	b := slices.Grow(to.Scratch[:0], n)
	for _, part := range [...]struct{ to, from *[]byte }{
		{&to.Method, &from.Method}, {&to.Host, &from.Host}, {&to.Port, &from.Port}, {&to.Path, &from.Path}, {&to.Query, &from.Query},
	} {
		if at := len(b); *part.from != nil {
			b = append(b, *part.from...)
			*part.to = b[at:len(b):len(b)]
		}
	}
	to.Scratch = b
	to.Version, to.Scheme, to.HasQuery = from.Version, from.Scheme, from.HasQuery
	for i := range from.Header.Len() {
		if _, name, value, ok := from.Header.At(i); ok {
			to.Header.AddName(name, value)
		}
	}
}

// Next implements message.BodyReader.
func (c *copied) Next(wait bool) ([]byte, error) {
	p, err := c.src.Next(wait)
	switch {
	case err == io.EOF:
		c.whole = true
	case err == nil && c.refused == telemetry.MirrorSent:
		c.keep(p)
	}
	return p, err
}

func (c *copied) keep(p []byte) {
	n := len(c.ask.Content) + len(p)
	switch {
	case n > maxBody:
		c.refused = telemetry.MirrorTooLarge
	case c.mirror.held.Add(int64(len(p))) > maxHeld:
		c.mirror.held.Add(-int64(len(p)))
		c.refused = telemetry.MirrorDropped
	default:
		c.ask.Content = append(c.ask.Content, p...)
	}
}

// maxKept bounds the memory of a copy that is kept for the next one.
const maxKept = 16 << 10

// free ends the use of c.
func (c *copied) free() {
	c.mirror.held.Add(-int64(len(c.ask.Content)))
	small := cap(c.ask.Content) <= maxKept
	c.ask.Reset()
	*c = copied{ask: c.ask}
	if small {
		pool.Put(c)
	}
}
