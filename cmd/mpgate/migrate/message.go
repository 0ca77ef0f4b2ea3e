package migrate

import (
	"cmp"
	"fmt"
	"slices"

	"mpgate/internal/nginxconf"
)

// Message says what was not translated, or not exactly.
type Message struct {
	File      string
	Line      int
	Directive string
	Text      string
}

// String is "file:line: directive: text".
func (m Message) String() string {
	return fmt.Sprintf("%s:%d: %s: %s", m.File, m.Line, m.Directive, m.Text)
}

// messages are those of one translation.
type messages struct {
	list []Message
	// unprotected: a restriction was left out, and nothing closes what it protected.
	unprotected bool
}

// say adds a message about a directive.
func (m *messages) say(d *nginxconf.Directive, format string, args ...any) {
	if d == nil {
		return
	}
	m.list = append(m.list, Message{d.File, d.Line, d.Name, fmt.Sprintf(format, args...)})
}

// sayOf adds a message about a parameter of a directive, under its own name.
func (m *messages) sayOf(d *nginxconf.Directive, parameter, format string, args ...any) {
	m.list = append(m.list, Message{d.File, d.Line, parameter, fmt.Sprintf(format, args...)})
}

// alarm adds a message about a restriction that is lost.
func (m *messages) alarm(d *nginxconf.Directive, format string, args ...any) {
	m.unprotected = true
	m.say(d, "NOT PROTECTED: "+format, args...)
}

// sorted returns the messages by file, in the order of the files, and line. A message that was
// given twice is there once.
func (m *messages) sorted(files []string) []Message {
	slices.SortStableFunc(m.list, func(a, b Message) int {
		return cmp.Or(cmp.Compare(slices.Index(files, a.File), slices.Index(files, b.File)), cmp.Compare(a.Line, b.Line))
	})
	seen := map[Message]bool{}
	var out []Message
	for _, one := range m.list {
		if !seen[one] {
			seen[one] = true
			out = append(out, one)
		}
	}
	return out
}
