package target

import (
	"errors"
	"fmt"
	"net"
	"strings"
)

// URL is a canonical URL of http or https that the gateway itself asks for. The host is empty if it
// is that of the server which is asked.
type URL struct {
	Scheme           string // http or https
	Host, Port, Path string
	Query            string
	HasQuery         bool
}

// ParseURL parses an absolute URL of http or https.
func ParseURL(s string) (u URL, err error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if u.Scheme = strings.ToLower(scheme); !ok || u.Scheme != "http" && u.Scheme != "https" {
		return u, fmt.Errorf("invalid URL %q; want http://HOST/PATH or https://HOST/PATH", s)
	}
	if strings.ContainsAny(rest, "#@") {
		return u, errors.New("a URL with a user, a password or a fragment cannot be used here")
	}
	authority, path := rest, "/"
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	var scratch []byte
	host, port, err := Host([]byte(authority), &scratch)
	if err != nil || len(host) == 0 {
		return u, fmt.Errorf("invalid host %q in a URL", authority)
	}
	u.Host, u.Port = string(host), string(port)
	if path[0] == '?' {
		path = "/" + path
	}
	return u, u.setPath(path)
}

// ParsePath parses the path and the query of a request to a server.
func ParsePath(s string) (u URL, err error) {
	if !strings.HasPrefix(s, "/") {
		return u, fmt.Errorf("invalid path %q; want one that begins with /", s)
	}
	u.Scheme = "http"
	return u, u.setPath(s)
}

func (u *URL) setPath(s string) error {
	raw, query, has := strings.Cut(s, "?")
	var scratch []byte
	path, _, err := Path([]byte(raw), &scratch)
	if err != nil {
		return fmt.Errorf("invalid path %q: %w", raw, err)
	}
	u.Path = string(path)
	q, err := Query([]byte(query), &scratch)
	if err != nil {
		return fmt.Errorf("invalid query %q: %w", query, err)
	}
	u.Query, u.HasQuery = string(q), has
	return nil
}

// Address is that of the server, as host:port.
func (u *URL) Address() string {
	port := u.Port
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(strings.Trim(u.Host, "[]"), port)
}

// Origin is the scheme and the authority.
func (u *URL) Origin() string {
	s := u.Scheme + "://" + u.Host
	if u.Port != "" {
		s += ":" + u.Port
	}
	return s
}

// String is the URL as text; without a host it is a path.
func (u *URL) String() string {
	s := u.Path
	if u.HasQuery {
		s += "?" + u.Query
	}
	if u.Host != "" {
		s = u.Origin() + s
	}
	return s
}
