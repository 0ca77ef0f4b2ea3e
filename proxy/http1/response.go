package http1

import (
	"mpgate/proxy/message"
)

// ParseResponse decodes the head at the front of b into r, which must be new or reset, and gives
// its length in bytes. isHead: it answers a HEAD. ErrMore: b does not hold a complete head. Other
// errors are *Error; whatever their status says, they mean a 502 to the client.
func ParseResponse(b []byte, r *message.Response, isHead bool, limits Limits) (n int, err error) {
	end, _, err := headEnd(b, 0, &limits)
	if err != nil {
		return 0, err
	}
	var sp framingFields
	return end, parseResponse(b[:end], r, isHead, &limits, &sp)
}

// parseResponse decodes raw, which is a complete head.
func parseResponse(raw []byte, r *message.Response, isHead bool, limits *Limits, sp *framingFields) error {
	base := r.Header.Size()
	head := r.Header.Copy(raw)
	line := firstLine(head)
	if err := statusLine(line, r); err != nil {
		return err
	}
	if err := parseFields(&r.Header, head, base, len(line)+2, limits, sp); err != nil {
		return err
	}
	length, err := sp.bodyLength(r.Version)
	if err != nil {
		return err
	}
	upgrade := upgradeOffer(&r.Header)
	c, err := takeConnection(&r.Header, limits, sp)
	if err != nil {
		return err
	}
	r.Close = c.close || r.Version == message.HTTP10 && !c.keepAlive
	// A 426 names the protocol that the server wants (RFC 9110 section 15.5.22).
	if (r.Status == 101 || r.Status == 426) && c.upgrade {
		r.Upgrade = upgrade
	}
	return setBody(r, length, isHead, sp)
}

// setBody finds out how the body is framed (RFC 9112 section 6.3).
func setBody(r *message.Response, length int64, isHead bool, sp *framingFields) error {
	switch {
	case r.Interim() && length != 0:
		return errInterimBody
	case r.Status < 200 || r.Status == 204:
		// No body, whatever the fields say, which are not forwarded. But a server that announces
		// one may send it.
		r.NoBody = true
		r.Close = r.Close || length != 0
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

// statusLine reads version, code and reason (RFC 9112 section 4). The space before an empty reason
// may be missing, as in the responses of many servers; that is not ambiguous.
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
