package target

import "bytes"

// Form is one of the four forms of a request target (RFC 9112 3.2).
type Form uint8

const (
	Origin    Form = iota // /path?query
	Absolute              // http://host/path?query
	Authority             // host:port, of CONNECT
	Asterisk              // *, of OPTIONS: the server as a whole
)

func (f Form) String() string {
	return [...]string{"origin", "absolute", "authority", "asterisk"}[f]
}

// Parts are the parts of a request target. They are as received, and point into it: Host, Path and
// Query check them.
type Parts struct {
	Form   Form
	Scheme string // "http" or "https" in the absolute form, else ""
	// Authority is set in the absolute and the authority form. It has precedence over Host (RFC
	// 9112 3.2.2).
	Authority []byte
	Path      []byte // "/" where a URL has none, "*" in the asterisk form
	Query     []byte // without its "?"; nil where there is no "?", empty where nothing follows it
}

var (
	root     = []byte("/")
	asterisk = []byte("*")
)

// Split takes a request target apart. The method matters: CONNECT has the authority form and no
// other one, "*" is for OPTIONS. An OPTIONS for a URL without path and query is for the server as a
// whole too, and has the asterisk form with the URL's authority (RFC 9112 3.2.4).
func Split(method, target []byte) (Parts, error) {
	switch {
	case len(target) == 0:
		return Parts{}, ErrTargetEmpty
	case string(method) == "CONNECT":
		return splitConnect(target)
	case target[0] == '/':
		path, query := cutQuery(target)
		return Parts{Form: Origin, Path: path, Query: query}, nil
	case string(target) == "*":
		if string(method) != "OPTIONS" {
			return Parts{}, ErrTargetAsterisk
		}
		return Parts{Form: Asterisk, Path: asterisk}, nil
	}
	return splitAbsolute(method, target)
}

func splitConnect(target []byte) (Parts, error) {
	colon := bytes.LastIndexByte(target, ':')
	if colon <= 0 || colon == len(target)-1 || bytes.ContainsAny(target, "/?#@") {
		return Parts{}, ErrTargetConnect
	}
	for _, c := range target[colon+1:] {
		if c < '0' || c > '9' {
			return Parts{}, ErrTargetConnect
		}
	}
	return Parts{Form: Authority, Authority: target}, nil
}

func splitAbsolute(method, target []byte) (Parts, error) {
	p := Parts{Form: Absolute}
	switch {
	case hasPrefixFold(target, "http://"):
		p.Scheme = "http"
	case hasPrefixFold(target, "https://"):
		p.Scheme = "https"
	default:
		return Parts{}, ErrTargetForm
	}
	rest := target[len(p.Scheme)+len("://"):]
	end := 0
	for end < len(rest) && rest[end] != '/' && rest[end] != '?' {
		if rest[end] == '@' || rest[end] == '#' {
			return Parts{}, ErrTargetAuthority
		}
		end++
	}
	if end == 0 {
		return Parts{}, ErrTargetAuthority
	}
	p.Authority = rest[:end:end]
	p.Path, p.Query = cutQuery(rest[end:])
	if len(p.Path) == 0 {
		p.Path = root
		if p.Query == nil && string(method) == "OPTIONS" {
			p.Form, p.Path = Asterisk, asterisk
		}
	}
	return p, nil
}

// cutQuery splits at the first "?". A "#" is left to Path and Query, which refuse it.
func cutQuery(b []byte) (path, query []byte) {
	if i := bytes.IndexByte(b, '?'); i >= 0 {
		return b[:i:i], b[i+1:]
	}
	return b, nil
}

func hasPrefixFold(b []byte, lower string) bool {
	if len(b) < len(lower) {
		return false
	}
	for i := range len(lower) {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
