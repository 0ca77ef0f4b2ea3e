package proxy

import (
	"fmt"
	"slices"
	"strings"

	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/proxy/template"
	"mpgate/telemetry"
)

// Redirect is the action that sends clients to another URL.
type Redirect struct {
	to     template.Template
	status int
}

// redirectStatuses are the statuses of a redirect.
var redirectStatuses = []int{301, 302, 303, 307, 308}

// NewRedirect makes a Redirect to a URL, or to a path on the same host; status is 301, 302, 303, 307
// or 308. A client cannot choose the host to which it is sent: only {host} and {port} may stand in
// that part of the URL.
func NewRedirect(to string, status int) (*Redirect, error) {
	t, err := template.Parse(to)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(redirectStatuses, status) {
		return nil, fmt.Errorf("the status of a redirect must be 301, 302, 303, 307 or 308 (got %d)", status)
	}
	return &Redirect{to: t, status: status}, checkRedirect(&t)
}

// checkRedirect reports a target whose host a client could choose, or which is neither a URL nor a
// path.
func checkRedirect(t *template.Template) error {
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
		return fmt.Errorf(`must begin with "https://", "http://", "{scheme}://" or "/", or be {path} or {uri} (got %q)`, t.String())
	}
	return checkAuthority(t, text, parts)
}

// checkAuthority looks at an authority, which begins with text and goes on in parts.
func checkAuthority(t *template.Template, text string, parts []template.Part) error {
	empty := true
	for {
		if strings.ContainsAny(text, "@\\") && !strings.ContainsAny(text[:strings.IndexAny(text, "@\\")], "/?#") {
			return fmt.Errorf(`the host must not contain "@" or "\" (got %q)`, t.String())
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
			return fmt.Errorf("a client could choose the host: only {host} and {port} may stand before the path (got %q)", t.String())
		}
		text, parts = parts[0].Text, parts[1:]
	}
	if empty {
		return fmt.Errorf("lacks a host (got %q)", t.String())
	}
	return nil
}

func isPath(k template.Kind) bool { return k == template.Path || k == template.URI }

func (f *Redirect) serve(x *exchange) {
	r := &x.filter
	if string(r.Matched.Path) == "*" { // OPTIONS * asks about the server, which has no path
		r.Matched.Path = []byte("/")
	}
	location := oneSlash(r.AppendURL(x.scratch[:0], &f.to), f.to.String())
	x.scratch = location
	x.filter.Fields.Add(message.Location, location)
	x.answer(filter.Answer{Status: f.status, End: telemetry.EndOK, Text: "see Location", Store: true})
}

// oneSlash makes one slash of what browsers read as several at the beginning of a location, unless
// the configuration says so: behind two of them they would look for a host.
func oneSlash(location []byte, written string) []byte {
	if strings.HasPrefix(written, "//") {
		return location
	}
	n := 0
	for n < len(location) && (location[n] == '/' || location[n] == '\\') {
		n++
	}
	if n < 2 {
		return location
	}
	location[n-1] = '/'
	return location[n-1:]
}
