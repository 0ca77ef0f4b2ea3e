package certs

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// maxName is the longest DNS name in text (RFC 1035 section 2.3.4), with a
// port and brackets to spare. A longer one cannot be configured.
const maxName = 264

// canonicalName checks a name from the configuration and brings it into the
// form it has in a ClientHello: A-labels, lower case, no trailing dot. A
// leading "*." stands for one label.
func canonicalName(name string) (string, error) {
	rest, wild := strings.CutPrefix(name, "*.")
	rest = strings.TrimSuffix(rest, ".")
	if _, err := netip.ParseAddr(strings.Trim(rest, "[]")); err == nil {
		return "", fmt.Errorf("must be a DNS name, not an address (got %q); TLS clients send no name for an address, so the listener's own keys apply to it", name)
	}
	ascii, err := idna.Lookup.ToASCII(rest)
	if err != nil || ascii == "" || strings.ContainsAny(ascii, "*/:@ ") {
		return "", fmt.Errorf(`not a DNS name (got %q); write "example.org", or "*.example.org" for one label`, name)
	}
	if wild {
		return "*." + ascii, nil
	}
	return ascii, nil
}

// foldHost writes the host of a Host header or a server name to dst in
// canonical form: no port, no brackets, no trailing dot, lower case. It
// allocates nothing when dst has room.
func foldHost(dst, host []byte) []byte {
	if n := len(host); n > 0 && host[0] == '[' {
		for i, c := range host {
			if c == ']' {
				host = host[1:i]
				break
			}
		}
	} else {
		colon := -1
		for i, c := range host {
			if c != ':' {
				continue
			}
			if colon >= 0 { // a bare IPv6 address
				colon = -1
				break
			}
			colon = i
		}
		if colon >= 0 {
			host = host[:colon]
		}
	}
	if n := len(host); n > 1 && host[n-1] == '.' {
		host = host[:n-1]
	}
	for _, c := range host {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

// parentName returns the name without its first label.
func parentName[T []byte | string](name T) T {
	for i := 0; i < len(name); i++ {
		if name[i] == '.' {
			return name[i+1:]
		}
	}
	return name[:0]
}

// nameTable maps names and one-label wildcards to values. A lookup allocates
// nothing. An exact name wins over a wildcard.
type nameTable[V any] struct {
	exact map[string]V
	wild  map[string]V // "*.example.org" under "example.org"
}

func (t *nameTable[V]) slot(name string) (map[string]V, string) {
	if t.exact == nil {
		t.exact, t.wild = map[string]V{}, map[string]V{}
	}
	if rest, ok := strings.CutPrefix(name, "*."); ok {
		return t.wild, rest
	}
	return t.exact, name
}

func (t *nameTable[V]) get(name []byte) (V, bool) {
	if v, ok := t.exact[string(name)]; ok {
		return v, true
	}
	if parent := parentName(name); len(parent) > 0 && len(parent) < len(name)-1 {
		if v, ok := t.wild[string(parent)]; ok {
			return v, true
		}
	}
	var none V
	return none, false
}
