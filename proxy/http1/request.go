package http1

import (
	"bytes"

	"mpgate/proxy/message"
	"mpgate/proxy/target"
)

const maxMethod = 32

// ParseRequest decodes the head at the front of b into r, which must be fresh or reset, and gives its
// length in bytes. ErrMore: b holds no whole head yet. Other errors are *Error.
func ParseRequest(b []byte, r *message.Request, limits Limits) (n int, err error) {
	end, _, err := headEnd(b, 0)
	if err != nil {
		return 0, err
	}
	if end == 0 {
		return 0, tooLong(b, limits)
	}
	return end, parseRequest(b[:end], r, limits)
}

// tooLong says whether more bytes may still make a head of b.
func tooLong(b []byte, limits Limits) error {
	if len(b) < limits.HeaderBytes {
		return ErrMore
	}
	if bytes.IndexByte(b, '\n') < 0 {
		return errLongTarget
	}
	return errHeaderBytes
}

func parseRequest(raw []byte, r *message.Request, limits Limits) error {
	if len(raw) > limits.HeaderBytes {
		if i := bytes.IndexByte(raw, '\n'); i >= limits.HeaderBytes {
			return errLongTarget
		}
		return errHeaderBytes
	}
	base := r.Header.Size()
	head := r.Header.Grab(raw)
	line, _ := nextLine(head)
	rawTarget, err := requestLine(line, r)
	if err != nil {
		return err
	}
	var sp special
	if err := parseFields(&r.Header, head, base, len(line)+2, limits, &sp); err != nil {
		return err
	}
	if r.ContentLength, err = sp.framing(r.Version); err != nil {
		return err
	}
	if err := setTarget(r, rawTarget, &sp); err != nil {
		return err
	}
	return setConnection(r, &sp)
}

// requestLine reads method, target and version (RFC 9112 section 3).
func requestLine(line []byte, r *message.Request) (rawTarget []byte, err error) {
	first := bytes.IndexByte(line, ' ')
	if first <= 0 {
		return nil, errRequestLine
	}
	last := first + 1 + bytes.IndexByte(line[first+1:], ' ')
	if last <= first+1 {
		return nil, errRequestLine
	}
	r.Method, r.Target = line[:first], line[first+1:last]
	switch v := line[last+1:]; {
	case string(v) == "HTTP/1.1":
		r.Version = message.HTTP11
	case string(v) == "HTTP/1.0":
		r.Version = message.HTTP10
	case len(v) == 8 && string(v[:5]) == "HTTP/" && isDigit(v[5]) && v[6] == '.' && isDigit(v[7]):
		return nil, errOtherVersion
	case bytes.IndexByte(v, ' ') >= 0:
		return nil, errRequestLine
	default:
		return nil, errVersion
	}
	if !allToken(r.Method) {
		return nil, errMethod
	}
	if len(r.Method) > maxMethod {
		return nil, errLongMethod
	}
	if string(r.Method) == "CONNECT" {
		return nil, errConnect
	}
	return r.Target, nil
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// setTarget finds the one host and path that count, for matching and for forwarding alike.
func setTarget(r *message.Request, raw []byte, sp *special) error {
	switch {
	case sp.hosts > 1:
		return errHostTwice
	case sp.hosts == 0 && r.Version != message.HTTP10:
		return errHostMissing
	}
	parts, err := target.Split(r.Method, raw)
	if err != nil {
		return errTarget
	}
	if sp.hosts == 1 && len(sp.host) > 0 {
		if r.Host, r.Port, err = target.Host(sp.host, &r.Scratch); err != nil {
			return errHost
		}
	}
	if parts.Authority != nil {
		// The authority of the target counts (RFC 9112 section 3.2.2); a Host that says otherwise would be
		// believed by somebody else.
		host, port, err := target.Host(parts.Authority, &r.Scratch)
		if err != nil {
			return errTarget
		}
		if sp.hosts == 1 && !(bytes.Equal(host, r.Host) && bytes.Equal(port, r.Port)) {
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
		return errTarget
	}
	r.EncodedSlash = flags&target.EncodedSlash != 0
	if query == nil {
		return nil
	}
	r.HasQuery = true
	if r.Query, err = target.Query(query, &r.Scratch); err != nil {
		return errTarget
	}
	return nil
}

// setConnection judges Connection, Upgrade, TE and Expect, and takes them off.
func setConnection(r *message.Request, sp *special) error {
	h := &r.Header
	upgrade, te := h.Get(message.Upgrade), h.Get(message.TE)
	c := takeConnection(h, sp)
	h.Del(message.Upgrade)
	h.Del(message.TE)
	r.Close = c.close || r.Version == message.HTTP10 && !c.keepAlive
	r.TrailersOK = hasOption(te, "trailers") && r.Version == message.HTTP11
	if c.upgrade && r.Version == message.HTTP11 && r.ContentLength == 0 && mayUpgrade(upgrade) {
		r.Upgrade = upgrade
	}
	if expect := h.Get(message.Expect); expect != nil {
		if !message.EqualFold(expect, "100-continue") {
			return errExpect
		}
		r.Expect = r.Version == message.HTTP11 && r.ContentLength != 0 // without a body there is nothing to wait for
		h.Del(message.Expect)
	}
	return nil
}

// mayUpgrade lets one protocol through that is not HTTP itself: h2c and HTTP/2.0 are never spoken by
// Upgrade (RFC 9113 section 3.1), and lists are not offered on.
func mayUpgrade(upgrade []byte) bool {
	if len(upgrade) < 3 || message.EqualFold(upgrade, "h2c") {
		return false
	}
	if message.EqualFold(upgrade[:min(4, len(upgrade))], "http") || message.EqualFold(upgrade[:3], "tls") {
		return false
	}
	for _, c := range upgrade {
		if !isToken[c] && c != '/' {
			return false
		}
	}
	return true
}

func hasOption(list []byte, want string) bool {
	for len(list) > 0 {
		var option []byte
		option, list = nextOption(list)
		if message.EqualFold(option, want) {
			return true
		}
	}
	return false
}
