package http1

import (
	"mpgate/proxy/message"
)

// ParseResponse decodes the head at the front of b into r, which must be fresh or reset, and gives its
// length in bytes. isHead: it answers a HEAD. ErrMore: b holds no whole head yet. Other errors are
// *Error; whatever their status says, they mean a 502 to the client.
func ParseResponse(b []byte, r *message.Response, isHead bool, limits Limits) (n int, err error) {
	end, _, err := headEnd(b, 0)
	if err != nil {
		return 0, err
	}
	if end == 0 {
		return 0, tooLong(b, limits)
	}
	return end, parseResponse(b[:end], r, isHead, limits)
}

func parseResponse(raw []byte, r *message.Response, isHead bool, limits Limits) error {
	if len(raw) > limits.HeaderBytes {
		return errHeaderBytes
	}
	base := r.Header.Size()
	head := r.Header.Grab(raw)
	line, _ := nextLine(head)
	if err := statusLine(line, r); err != nil {
		return err
	}
	var sp special
	if err := parseFields(&r.Header, head, base, len(line)+2, limits, &sp); err != nil {
		return err
	}
	length, err := sp.framing(r.Version)
	if err != nil {
		return err
	}
	h := &r.Header
	upgrade := h.Get(message.Upgrade)
	c := takeConnection(h, &sp)
	h.Del(message.Upgrade)
	h.Del(message.TE)
	r.Close = c.close || r.Version == message.HTTP10 && !c.keepAlive
	switch {
	case r.Status == 101:
		r.NoBody = true
		if c.upgrade {
			r.Upgrade = upgrade
		}
	case r.Status < 200 || r.Status == 204:
		r.NoBody = true // framing fields have no meaning here (RFC 9112 section 6.3), and are not sent on
	case isHead || r.Status == 304:
		r.NoBody = true
		r.ContentLength = length
		if sp.lengths == 0 {
			r.ContentLength = message.Unknown
		}
	case sp.codings == 0 && sp.lengths == 0: // until the connection closes
		r.ContentLength = message.Unknown
		r.Close = true
		r.UntilClose = true
	default:
		r.ContentLength = length
	}
	return nil
}

// statusLine reads version, code and reason (RFC 9112 section 4). The space before an empty reason may be
// missing, as it is from many servers; nothing can be misread by that.
func statusLine(line []byte, r *message.Response) error {
	if len(line) < 12 || string(line[:7]) != "HTTP/1." || line[8] != ' ' {
		return errStatusLine
	}
	switch line[7] {
	case '1':
		r.Version = message.HTTP11
	case '0':
		r.Version = message.HTTP10
	default:
		return errStatusLine
	}
	for _, c := range line[9:12] {
		if !isDigit(c) {
			return errStatusLine
		}
		r.Status = r.Status*10 + int(c-'0')
	}
	if len(line) > 12 {
		if line[12] != ' ' {
			return errStatusLine
		}
		r.Reason = line[13:]
		for _, c := range r.Reason {
			if !isText[c] {
				return errStatusLine
			}
		}
	}
	if r.Status < 100 || r.Status > 599 {
		return errStatus
	}
	return nil
}
