package auth

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"mpgate/proxy/message"
	"mpgate/proxy/target"
)

// Target is what is asked of an authentication server, or of a server of keys. The host is empty if
// it is the server's own.
type Target struct {
	Scheme           string // http or https
	Host, Port, Path string
	Query            string
	HasQuery         bool
}

// ParseURL parses an absolute URL of http or https.
func ParseURL(s string) (t Target, err error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if t.Scheme = strings.ToLower(scheme); !ok || t.Scheme != "http" && t.Scheme != "https" {
		return t, fmt.Errorf("invalid URL %q; want http://HOST/PATH or https://HOST/PATH", s)
	}
	if strings.ContainsAny(rest, "#@") {
		return t, errors.New("a URL with a user, a password or a fragment cannot be used here")
	}
	authority, path := rest, "/"
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	var scratch []byte
	host, port, err := target.Host([]byte(authority), &scratch)
	if err != nil || len(host) == 0 {
		return t, fmt.Errorf("invalid host %q in a URL", authority)
	}
	t.Host, t.Port = string(host), string(port)
	if path[0] == '?' {
		path = "/" + path
	}
	return t, t.setPath(path)
}

// ParsePath parses the path and the query of a request to a server.
func ParsePath(s string) (t Target, err error) {
	if !strings.HasPrefix(s, "/") {
		return t, fmt.Errorf("invalid path %q; want one that begins with /", s)
	}
	t.Scheme = "http"
	return t, t.setPath(s)
}

func (t *Target) setPath(s string) error {
	raw, query, has := strings.Cut(s, "?")
	var scratch []byte
	path, _, err := target.Path([]byte(raw), &scratch)
	if err != nil {
		return fmt.Errorf("invalid path %q: %w", raw, err)
	}
	t.Path = string(path)
	q, err := target.Query([]byte(query), &scratch)
	if err != nil {
		return fmt.Errorf("invalid query %q: %w", query, err)
	}
	t.Query, t.HasQuery = string(q), has
	return nil
}

// Address is that of the server, as host:port.
func (t *Target) Address() string {
	port := t.Port
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[t.Scheme]
	}
	return net.JoinHostPort(strings.Trim(t.Host, "[]"), port)
}

// Origin is the scheme and the authority, as in a URL.
func (t *Target) Origin() string {
	s := t.Scheme + "://" + t.Host
	if t.Port != "" {
		s += ":" + t.Port
	}
	return s
}

// fill makes a GET of it.
func (t *Target) fill(r *message.Request) {
	r.Version, r.Method, r.Scheme = message.HTTP11, []byte("GET"), t.Scheme
	r.Host, r.Port = []byte(t.Host), []byte(t.Port)
	r.Path, r.Query, r.HasQuery = []byte(t.Path), []byte(t.Query), t.HasQuery
}
