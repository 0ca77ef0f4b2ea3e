package backend

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"

	"mpgate/proxy/message"
)

// StickyOptions keep each client on the server that answered it first, by a cookie. A cookie that
// names a server which cannot be used, or none, leads to the choice of the balancer, and the
// response brings a new cookie.
type StickyOptions struct {
	Cookie string // the name; "": no cookie
	Key    []byte // signs the values
}

// sticky is the cookies of a backend. The value of a cookie depends on the key and on the address
// of the server only. So it is valid after a reload or a restart, in all gateways with the same
// key, and for as long as the server has its address, whichever servers are added or removed. It
// does not show the address, and nobody without the key can make a valid one, so clients cannot
// choose servers.
type sticky struct {
	name    string
	servers map[string]*Server // by value
}

const (
	// tokenLength is the length of a value: 16 bytes in base64.
	tokenLength = 22
	// maxCookies bounds the cookies of that name in a request that are looked at.
	maxCookies = 4
)

// setCookies are the Set-Cookie fields that name a server.
type setCookies struct {
	token         string // the value of the cookie
	plain, secure []byte
}

func newSticky(o StickyOptions, servers []*Server) *sticky {
	if o.Cookie == "" {
		return nil
	}
	c := &sticky{o.Cookie, make(map[string]*Server, len(servers))}
	for _, s := range servers {
		if s.cookies.token != "" { // from an earlier list; requests read it
			c.servers[s.cookies.token] = s
			continue
		}
		mac := hmac.New(sha256.New, o.Key)
		_, _ = mac.Write([]byte("mpgate sticky cookie\x00" + s.Address)) // never fails
		s.cookies.token = base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16])
		field := o.Cookie + "=" + s.cookies.token + "; Path=/; HttpOnly; SameSite=Lax"
		s.cookies.plain, s.cookies.secure = []byte(field), []byte(field+"; Secure")
		c.servers[s.cookies.token] = s
	}
	return c
}

// find returns the server that a cookie of the request names, or nil.
func (c *sticky) find(h *message.Header) *Server {
	n := 0
	for value := range h.Cookies(c.name) {
		if len(value) == tokenLength {
			if s := c.servers[string(value)]; s != nil {
				return s
			}
		}
		if n++; n == maxCookies {
			break
		}
	}
	return nil
}

// FindCookie makes the attempt prefer the server that a cookie of the request names, if the backend
// uses cookies.
func (a *Attempt) FindCookie(h *message.Header) {
	if c := a.backend.members.Load().sticky; c != nil {
		a.sticky = c.find(h)
	}
}

// NeedsCookie reports whether the response must have a cookie: that of SetCookie.
func (a *Attempt) NeedsCookie() bool {
	return a.backend.options.Sticky.Cookie != "" && a.server != nil && a.server != a.sticky
}

// SetCookie returns the value of the field Set-Cookie that the response must have. secure: the
// client uses TLS. The caller must not change the value.
func (a *Attempt) SetCookie(secure bool) []byte {
	if secure {
		return a.server.cookies.secure
	}
	return a.server.cookies.plain
}
