package config

import (
	"fmt"
	"sort"
	"strings"
)

// Fault is one error in a file, or a warning about it.
type Fault struct {
	File string `json:"file"`
	Line int    `json:"line"` // from 1; 0: the fault is about the file, which cannot be read
	// Key is the TOML path, "" if the fault is not about a key, such as a parse error.
	Key      string   `json:"key,omitempty"`
	Msg      string   `json:"message"`
	Severity Severity `json:"severity"`

	order int // of the file among those that were read
}

// Severity is the severity of a fault.
type Severity string

const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// String is "file:line: key: what is wrong; what would be right", without what does not apply.
func (f Fault) String() string {
	text := f.File + ": "
	if f.Line > 0 {
		text = fmt.Sprintf("%s:%d: ", f.File, f.Line)
	}
	if f.Key != "" {
		text += f.Key + ": "
	}
	return text + f.Msg
}

// Errors are all faults of a configuration, sorted by place. As an error it is never empty.
type Errors []Fault

// Error returns one fault per line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, f := range e {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// errors returns the faults that are not warnings.
func (e Errors) errors() Errors {
	var out Errors
	for _, f := range e {
		if f.Severity == Error {
			out = append(out, f)
		}
	}
	return out
}

// sortFaults sorts by place and removes duplicates.
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

// keyLess compares keys as text, except that x[2] comes before x[10].
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

// digits returns the number of digits at the beginning of s.
func digits(s string) int {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return n
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
