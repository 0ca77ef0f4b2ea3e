// Package template parses values of the configuration that contain variables, such as
// "https://{host}{uri}". Package filter evaluates them.
package template

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"mpgate/proxy/message"
)

// Kind is a variable.
type Kind uint8

// The variables. Each is named {like_this} in a template.
const (
	Literal Kind = iota // not a variable: Part.Text as it is
	Host
	Port
	Scheme
	Method
	Path
	Query
	URI // the path and, after a question mark, the query
	Client
	ID
	Listener
	Route
	Server
	ServerHost
	Status
	SNI
	ClientTransport
	ClientPath
	Header  // {header.NAME}
	Cookie  // {cookie.NAME}
	Param   // {query.NAME}
	Capture // {1} to {9}, of path_regex
)

// String is the name of a variable, without braces; "" for a literal. Of one with an argument it is
// what stands before the argument.
func (k Kind) String() string {
	for _, m := range []map[string]Kind{names, prefixes} {
		for name, kind := range m {
			if kind == k {
				return name
			}
		}
	}
	return ""
}

// names holds the names of the variables without an argument.
var names = map[string]Kind{
	"host": Host, "port": Port, "scheme": Scheme, "method": Method, "path": Path, "query": Query, "uri": URI,
	"client": Client, "id": ID, "listener": Listener, "route": Route, "server": Server, "server_host": ServerHost,
	"status": Status, "sni": SNI, "client_transport": ClientTransport, "client_path": ClientPath,
}

// prefixes holds those with one: {header.NAME}.
var prefixes = map[string]Kind{"header": Header, "cookie": Cookie, "query": Param}

// Names lists the variables as they are written, without braces, in order.
func Names() (list []string) {
	for name := range names {
		list = append(list, name)
	}
	for prefix := range prefixes {
		list = append(list, prefix+".NAME")
	}
	slices.Sort(list)
	return append(list, "1")
}

// Part is a piece of a template.
type Part struct {
	Kind   Kind
	Text   string // a literal, or the NAME of {header.NAME}
	Number int    // of a capture, from 1
}

// Template is a parsed value. The zero value is the empty text.
type Template struct {
	source string
	parts  []Part
}

// String is the template as it was written.
func (t *Template) String() string { return t.source }

// Parts are the pieces in order. The caller must not change them.
func (t *Template) Parts() []Part { return t.parts }

// Literal returns the text of a template without variables; ok is false for any other.
func (t *Template) Literal() (text string, ok bool) {
	switch {
	case len(t.parts) == 0:
		return "", true
	case len(t.parts) == 1 && t.parts[0].Kind == Literal:
		return t.parts[0].Text, true
	}
	return "", false
}

// Uses reports whether a variable of that kind occurs in t.
func (t *Template) Uses(k Kind) bool {
	return slices.ContainsFunc(t.parts, func(p Part) bool { return p.Kind == k })
}

// Captures is the highest number of a capture in t; 0 if there is none.
func (t *Template) Captures() (most int) {
	for _, p := range t.parts {
		most = max(most, p.Number)
	}
	return most
}

// Parse parses a value. Its error has the form "what is wrong; what would be right". "{{" is a
// literal brace; a closing brace outside of a variable is literal. A literal part cannot contain
// CR, LF or NUL: the value ends up in a message.
func Parse(s string) (Template, error) {
	t := Template{source: s}
	if i := strings.IndexAny(s, "\r\n\x00"); i >= 0 {
		return t, errors.New("has a line break or a NUL; must be one line of text")
	}
	var text strings.Builder
	flush := func() {
		if text.Len() > 0 {
			t.parts = append(t.parts, Part{Kind: Literal, Text: text.String()})
			text.Reset()
		}
	}
	for rest := s; rest != ""; {
		i := strings.IndexByte(rest, '{')
		if i < 0 {
			text.WriteString(rest)
			break
		}
		text.WriteString(rest[:i])
		rest = rest[i+1:]
		if strings.HasPrefix(rest, "{") {
			text.WriteByte('{')
			rest = rest[1:]
			continue
		}
		name, after, ok := strings.Cut(rest, "}")
		if !ok {
			return t, errors.New("has a variable without a closing brace; write {{ for a brace")
		}
		p, err := variable(name)
		if err != nil {
			return t, err
		}
		flush()
		t.parts = append(t.parts, p)
		rest = after
	}
	flush()
	return t, nil
}

// variable parses what is between braces.
func variable(name string) (Part, error) {
	if k, ok := names[name]; ok {
		return Part{Kind: k}, nil
	}
	if len(name) == 1 && '1' <= name[0] && name[0] <= '9' {
		return Part{Kind: Capture, Number: int(name[0] - '0')}, nil
	}
	if prefix, arg, ok := strings.Cut(name, "."); ok {
		if k, ok := prefixes[prefix]; ok {
			if arg == "" || k != Param && !message.IsToken(arg) {
				return Part{}, fmt.Errorf("has an invalid name in the variable {%s}; must be for example {header.X-Name}", name)
			}
			return Part{Kind: k, Text: arg}, nil
		}
	}
	return Part{}, &UnknownError{Name: name}
}

// UnknownError is a variable that does not exist. Names has those that do.
type UnknownError struct{ Name string }

func (e *UnknownError) Error() string {
	return "has the unknown variable {" + e.Name + "}; write {{ for a brace"
}
