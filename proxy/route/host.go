package route

import (
	"bytes"
	"cmp"
	"strings"

	"mpgate/proxy/target"
)

type hostKind uint8

const (
	hostExact hostKind = iota
	hostLabel          // "*.example.org": one label more
	hostTail           // "cloud.*": one label more, or several, at the end
	hostAny
)

// hostPattern is a host of a rule.
type hostPattern struct {
	kind hostKind
	name string // of a wildcard without the star: ".example.org", "cloud."
}

// parseHost returns the pattern, or what is wrong with it.
func parseHost(s string) (p hostPattern, why string) {
	name := s
	if rest, ok := strings.CutPrefix(s, "*."); ok {
		p.kind, name = hostLabel, rest
	} else if rest, ok := strings.CutSuffix(s, ".*"); ok {
		p.kind, name = hostTail, rest
	}
	if strings.Contains(name, "*") {
		return p, `a "*" may only be the first label, as in "*.example.org", or the last, as in "cloud.*"; without host a route is for all of them`
	}
	var scratch []byte
	canonical, port, err := target.Host([]byte(name), &scratch)
	switch {
	case err != nil:
		return p, strings.TrimPrefix(err.Error(), "host: ") + `; a name is right, or "*." and a name; names in other scripts as "xn--…"`
	case port != nil || strings.HasSuffix(name, ":"):
		return p, "a port cannot be matched; name the listener instead"
	case p.kind != hostExact && canonical[0] == '[':
		return p, "an address has no labels that a wildcard could stand for"
	}
	switch p.kind {
	case hostExact:
		p.name = string(canonical)
	case hostLabel:
		p.name = "." + string(canonical)
	case hostTail:
		p.name = string(canonical) + "."
	}
	return p, ""
}

// String is the pattern as it is written, "" for any.
func (p hostPattern) String() string {
	switch p.kind {
	case hostLabel:
		return "*" + p.name
	case hostTail:
		return p.name + "*"
	}
	return p.name
}

// compare puts the more specific pattern first, of wildcards the one with more labels.
func (p hostPattern) compare(q hostPattern) int {
	return cmp.Or(
		cmp.Compare(p.kind, q.kind),
		cmp.Compare(strings.Count(q.name, "."), strings.Count(p.name, ".")),
		cmp.Compare(p.name, q.name),
	)
}

// matches says the same as hosts.each, one pattern at a time.
func (p hostPattern) matches(host []byte) bool {
	switch p.kind {
	case hostExact:
		return string(host) == p.name
	case hostLabel:
		i := bytes.IndexByte(host, '.')
		return i >= 0 && string(host[i:]) == p.name
	case hostTail:
		return bytes.HasPrefix(host, []byte(p.name))
	}
	return true
}
