package http1

import (
	"bytes"

	"mpgate/proxy/message"
	"mpgate/proxy/target"
)

const maxMethod = 32

// ParseRequest decodes the head at the front of b into r, which must be new or reset, and gives
// its length in bytes. ErrMore: b does not hold a complete head. Other errors are *Error.
func ParseRequest(b []byte, r *message.Request, limits Limits) (n int, err error) {
	end, _, err := requestEnd(b, 0, &limits)
	if err != nil {
		return 0, err
	}
	var sp framingFields
	return end, parseRequest(b[:end], r, &limits, &sp)
}

// requestEnd is headEnd for a request.
func requestEnd(b []byte, from int, limits *Limits) (end, next int, err error) {
	end, next, err = headEnd(b, from, limits)
	if err == errHeaderBytes && bytes.IndexByte(b[:headBytes(limits)], '\n') < 0 {
		err = errLongTarget
	}
	return end, next, err
}

// parseRequest decodes raw, which is a complete head.
func parseRequest(raw []byte, r *message.Request, limits *Limits, sp *framingFields) error {
	base := r.Header.Size()
	head := r.Header.Copy(raw)
	line := firstLine(head)
	if err := requestLine(line, r); err != nil {
		return err
	}
	if err := parseFields(&r.Header, head, base, len(line)+2, limits, sp); err != nil {
		return err
	}
	var err error
	if r.ContentLength, err = sp.bodyLength(r.Version); err != nil {
		return err
	}
	if err := setTarget(r, sp); err != nil {
		return err
	}
	return setConnection(r, limits, sp)
}

// requestLine reads method, target and version (RFC 9112 section 3).
func requestLine(line []byte, r *message.Request) error {
	first := bytes.IndexByte(line, ' ')
	if first <= 0 {
		return errRequestLine
	}
	last := first + 1 + bytes.IndexByte(line[first+1:], ' ')
	if last <= first+1 {
		return errRequestLine
	}
	r.Method, r.Target = line[:first], line[first+1:last]
	switch v := line[last+1:]; {
	case string(v) == "HTTP/1.1":
		r.Version = message.HTTP11
	case string(v) == "HTTP/1.0":
		r.Version = message.HTTP10
	case len(v) == 8 && string(v[:5]) == "HTTP/" && isDigit(v[5]) && v[6] == '.' && isDigit(v[7]):
		return errOtherVersion
	case bytes.IndexByte(v, ' ') >= 0:
		return errRequestLine
	default:
		return errVersion
	}
	if !allToken(r.Method) {
		return errMethod
	}
	if len(r.Method) > maxMethod {
		return errLongMethod
	}
	if string(r.Method) == "CONNECT" {
		return errConnect
	}
	return nil
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// setTarget finds the one host and path that are both matched and forwarded.
func setTarget(r *message.Request, sp *framingFields) error {
	switch {
	case sp.hosts > 1:
		return errHostTwice
	case sp.hosts == 0 && r.Version != message.HTTP10:
		return errHostMissing
	}
	parts, err := target.Split(r.Method, r.Target)
	if err != nil {
		return targetFault(err)
	}
	if sp.hosts == 1 && len(sp.host) > 0 {
		if r.Host, r.Port, err = target.Host(sp.host, &r.Scratch); err != nil {
			return targetFault(err)
		}
	}
	if parts.Authority != nil {
		// The authority of the target counts (RFC 9112 section 3.2.2); another server could use a
		// Host that differs. An empty Host names no host.
		host, port, err := target.Host(parts.Authority, &r.Scratch)
		if err != nil {
			return targetFault(err)
		}
		if r.Host != nil && !target.SameAuthority(parts.Scheme, host, port, r.Host, r.Port) {
			return errHostMismatch
		}
		r.Host, r.Port = host, port
	}
	if parts.Form == target.Asterisk {
		r.Path = parts.Path
		return nil
	}
	return setPath(r, parts.Path, parts.Query)
}

func setPath(r *message.Request, path, query []byte) (err error) {
	var flags target.Flags
	if r.Path, flags, err = target.Path(path, &r.Scratch); err != nil {
		return targetFault(err)
	}
	r.EncodedSlash = flags&target.EncodedSlash != 0
	r.Ambiguous = flags&^target.RepeatedSlash != 0
	if flags&target.RepeatedSlash != 0 {
		r.RawPath = path
	}
	if query == nil {
		return nil
	}
	r.HasQuery = true
	if r.Query, err = target.Query(query, &r.Scratch); err != nil {
		return targetFault(err)
	}
	return nil
}

// setConnection evaluates Connection, Upgrade, TE and Expect, and removes them.
func setConnection(r *message.Request, limits *Limits, sp *framingFields) error {
	h := &r.Header
	upgrade := upgradeOffer(h)
	r.TrailersOK = r.Version == message.HTTP11 && hasOption(h, message.TE, "trailers")
	c, err := takeConnection(h, limits, sp)
	if err != nil {
		return err
	}
	r.Close = c.close || r.Version == message.HTTP10 && !c.keepAlive
	if c.upgrade && r.Version == message.HTTP11 && mayUpgrade(upgrade) {
		r.Upgrade = upgrade
	}
	for i := h.Index(message.Expect, 0); i >= 0; i = h.Index(message.Expect, i+1) {
		if _, _, expect, _ := h.At(i); !message.EqualFold(expect, "100-continue") {
			return errExpect
		}
		// Without a body there is nothing to wait for.
		r.Expect = r.Version == message.HTTP11 && r.ContentLength != 0
	}
	h.Del(message.Expect)
	return nil
}

// mayUpgrade allows protocols other than HTTP itself: HTTP/2 does not begin by Upgrade (RFC 9113
// section 3.1).
func mayUpgrade(upgrade []byte) bool {
	for _, http := range [...]string{"http", "h2", "tls"} {
		if len(upgrade) >= len(http) && message.EqualFold(upgrade[:len(http)], http) {
			return false
		}
	}
	return len(upgrade) > 0
}

// hasOption says whether one of the fields with this ID, which hold lists, has the element want.
func hasOption(h *message.Header, id message.ID, want string) bool {
	for i := h.Index(id, 0); i >= 0; i = h.Index(id, i+1) {
		_, _, list, _ := h.At(i)
		for len(list) > 0 {
			var option []byte
			if option, list = nextOption(list); message.EqualFold(option, want) {
				return true
			}
		}
	}
	return false
}
