package filter

import (
	"bytes"

	"mpgate/proxy/message"
	"mpgate/proxy/target"
)

// prefixes are what the path of a request began with before and after it was rewritten. Where a
// server's path begins with its one, the client's path begins with the other.
type prefixes struct{ client, server []byte }

// appendPath appends a path of a server as the client has to ask for it. ok is false if the path is
// not below the server's prefix.
func (p *prefixes) appendPath(dst, path []byte) (_ []byte, ok bool) {
	rest, below := bytes.CutPrefix(path, p.server)
	if below {
		dst = append(dst, p.client...)
		if endsInSlash(p.server) && !endsInSlash(p.client) { // "/api" came for "/api/*"
			dst = append(dst, '/')
		}
		return append(dst, rest...), true
	}
	if endsInSlash(p.server) && len(path) > 0 && string(path) == string(p.server[:len(p.server)-1]) {
		return append(dst, withoutSlash(p.client)...), true
	}
	return dst, false
}

func endsInSlash(b []byte) bool { return len(b) > 0 && b[len(b)-1] == '/' }

// withoutSlash is a path without a slash at its end, "/" for the root.
func withoutSlash(path []byte) []byte {
	if len(path) > 1 && endsInSlash(path) {
		return path[:len(path)-1]
	}
	return path
}

// appendLocation appends a Location of a server as the client has to follow it. Only what leads to
// the host of the request, or to the server itself, is changed: a path below the server's prefix;
// and the authority of the server is removed, which the client may not reach.
func (r *Request) appendLocation(dst, location []byte) (_ []byte, changed bool) {
	scheme, authority, rest := splitAuthority(location)
	switch {
	case authority == nil:
	case r.isClients(scheme, authority):
		dst = append(dst, location[:len(location)-len(rest)]...)
	case r.isServers(scheme, authority):
		changed = true
	default:
		return dst, false
	}
	end := len(rest)
	if i := bytes.IndexAny(rest, "?#"); i >= 0 {
		end = i
	}
	path := rest[:end]
	if len(path) == 0 && changed {
		path = []byte("/")
	}
	if len(path) == 0 || path[0] != '/' || hasDots(path) {
		return append(dst, rest...), false
	}
	from := len(dst)
	dst, mapped := r.replaced.appendPath(dst, path)
	if !mapped {
		dst = append(dst, path...)
	}
	if authority == nil || changed { // "//x" would name a host
		dst = leadingSlash(dst, from)
	}
	return append(dst, rest[end:]...), changed || mapped
}

// splitAuthority cuts a reference behind its authority. Without one, authority is nil; scheme is ""
// for a reference that begins with "//".
func splitAuthority(reference []byte) (scheme string, authority, rest []byte) {
	rest = reference
	switch {
	case hasPrefixFold(reference, "http://"):
		scheme, rest = "http", reference[len("http://"):]
	case hasPrefixFold(reference, "https://"):
		scheme, rest = "https", reference[len("https://"):]
	case bytes.HasPrefix(reference, []byte("//")):
		rest = reference[2:]
	default:
		return "", nil, reference
	}
	end := len(rest)
	if i := bytes.IndexAny(rest, "/?#\\"); i >= 0 {
		end = i
	}
	return scheme, rest[:end:end], rest[end:]
}

func hasPrefixFold(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && message.EqualFold(b[:len(prefix)], prefix)
}

// isClients reports whether an authority is that of the request as the client sent it.
func (r *Request) isClients(scheme string, authority []byte) bool {
	return r.isSame(scheme, authority, r.Matched.Host, r.Matched.Port)
}

// isServers reports whether an authority is that of the server, or that by which it was asked.
func (r *Request) isServers(scheme string, authority []byte) bool {
	if r.isSame(scheme, authority, r.Host, r.Port) {
		return true
	}
	own, port, err := target.Host([]byte(target.ServerHost(r.Record.ServerName())), &r.Scratch)
	return err == nil && r.isSame(scheme, authority, own, port)
}

func (r *Request) isSame(scheme string, authority, host, port []byte) bool {
	h, p, err := target.Host(authority, &r.Scratch)
	return err == nil && target.SameAuthority(scheme, h, p, host, port)
}

// hasDots reports whether a path has a dot segment, with which it leads elsewhere than its
// beginning says.
func hasDots(path []byte) bool {
	for more := true; more; {
		var segment []byte
		segment, path, more = bytes.Cut(path, []byte("/"))
		if bytes.Contains(segment, []byte("%2e")) || bytes.Contains(segment, []byte("%2E")) {
			return true
		}
		if s := string(segment); s == "." || s == ".." {
			return true
		}
	}
	return false
}

// appendCookie appends the value of a Set-Cookie field with the path that the client has to use.
func (p *prefixes) appendCookie(dst, value []byte) (_ []byte, changed bool) {
	if hasPrefixFold(value, "__Host-") { // browsers want the path "/" for these
		return dst, false
	}
	for first := true; ; first = false {
		part, rest, more := bytes.Cut(value, []byte(";"))
		name, path, _ := bytes.Cut(part, []byte("="))
		mapped := false
		if !first && message.EqualFold(bytes.TrimSpace(name), "Path") {
			dst = append(append(dst, name...), '=')
			dst, mapped = p.appendCookiePath(dst, bytes.TrimSpace(path))
			changed = changed || mapped
		} else {
			dst = append(dst, part...)
		}
		if !more {
			return dst, changed
		}
		dst, value = append(dst, ';'), rest
	}
}

// appendCookiePath appends the path of a cookie. That of the server's root has no slash at its end
// then: "/app" also matches "/app/x", but "/app/" does not match "/app" (RFC 6265 section 5.1.4).
func (p *prefixes) appendCookiePath(dst, path []byte) (_ []byte, mapped bool) {
	if string(path) == string(p.server) && endsInSlash(p.server) {
		return append(dst, withoutSlash(p.client)...), true
	}
	if out, ok := p.appendPath(dst, path); ok {
		return out, true
	}
	return append(dst, path...), false
}
