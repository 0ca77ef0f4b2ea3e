package route

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"mpgate/proxy/message"
)

// condition is what a rule asks of a request besides host, path and listener. There is one for each
// name of header, query and cookie.
type condition interface {
	// holds allocates nothing.
	holds(q *Request) bool
	// key is that of the configuration: "method", "query v".
	key() string
	// want is what the condition asks for, in words.
	want() string
	// got is what the request has instead.
	got(q *Request) string
	// implies reports whether other holds wherever this one does. It may miss that.
	implies(other condition) bool
}

// Request is what routes are matched with. Its memory is used again by the next match, so it should
// be kept, and serves one goroutine at a time.
type Request struct {
	*message.Request            // canonical
	Listener         string     // that received it
	Client           netip.Addr // the client's address; the zero Addr where there is none
	// TrustedPeer says that the peer is a trusted proxy. From any other, the fields
	// X-Forwarded-*, X-Real-IP and Forwarded count as absent.
	TrustedPeer bool

	ends []int32  // where the segments of the path end
	seen []uint64 // the nested "**" that were visited, a bit each
}

// conditions are those of a rule, nil if there is none.
type conditions []condition

func (c conditions) hold(q *Request) bool {
	for _, one := range c {
		if !one.holds(q) {
			return false
		}
	}
	return true
}

// failing says which condition does not hold, "" if all do.
func (c conditions) failing(q *Request) string {
	for _, one := range c {
		if !one.holds(q) {
			return fmt.Sprintf("%s: want %s, got %s", one.key(), one.want(), one.got(q))
		}
	}
	return ""
}

// String lists the conditions; equal ones have equal texts.
func (c conditions) String() string {
	texts := make([]string, len(c))
	for i, one := range c {
		texts[i] = one.key() + " " + one.want()
	}
	return strings.Join(texts, ", ")
}

// implies reports whether other hold wherever c do.
func (c conditions) implies(other conditions) bool {
	for _, o := range other {
		if !slices.ContainsFunc(c, func(one condition) bool { return one.implies(o) }) {
			return false
		}
	}
	return true
}

// fault is what is wrong with a key of a rule.
type fault struct{ key, value, why string }

// newConditions compiles what a rule asks for, in the order of the keys in the documentation.
func newConditions(m *Match) (list conditions, faults []fault) {
	add := func(c condition, f *fault) {
		if f != nil {
			faults = append(faults, *f)
			return
		}
		list = append(list, c)
	}
	if len(m.Methods) > 0 {
		add(newMethods(m.Methods))
	}
	seen := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(m.Header)) {
		c, f := newField(name, m.Header[name])
		if other, twice := seen[strings.ToLower(name)]; twice && f == nil {
			f = &fault{"header." + name, m.Header[name], fmt.Sprintf("%q is the same name; write it once", other)}
		}
		seen[strings.ToLower(name)] = name
		add(c, f)
	}
	for _, name := range slices.Sorted(maps.Keys(m.Query)) {
		add(newParam(name, m.Query[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(m.Cookie)) {
		add(newCookie(name, m.Cookie[name]))
	}
	if len(m.Clients) > 0 {
		add(newClients(m.Clients), nil)
	}
	return list, faults
}

// expectation is what a condition wants of the values that a request has under a name.
type expectation struct{ name, value string }

// met decides from whether the name is there, and with the value.
func (e expectation) met(present, equal bool) bool {
	switch e.value {
	case "*":
		return present
	case "":
		return !present
	}
	return equal
}

func (e expectation) want() string {
	switch e.value {
	case "*":
		return "any value"
	case "":
		return "none"
	}
	return fmt.Sprintf("%q", e.value)
}

// implied reports whether what o wants is so wherever what e wants is.
func (e expectation) implies(o expectation) bool {
	return e.name == o.name && (e.value == o.value || o.value == "*" && e.value != "")
}

// gotValue shows the first value that a request has under a name.
func gotValue(value []byte, present bool) string {
	if !present {
		return "none"
	}
	return fmt.Sprintf("%q", value)
}

// methods are those of which a request must have one.
type methods []string

func newMethods(names []string) (condition, *fault) {
	for i, name := range names {
		upper := strings.ToUpper(name)
		switch {
		case !message.IsToken(name):
			return nil, &fault{"method", name, `not a method; one as in "GET" is right`}
		case name != upper && slices.Contains(usualMethods, upper):
			return nil, &fault{"method", name, fmt.Sprintf("methods are case-sensitive; write %q", upper)}
		case slices.Contains(names[:i], name):
			return nil, &fault{"method", name, "listed twice"}
		}
	}
	return methods(slices.Sorted(slices.Values(names))), nil
}

var usualMethods = []string{"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}

func (m methods) holds(q *Request) bool {
	for _, name := range m {
		if string(q.Method) == name {
			return true
		}
	}
	return false
}

func (m methods) key() string           { return "method" }
func (m methods) want() string          { return list(m) }
func (m methods) got(q *Request) string { return string(q.Method) }

func (m methods) implies(other condition) bool {
	o, ok := other.(methods)
	return ok && !slices.ContainsFunc(m, func(name string) bool { return !slices.Contains(o, name) })
}
