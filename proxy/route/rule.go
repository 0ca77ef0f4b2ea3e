package route

import (
	"fmt"
	"net/netip"
	"strings"
)

// Rule is a route: which requests it is for, and what it stands for. Names are for messages; two
// rules may share one.
type Rule[T any] struct {
	Name  string
	Match Match
	Value T
}

// Match says which requests a rule is for. All of it must hold; the zero value matches every
// request.
type Match struct {
	Hosts     []string // one of them; none: any, and requests without a host. See package comment
	Paths     []string // one of them; none: any, and "*" of OPTIONS. See package comment
	PathRegex string   // an RE2 expression that is found in the path; instead of Paths
	Listener  string   // "": any

	Methods []string // one of them; none: any
	// Header, Query and Cookie hold values by name: "*" wants the name with any value, "" wants it
	// to be absent. Of several values with that name, one must match.
	Header, Query, Cookie map[string]string
	Clients               []netip.Prefix // one of them contains the client's address; none: any
}

// RuleError is a rule that cannot be used.
type RuleError struct {
	Index int    // of the rule, as given to Build
	Name  string // of the rule
	Key   string // as in the configuration: "host", "path_regex", "header.X-Name"
	Value string // what it holds
	Why   string // what is wrong with it, and what would be right
}

func (e *RuleError) Error() string {
	return fmt.Sprintf("route %q: %s: %s (got %q)", e.Name, e.Key, e.Why, e.Value)
}

// TieError is a pair of rules that match the same requests, so that neither is more specific.
type TieError struct {
	First, Second           string // names
	FirstIndex, SecondIndex int    // as given to Build
	Host, Path, Listener    string // what both have in common
	Conditions              string // likewise, "" if there is none
}

func (e *TieError) Error() string {
	further := ""
	if e.Conditions != "" {
		further = ", " + e.Conditions
	}
	return fmt.Sprintf("routes %q and %q match the same requests (host %s, path %s, listener %s%s); make one more specific or remove it",
		e.First, e.Second, orAny(e.Host), orAny(e.Path), orAny(e.Listener), further)
}

// UnreachableError is a rule that is never chosen: whatever it matches, another rule matches too
// and comes first.
type UnreachableError struct {
	Name, By           string // the rule, and the one that comes first
	Index, ByIndex     int    // as given to Build
	Pattern, ByPattern string // what of them was compared
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("route %q can never be reached: route %q (%s) comes first and matches all its requests (%s); make %q more specific or remove it",
		e.Name, e.By, e.ByPattern, e.Pattern, e.Name)
}

func orAny(s string) string {
	if s == "" {
		return "any"
	}
	return fmt.Sprintf("%q", s)
}

// list joins words as in a sentence: "a, b or c".
func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
