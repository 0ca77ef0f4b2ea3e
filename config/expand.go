package config

import (
	"errors"
	"strings"
)

// The errors do not quote the string, which may be a secret.
var (
	errUnclosed = errors.New("has ${ without }; write $${ for a literal ${")
	errNested   = errors.New("has ${ within the default of a variable; a default is literal text: write ${NAME:-text}")
	errVariable = errors.New("has ${ without a variable name after it; write ${NAME}, ${NAME:-default}, or $${ for a literal ${")
)

// expand replaces ${VAR} in s by the value of the variable, and ${VAR:-default} by the default if
// the variable is unset or empty. $${ is a literal ${; any other $ stands for itself. unset are the
// variables that are not set and have no default; they are replaced by nothing.
func expand(s string, lookup func(string) (string, bool)) (out string, unset []string, err error) {
	if !strings.Contains(s, "${") {
		return s, nil, nil
	}
	var b strings.Builder
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			b.WriteString(s)
			return b.String(), unset, nil
		}
		if i > 0 && s[i-1] == '$' {
			b.WriteString(s[:i-1])
			b.WriteString("${")
			s = s[i+2:]
			continue
		}
		b.WriteString(s[:i])
		inner, rest, ok := strings.Cut(s[i+2:], "}")
		if !ok {
			return "", nil, errUnclosed
		}
		name, fallback, has := strings.Cut(inner, ":-")
		if !isVariable(name) {
			return "", nil, errVariable
		}
		if strings.Contains(fallback, "${") {
			return "", nil, errNested
		}
		switch v, set := lookup(name); {
		case v != "":
			b.WriteString(v)
		case has:
			b.WriteString(fallback)
		case !set:
			unset = append(unset, name)
		}
		s = rest
	}
}

// escape is the reverse of expand for a text without variables.
func escape(s string) string { return strings.ReplaceAll(s, "${", "$${") }

func isVariable(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
