package route

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"mpgate/proxy/message"
)

// dice makes rules and requests over small alphabets of a source of numbers.
type dice func(n int) int

func (d dice) of(words ...string) string { return words[d(len(words))] }

func (d dice) path(request bool) string {
	var s string
	for range 1 + d(4) {
		word := d.of("a", "b", "ab", "abc", "x.js", ".b")
		if !request {
			word = d.of("a", "b", "ab", "abc", "a*", "*b", "*.js", "a*c", "*", "*", "**", "**", ".*")
		}
		s += "/" + word
	}
	if d(5) == 0 {
		s += "/"
	}
	return s
}

func (d dice) host(request bool) string {
	if request {
		return d.of("", "a", "a.b", "c.b", "a.a.b", "b.a.b", "a.c", "a.b.c")
	}
	return d.of("a", "a.b", "c.b", "*.b", "*.a.b", "a.*", "a.b.*", "b.a.b")
}

func (d dice) pattern() string {
	switch d(6) {
	case 0:
		return d.of("*.js", "*b", "*.x", "*a*")
	case 1, 2:
		return strings.TrimSuffix(d.path(false), "/") + "/*"
	}
	return d.path(false)
}

func (d dice) rule(i int) rule {
	r := rule{Name: fmt.Sprint("r", i), Value: fmt.Sprint("r", i)}
	m := &r.Match
	for range d(3) {
		if h := d.host(false); !slices.Contains(m.Hosts, h) {
			m.Hosts = append(m.Hosts, h)
		}
	}
	switch d(8) {
	case 0:
	case 1:
		m.PathRegex = d.of("^/a", "b$", "/ab?/", `\.js$`, "^/(a|b)/", "^/ab", "a.*b")
	default:
		for range 1 + d(2) {
			p := d.pattern()
			full, why := parsePath(p)
			same := func(other string) bool { o, _ := parsePath(other); return o.full == full.full }
			if why == "" && !slices.ContainsFunc(m.Paths, same) {
				m.Paths = append(m.Paths, p)
			}
		}
	}
	m.Listener = d.of("", "", "", "web", "tls")
	if d(3) == 0 {
		m.Methods = []string{d.of("GET", "PUT")}
	}
	if d(4) == 0 {
		m.Header = map[string]string{d.of("A", "B"): d.of("1", "2", "*", "")}
	}
	if d(6) == 0 {
		m.Clients = []netip.Prefix{netip.MustParsePrefix(d.of("10.0.0.0/8", "10.1.0.0/16", "::/0"))}
	}
	return r
}

func (d dice) request() *Request {
	m := &message.Request{Method: []byte(d.of("GET", "PUT")), Host: []byte(d.host(true)), Path: []byte(d.path(true))}
	if d(30) == 0 {
		m.Path = []byte("*")
	}
	for range d(3) {
		m.Header.AddName([]byte(d.of("A", "b")), []byte(d.of("1", "2")))
	}
	return &Request{Request: m, Listener: d.of("web", "tls"), Client: netip.MustParseAddr(d.of("10.1.0.1", "10.2.0.1", "::1"))}
}
