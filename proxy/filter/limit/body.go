package limit

import (
	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/telemetry"
)

// body counts the bytes of a body.
type body struct {
	src   message.BodyReader
	limit *Limit
	r     *filter.Request
	left  int64 // bytes that may follow
	over  bool
}

// Next implements message.BodyReader.
func (b *body) Next(wait bool) ([]byte, error) {
	if b.over {
		return b.excess(nil, wait)
	}
	p, err := b.src.Next(wait)
	if b.left -= int64(len(p)); b.left < 0 {
		b.over = true
		b.limit.exceeded(b.r, telemetry.LimitBody)
		return b.excess(p, wait)
	}
	return p, err
}

// excess is for what comes after too much has come: p, or the next piece.
func (b *body) excess(p []byte, wait bool) ([]byte, error) {
	switch {
	case !b.limit.dryRun:
		b.r.Record.Filter = b.limit.Name()
		return nil, b.limit.tooLarge
	case p != nil:
		return p, nil
	}
	return b.src.Next(wait)
}
