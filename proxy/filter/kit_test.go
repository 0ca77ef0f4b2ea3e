package filter_test

import (
	"fmt"
	"strings"
	"testing"

	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/proxy/template"
)

// matched is a filter.Match.
type matched struct {
	path     string
	from, to int
	groups   []int

	bytes []byte // path
}

func (m *matched) Path() []byte {
	if m.bytes == nil {
		m.bytes = []byte(m.path)
	}
	return m.bytes
}

func (m *matched) Star() (from, to int)  { return m.from, m.to }
func (m *matched) Groups() (index []int) { return m.groups }

// requestFor is a GET of a path.
func requestFor(path string) *filter.Request {
	r := newRequest()
	r.Method, r.Path = []byte("GET"), []byte(path)
	r.Host = []byte("a.example")
	r.Matched = filter.Target{Host: r.Host, Path: r.Path}
	return r
}

func parse(t testing.TB, s string) template.Template {
	t.Helper()
	p, err := template.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// header makes a header of lines "Name: value".
func header(h *message.Header, lines ...string) {
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h.AddName([]byte(name), []byte(value))
	}
}

// lines are the fields of a header.
func lines(h *message.Header) string {
	var out []string
	for i := range h.Len() {
		if _, name, value, ok := h.At(i); ok {
			out = append(out, fmt.Sprintf("%s: %s", name, value))
		}
	}
	return strings.Join(out, "\n")
}
