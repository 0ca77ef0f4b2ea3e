package config

import (
	"fmt"
	"sort"
	"strings"
)

// Fault is one thing wrong with a file, or (as a warning) probably not meant.
type Fault struct {
	File string `json:"file"`
	Line int    `json:"line"` // from 1
	// Key is the TOML path, "" when the fault is not about one (a parse error).
	Key      string   `json:"key,omitempty"`
	Msg      string   `json:"message"`
	Severity Severity `json:"severity"`

	order int // of the file among those that were read
}

// Severity is how much a fault counts.
type Severity string

const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// String is "file:line: key: what is wrong; what would be right".
func (f Fault) String() string {
	if f.Key == "" {
		return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Msg)
	}
	return fmt.Sprintf("%s:%d: %s: %s", f.File, f.Line, f.Key, f.Msg)
}

// Errors is all that is wrong with a configuration, sorted by place. It never is empty as an error.
type Errors []Fault

// Error is one fault a line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, f := range e {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// errors are those that are no warnings.
func (e Errors) errors() Errors {
	var out Errors
	for _, f := range e {
		if f.Severity == Error {
			out = append(out, f)
		}
	}
	return out
}

// sortFaults sorts by place and drops what was said twice.
func sortFaults(fs []Fault) []Fault {
	sort.SliceStable(fs, func(i, j int) bool {
		a, b := fs[i], fs[j]
		switch {
		case a.order != b.order:
			return a.order < b.order
		case a.Line != b.Line:
			return a.Line < b.Line
		case a.Key != b.Key:
			return keyLess(a.Key, b.Key)
		}
		return a.Msg < b.Msg
	})
	out := fs[:0]
	for _, f := range fs {
		if len(out) == 0 || f != out[len(out)-1] {
			out = append(out, f)
		}
	}
	return out
}

// keyLess orders keys by letters, but x[2] before x[10].
func keyLess(a, b string) bool {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	for i > 0 && isDigit(a[i-1]) {
		i--
	}
	x, y := digits(a[i:]), digits(b[i:])
	if x > 0 && y > 0 && x != y {
		return x < y
	}
	return a[i:] < b[i:]
}

// digits is how many digits s begins with.
func digits(s string) int {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return n
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
