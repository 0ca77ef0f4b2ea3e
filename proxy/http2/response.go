package http2

import (
	"crypto/sha1"
	"encoding/base64"

	"mpgate/proxy/message"
)

// response fills r from a block that was decoded into r.Header. declared is the length of the body
// that the server announced, Unknown if it did not; r.ContentLength may differ from it.
func (f *fields) response(r *message.Response, ended, isHead bool) (declared int64, err *message.Error) {
	r.Version = message.HTTP20
	switch {
	case f.err != nil:
		return 0, f.err
	case f.seen&pseudoStatus == 0:
		return 0, errPseudoMissing
	case len(f.status) != 3:
		return 0, errStatus
	}
	for _, c := range f.status {
		if c < '0' || c > '9' {
			return 0, errStatus
		}
		r.Status = r.Status*10 + int(c-'0')
	}
	if r.Status < 100 || r.Status > 599 || r.Status == 101 {
		return 0, errStatus
	}
	declared = message.Unknown
	if f.lengths > 0 {
		declared = f.length
	}
	switch {
	case r.Interim():
		if ended {
			return 0, errInterimEnd
		}
		r.NoBody = true
	case r.Status == 204:
		r.NoBody, declared = true, 0
	case isHead || r.Status == 304:
		r.NoBody, r.ContentLength, declared = true, declared, 0
	case ended && declared > 0:
		return 0, errLengthWrong
	case ended:
		r.ContentLength = 0
	case declared == 0: // trailers may follow
		r.ContentLength = message.Unknown
	default:
		r.ContentLength = declared
	}
	return declared, nil
}

// acceptFor is the Sec-WebSocket-Accept that answers key (RFC 6455 section 4.2.2).
func acceptFor(key []byte) (accept [28]byte) {
	h := sha1.New()
	h.Write(key)
	h.Write([]byte("258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	var sum [sha1.Size]byte
	base64.StdEncoding.Encode(accept[:], h.Sum(sum[:0]))
	return accept
}
