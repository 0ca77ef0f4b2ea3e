package config

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// spot is the position of a value and of the values in it.
type spot struct {
	line  int
	keys  map[string]*spot // of a table
	elems []*spot          // of an array, or of an array of tables
	head  bool             // the header of the table was read
}

// child returns the spot of a key, which it creates if needed.
func (s *spot) child(key string, line int) *spot {
	c := s.keys[key]
	if c == nil {
		if s.keys == nil {
			s.keys = map[string]*spot{}
		}
		c = &spot{line: line}
		s.keys[key] = c
	}
	return c
}

// into returns the table that a header or a dotted key continues in: the last one of an array of
// tables.
func (s *spot) into() *spot {
	if n := len(s.elems); n > 0 {
		return s.elems[n-1]
	}
	return s
}

// maxDepth is the maximum nesting of arrays and inline tables, because their parsers are recursive.
const maxDepth = 64

// locate finds the lines of the keys and array elements of a TOML text. It does not validate the
// text, which the parser does, and gives a best effort for invalid TOML. tooDeep is the line where
// the nesting exceeds maxDepth, or 0.
func locate(text string) (root *spot, tooDeep int) {
	root = &spot{line: 1}
	l := newLocator(text)
	for table := root; ; {
		l.blank(true)
		switch {
		case l.end():
			return root, l.tooDeep
		case l.peek() == '[':
			table = l.header(root)
		default:
			l.pair(table, 0)
		}
	}
}

// locator reads a text from front to back. Each of its steps advances, whatever the input is.
type locator struct {
	text    string
	at      int
	line    int
	tooDeep int
}

func newLocator(text string) *locator {
	for _, bom := range []string{"\ufeff", "\xff\xfe", "\xfe\xff"} { // the parser skips these three
		if rest, ok := strings.CutPrefix(text, bom); ok {
			text = rest
			break
		}
	}
	return &locator{text: text, line: 1}
}

func (l *locator) end() bool { return l.at >= len(l.text) }

// peek returns the next byte, 0 at the end.
func (l *locator) peek() byte {
	if l.end() {
		return 0
	}
	return l.text[l.at]
}

func (l *locator) next() byte {
	c := l.peek()
	if c == '\n' {
		l.line++
	}
	if !l.end() {
		l.at++
	}
	return c
}

func (l *locator) skip(n int) {
	for ; n > 0; n-- {
		l.next()
	}
}

// blank skips white space and, if lines is true, line ends and comments.
func (l *locator) blank(lines bool) {
	for !l.end() {
		switch c := l.peek(); {
		case c == ' ' || c == '\t' || c == '\r':
			l.next()
		case lines && c == '\n':
			l.next()
		case lines && c == '#':
			l.comment()
		default:
			return
		}
	}
}

func (l *locator) comment() {
	for !l.end() && l.peek() != '\n' {
		l.next()
	}
}

// header reads [a.b] or [[a.b]] and returns the table that it opens.
func (l *locator) header(root *spot) *spot {
	line := l.line
	l.next()
	array := l.peek() == '['
	if array {
		l.next()
	}
	path := l.path(']')
	for i := 0; i < 2 && l.peek() == ']'; i++ {
		l.next()
	}
	t := root
	for i, key := range path {
		t = t.into().child(key, line)
		switch {
		case i < len(path)-1:
		case array:
			e := &spot{line: line}
			t.elems = append(t.elems, e)
			t = e
		case !t.head:
			t.line, t.head = line, true // [a.b.c] may have created it before
		}
	}
	return t
}

// pair reads key = value. It stops after the value.
func (l *locator) pair(table *spot, depth int) {
	start, line := l.at, l.line
	path := l.path('=')
	if l.peek() == '=' {
		l.next()
	}
	t := table
	for _, key := range path {
		t = t.into().child(key, line)
	}
	l.blank(false)
	l.value(t, depth)
	if l.at == start {
		l.next() // this is not a pair
	}
}

// path reads a dotted key up to stop or the end of the line.
func (l *locator) path(stop byte) []string {
	var path []string
	for {
		l.blank(false)
		switch c := l.peek(); {
		case c == 0 && l.end(), c == '\n', c == stop:
			return path
		case c == '.':
			l.next()
		case c == '"' || c == '\'':
			path = append(path, l.quoted())
		default:
			start := l.at
			for !l.end() && !strings.ContainsRune(" \t\r\n.\"'=]", rune(l.peek())) {
				l.next()
			}
			if l.at == start {
				return path
			}
			path = append(path, l.text[start:l.at])
		}
	}
}

// value reads any value into s.
func (l *locator) value(s *spot, depth int) {
	if depth > maxDepth {
		if l.tooDeep == 0 {
			l.tooDeep = l.line
		}
		l.at = len(l.text)
		return
	}
	switch l.peek() {
	case '[':
		l.array(s, depth)
	case '{':
		l.inline(s, depth)
	case '"', '\'':
		l.quoted()
	default:
		for !l.end() && !strings.ContainsRune(",]}#\n", rune(l.peek())) {
			l.next()
		}
	}
}

func (l *locator) array(s *spot, depth int) {
	for l.next(); ; {
		l.blank(true)
		switch {
		case l.end():
			return
		case l.peek() == ']':
			l.next()
			return
		case l.peek() == ',' || l.peek() == '}':
			l.next()
		default:
			e := &spot{line: l.line}
			s.elems = append(s.elems, e)
			l.value(e, depth+1)
		}
	}
}

func (l *locator) inline(s *spot, depth int) {
	for l.next(); ; {
		l.blank(true)
		switch {
		case l.end():
			return
		case l.peek() == '}':
			l.next()
			return
		case l.peek() == ',' || l.peek() == ']':
			l.next()
		default:
			l.pair(s, depth+1)
		}
	}
}

// quoted reads a string of any of the four kinds and returns its value, which only keys need.
func (l *locator) quoted() string {
	q := l.text[l.at : l.at+1]
	if strings.HasPrefix(l.text[l.at:], q+q+q) {
		return l.multiline(q)
	}
	l.next()
	start := l.at
	for !l.end() && l.peek() != q[0] && l.peek() != '\n' {
		if l.next() == '\\' && q == `"` && l.peek() != '\n' {
			l.next()
		}
	}
	s := l.text[start:l.at]
	if l.peek() == q[0] {
		l.next()
	}
	if q == `"` {
		return unescape(s)
	}
	return s
}

func (l *locator) multiline(q string) string {
	l.skip(3)
	start := l.at
	for !l.end() {
		if strings.HasPrefix(l.text[l.at:], q+q+q) {
			s := l.text[start:l.at]
			l.skip(3)
			// Up to two more quotes belong to the string: """a""""" ends in two quotes. More are
			// not valid TOML, but the parser accepts them after an escaped backslash.
			for !l.end() && l.peek() == q[0] {
				l.next()
			}
			return s
		}
		if l.next() == '\\' && q == `"` {
			l.next()
		}
	}
	return l.text[start:]
}

// unescape decodes the escapes of a basic string.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		digits := 0
		switch s[i] {
		case 'b':
			b.WriteByte('\b')
		case 't':
			b.WriteByte('\t')
		case 'n':
			b.WriteByte('\n')
		case 'f':
			b.WriteByte('\f')
		case 'r':
			b.WriteByte('\r')
		case 'e':
			b.WriteByte(0x1b)
		case 'x':
			digits = 2
		case 'u':
			digits = 4
		case 'U':
			digits = 8
		default:
			b.WriteByte(s[i])
		}
		if digits > 0 && i+digits < len(s) {
			n, err := strconv.ParseUint(s[i+1:i+1+digits], 16, 32)
			if err == nil && utf8.ValidRune(rune(n)) {
				b.WriteRune(rune(n))
			}
			i += digits
		}
	}
	return b.String()
}
