package filter

import (
	"errors"
	"strings"

	"mpgate/proxy/template"
)

// Location is where a redirect leads: a URL, or a path on the same host. A client cannot choose the
// host: only {host} and {port} may stand in that part.
type Location struct {
	to        template.Template
	needsHost bool
}

// NewLocation parses a location. The error has the form "what is wrong; what would be right".
func NewLocation(to string) (l Location, err error) {
	if l.to, err = template.Parse(to); err == nil {
		err = checkLocation(&l.to)
		l.needsHost = l.to.Uses(template.Host)
	}
	return l, err
}

// String is the location as it was written.
func (l *Location) String() string { return l.to.String() }

// Template is the location with its variables.
func (l *Location) Template() *template.Template { return &l.to }

// NeedsHost reports whether the location has the host of the request, so that it is none for a
// request without one (HTTP/1.0).
func (l *Location) NeedsHost() bool { return l.needsHost }

// AppendLocation appends the location for a request.
func (r *Request) AppendLocation(dst []byte, l *Location) []byte {
	from := len(dst)
	dst = r.AppendURL(dst, &l.to)
	if strings.HasPrefix(l.to.String(), "//") {
		return dst
	}
	return leadingSlash(dst, from)
}

// leadingSlash makes one slash of what browsers read as several at the beginning of b[from:]:
// behind two of them they look for a host.
func leadingSlash(b []byte, from int) []byte {
	n := from
	for n < len(b) && (b[n] == '/' || b[n] == '\\') {
		n++
	}
	if n > from+1 {
		b = append(append(b[:from], '/'), b[n:]...)
	}
	return b
}

// checkLocation reports a target whose host a client could choose, or which is neither a URL nor a
// path.
func checkLocation(t *template.Template) error {
	parts := t.Parts()
	var text string // the literal at the beginning
	if len(parts) > 0 && parts[0].Kind == template.Literal {
		text, parts = parts[0].Text, parts[1:]
	} else if len(parts) > 0 && parts[0].Kind == template.Scheme {
		// As a scheme and what follows it: {scheme}://…
		if parts = parts[1:]; len(parts) > 0 && parts[0].Kind == template.Literal {
			text, parts = "http"+parts[0].Text, parts[1:]
		}
	}
	switch lower := strings.ToLower(text); {
	case text == "" && len(parts) > 0 && isPath(parts[0].Kind):
		return nil
	case strings.HasPrefix(lower, "http://"), strings.HasPrefix(lower, "https://"):
		_, text, _ = strings.Cut(text, "://")
	case strings.HasPrefix(text, "//"):
		text = text[2:]
	case strings.HasPrefix(text, "/") && !strings.HasPrefix(text, `/\`):
		return nil
	default:
		return errors.New(`is neither a URL nor a path; must begin with "https://", "http://", "{scheme}://", "/", {path} or {uri}`)
	}
	return checkAuthority(t, text, parts)
}

// checkAuthority looks at an authority, which begins with text and goes on in parts.
func checkAuthority(t *template.Template, text string, parts []template.Part) error {
	empty := true
	for {
		if strings.ContainsAny(text, "@\\") && !strings.ContainsAny(text[:strings.IndexAny(text, "@\\")], "/?#") {
			return errors.New(`has a "@" or a "\" in its host; must be for example "https://example.org{uri}"`)
		}
		end := strings.IndexAny(text, "/?#")
		empty = empty && (text == "" || end == 0)
		if end >= 0 || len(parts) == 0 {
			break
		}
		if p := parts[0]; p.Kind == template.Host || p.Kind == template.Port {
			empty = false
		} else if isPath(p.Kind) {
			break // begins with a slash
		} else if p.Kind != template.Literal {
			return errors.New("lets a client choose the host; only {host} and {port} may stand before the path")
		}
		text, parts = parts[0].Text, parts[1:]
	}
	if empty {
		return errors.New(`has no host; must be for example "https://example.org{uri}"`)
	}
	return nil
}

func isPath(k template.Kind) bool { return k == template.Path || k == template.URI }
