package filter

import (
	"bytes"

	"mpgate/proxy/message"
)

// Cookies gives the cookies of responses attributes that browsers heed (RFC 6265 section 4.1.2).
type Cookies struct {
	options CookiesOptions
}

// CookiesOptions are the attributes.
type CookiesOptions struct {
	Secure, HTTPOnly bool
	SameSite         string // Lax, Strict or None, which replaces another value; "": as it is
}

// NewCookies makes the filter.
func NewCookies(o CookiesOptions) *Cookies { return &Cookies{o} }

// Name implements Filter.
func (*Cookies) Name() string { return "cookies" }

// FilterResponse implements ResponseFilter. The gateway's own cookie already has its attributes.
func (f *Cookies) FilterResponse(r *Request, resp *message.Response) {
	h := &resp.Header
	for i, n := 0, h.Len(); i < n; i++ { // what is added stands behind
		id, name, value, ok := h.At(i)
		if !ok || id != message.SetCookie || r.OwnCookie != nil && bytes.Equal(value, r.OwnCookie) {
			continue
		}
		r.scratch = f.appendTo(r.scratch[:0], value)
		if len(r.scratch) != len(value) || !bytes.Equal(r.scratch, value) {
			h.DelAt(i)
			h.AddName(name, r.scratch)
		}
	}
}

// appendTo appends the value of a Set-Cookie field with the attributes.
func (f *Cookies) appendTo(dst, value []byte) []byte {
	secure, httpOnly := f.options.Secure, f.options.HTTPOnly
	for first, more := true, true; more; first = false {
		var part []byte
		part, value, more = bytes.Cut(value, semicolon)
		name, _, _ := bytes.Cut(part, equals)
		name = bytes.Trim(name, " \t")
		switch {
		case first:
			dst = append(dst, part...)
			continue
		case message.EqualFold(name, "Secure"):
			secure = false
		case message.EqualFold(name, "HttpOnly"):
			httpOnly = false
		case f.options.SameSite != "" && message.EqualFold(name, "SameSite"):
			continue
		}
		dst = append(append(dst, ';'), part...)
	}
	if secure {
		dst = append(dst, "; Secure"...)
	}
	if httpOnly {
		dst = append(dst, "; HttpOnly"...)
	}
	if f.options.SameSite != "" {
		dst = append(append(dst, "; SameSite="...), f.options.SameSite...)
	}
	return dst
}

var semicolon, equals = []byte(";"), []byte("=")
