package route

import (
	"cmp"
	"fmt"
	"strings"

	"mpgate/proxy/target"
)

// Rule says which requests a route is for. Names are for messages; two rules may share one.
type Rule[T any] struct {
	Name     string
	Host     string // "": any, and requests without one; "example.org"; "*.example.org": one label more
	Path     string // "": any, and "*" of OPTIONS; "/a": exact; "/a/*": a prefix by segment, /a itself and all below
	Listener string // "": any
	Value    T
}

// RuleError is a rule that cannot be used.
type RuleError struct {
	Index int    // of the rule, as given to Build
	Name  string // of the rule
	Key   string // "host" or "path"
	Value string // what stands there
	Why   string // what is wrong with it, and what would be right
}

func (e *RuleError) Error() string {
	return fmt.Sprintf("route %q: %s: %s (got %q)", e.Name, e.Key, e.Why, e.Value)
}

// TieError is a pair of rules of which neither is more specific.
type TieError struct {
	First, Second           string // names
	FirstIndex, SecondIndex int    // as given to Build
	Host, Path, Listener    string // what both say
}

func (e *TieError) Error() string {
	return fmt.Sprintf("routes %q and %q match the same requests (host %s, path %s, listener %s); make one more specific or remove it",
		e.First, e.Second, orAny(e.Host), orAny(e.Path), orAny(e.Listener))
}

func orAny(s string) string {
	if s == "" {
		return "any"
	}
	return fmt.Sprintf("%q", s)
}

type hostKind uint8

const (
	hostExact hostKind = iota
	hostWildcard
	hostAny
)

type pathKind uint8

const (
	pathExact pathKind = iota
	pathPrefix
	pathAny
)

// pattern is what a rule asks for, in a form that can be compared: equal patterns tie.
type pattern struct {
	hostKind hostKind
	host     string // for a wildcard without the "*."
	pathKind pathKind
	path     string // of a prefix without the "/*"
	listener string
}

// parse returns the pattern of a rule and all that is wrong with it.
func parse[T any](index int, r *Rule[T]) (p pattern, faults []error) {
	var why string
	p.listener = r.Listener
	if p.hostKind, p.host, why = parseHost(r.Host); why != "" {
		faults = append(faults, &RuleError{Index: index, Name: r.Name, Key: "host", Value: r.Host, Why: why})
	}
	if p.pathKind, p.path, why = parsePath(r.Path); why != "" {
		faults = append(faults, &RuleError{Index: index, Name: r.Name, Key: "path", Value: r.Path, Why: why})
	}
	return p, faults
}

func parseHost(s string) (kind hostKind, host, why string) {
	if s == "" {
		return hostAny, "", ""
	}
	host, kind = s, hostExact
	if rest, ok := strings.CutPrefix(s, "*."); ok {
		host, kind = rest, hostWildcard
	}
	if strings.Contains(host, "*") {
		return 0, "", `a "*" may only stand for the first label, as in "*.example.org"; without host a route is for all of them`
	}
	var scratch []byte
	canonical, port, err := target.Host([]byte(host), &scratch)
	switch {
	case err != nil:
		return 0, "", strings.TrimPrefix(err.Error(), "host: ") + `; a name is right, or "*." and a name; names in other scripts as "xn--…"`
	case port != nil || strings.HasSuffix(host, ":"):
		return 0, "", "a port cannot be matched; name the listener instead"
	case kind == hostWildcard && canonical[0] == '[':
		return 0, "", "an address has no labels that a wildcard could stand for"
	}
	return kind, string(canonical), ""
}

func parsePath(s string) (kind pathKind, path, why string) {
	if s == "" {
		return pathAny, "", ""
	}
	kind, path = pathExact, s
	if rest, ok := strings.CutSuffix(s, "/*"); ok {
		kind, path = pathPrefix, rest
	}
	switch {
	case strings.Contains(path, "*"):
		return 0, "", `a "*" may only be the last segment, as in "/a/*"`
	case kind == pathPrefix && path == "":
		return kind, path, "" // "/*"
	}
	var scratch []byte
	canonical, flags, err := target.Path([]byte(path), &scratch)
	switch {
	case err != nil:
		return 0, "", strings.TrimPrefix(err.Error(), "path: ") + `; "/a" is right for one path, "/a/*" for it and all below`
	case flags&(target.EncodedSlash|target.EncodedReserved) != 0:
		// Match finds them only in requests with the same escapes, although a server takes both
		// spellings for the same.
		return 0, "", fmt.Sprintf("percent-encodings of characters that may stand in a path as they are cannot be matched; write %q",
			string(target.Decoded(canonical, &scratch))+s[len(path):])
	case string(canonical) != path:
		return 0, "", fmt.Sprintf("not as mpgate matches it; write %q", string(canonical)+s[len(path):])
	case kind == pathPrefix && strings.HasSuffix(path, "/"):
		return 0, "", fmt.Sprintf("an empty segment matches nothing; write %q", path+"*")
	}
	return kind, path, ""
}

// before orders patterns such that of all that match a request the first is the most specific.
func (p pattern) before(q pattern) int {
	return cmp.Or(
		cmp.Compare(p.hostKind, q.hostKind),
		cmp.Compare(strings.Count(q.host, "."), strings.Count(p.host, ".")),
		cmp.Compare(p.host, q.host),
		boolCompare(p.pathKind == pathAny, q.pathKind == pathAny),
		cmp.Compare(len(q.path), len(p.path)),
		cmp.Compare(p.pathKind, q.pathKind),
		cmp.Compare(p.path, q.path),
		boolCompare(p.listener == "", q.listener == ""),
		cmp.Compare(p.listener, q.listener),
	)
}

// boolCompare puts false first.
func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// matchesHost, matchesPath and matchesListener say the same as Match, one pattern at a time and
// slowly: Explain uses them, and the tests hold Match to them.
func (p pattern) matchesHost(host string) bool {
	switch p.hostKind {
	case hostExact:
		return host == p.host
	case hostWildcard:
		_, parent, ok := strings.Cut(host, ".")
		return ok && parent == p.host
	}
	return true
}

func (p pattern) matchesPath(path string) bool {
	switch p.pathKind {
	case pathExact:
		return path == p.path
	case pathPrefix:
		return strings.HasPrefix(path, "/") && (path == p.path || strings.HasPrefix(path, p.path+"/"))
	}
	return true
}

func (p pattern) matchesListener(listener string) bool {
	return p.listener == "" || p.listener == listener
}
