package proxy

import (
	"io"

	"mpgate/proxy/message"
	"mpgate/proxy/netio"
)

// relay forwards a body. It flushes dst before it waits for src, so that small pieces arrive at
// once. slow, if not nil, is called when a piece is late; moved, if not nil, is marked for each
// piece.
func relay(
	dst message.BodyWriter, src message.BodyReader, slow func(), moved *netio.Progress,
) (n int64, srcErr, dstErr error) {
	splicer, _ := src.(message.Splicer)
	window, _ := dst.(message.Windowed)
	for {
		p, err := src.Next(false)
		if window != nil && (err == nil || err == message.ErrWait) { // an end needs no room
			if err := window.WaitRoom(len(p)); err != nil {
				return n, nil, err
			}
		}
		if err == message.ErrWait && splicer != nil {
			k, ok, srcErr, dstErr := splicer.Splice(dst, true)
			n += k
			if k > 0 {
				moved.Mark()
			}
			switch {
			case !ok:
				splicer = nil
			case dstErr != nil:
				return n, nil, dstErr
			case srcErr == message.ErrSlow:
				if slow != nil {
					slow()
				}
				continue
			case srcErr != nil:
				return n, srcErr, nil
			default:
				continue
			}
		}
		if err == message.ErrWait {
			if err := dst.Flush(); err != nil {
				return n, nil, err
			}
			p, err = src.Next(true)
		}
		switch err {
		case nil:
		case io.EOF:
			return n, nil, nil
		case message.ErrSlow:
			if slow != nil {
				slow()
			}
			continue
		default:
			return n, err, nil
		}
		n += int64(len(p))
		moved.Mark()
		if err := dst.WriteBody(p); err != nil {
			return n, nil, err
		}
	}
}
