package nginxconf

import (
	"fmt"
	"strings"
)

// kind is the kind of a token.
type kind uint8

const (
	word kind = iota
	semicolon
	opening // {
	closing // }
	end     // of the file
)

type token struct {
	kind   kind
	text   string // of a word, without quotes and escapes
	quoted bool
	line   int
}

// lexer splits a file into tokens.
type lexer struct {
	file string
	src  string
	at   int
	line int
}

func (l *lexer) errorf(line int, format string, args ...any) error {
	return &Error{File: l.file, Line: line, Msg: fmt.Sprintf(format, args...)}
}

func (l *lexer) next() (token, error) {
	l.skipSpace()
	if l.at == len(l.src) {
		return token{kind: end, line: l.line}, nil
	}
	switch c := l.src[l.at]; c {
	case ';', '{', '}':
		l.at++
		return token{kind: map[byte]kind{';': semicolon, '{': opening, '}': closing}[c], line: l.line}, nil
	case '"', '\'':
		return l.quoted(c)
	}
	return l.bare()
}

// skipSpace skips white space and comments. A # within a word begins no comment.
func (l *lexer) skipSpace() {
	for l.at < len(l.src) {
		switch l.src[l.at] {
		case '\n':
			l.line++
		case ' ', '\t', '\r':
		case '#':
			n := strings.IndexByte(l.src[l.at:], '\n')
			if n < 0 {
				l.at = len(l.src)
				return
			}
			l.at += n
			continue
		default:
			return
		}
		l.at++
	}
}

func (l *lexer) quoted(quote byte) (token, error) {
	line := l.line
	var b strings.Builder
	for l.at++; l.at < len(l.src); {
		switch c := l.src[l.at]; {
		case c == quote:
			l.at++
			if l.at < len(l.src) && !strings.ContainsRune(" \t\r\n;{)", rune(l.src[l.at])) {
				return token{}, l.errorf(l.line, "unexpected %q after a quoted word", l.src[l.at])
			}
			if l.at < len(l.src) && l.src[l.at] == ')' { // nginx permits it: if ($a = "b")
				return l.rest(token{text: b.String(), quoted: true, line: line})
			}
			return token{text: b.String(), quoted: true, line: line}, nil
		case c == '\\':
			l.escape(&b)
		default:
			l.byte(&b)
		}
		if b.Len() > maxWord {
			return token{}, l.errorf(line, "a word is longer than %d bytes", maxWord)
		}
	}
	return token{}, l.errorf(line, "the quote %c is not closed", quote)
}

// rest reads the parenthesis behind a quoted word as the next token would be.
func (l *lexer) rest(t token) (token, error) {
	after, err := l.bare()
	t.text += after.text
	return t, err
}

func (l *lexer) bare() (token, error) {
	t := token{line: l.line}
	var b strings.Builder
	for l.at < len(l.src) {
		c := l.src[l.at]
		if strings.IndexByte(" \t\r\n;", c) >= 0 || c == '{' && !l.afterDollar() {
			break
		}
		if c == '\\' {
			l.escape(&b)
		} else {
			l.byte(&b)
		}
		if b.Len() > maxWord {
			return t, l.errorf(t.line, "a word is longer than %d bytes", maxWord)
		}
	}
	t.text = b.String()
	return t, nil
}

// afterDollar reports whether the brace here belongs to ${name}.
func (l *lexer) afterDollar() bool { return l.at > 0 && l.src[l.at-1] == '$' }

func (l *lexer) byte(b *strings.Builder) {
	c := l.src[l.at]
	if c == '\n' {
		l.line++
	}
	b.WriteByte(c)
	l.at++
}

// escape reads a backslash and what follows. One that is none of nginx's escapes stays, as
// expressions need it.
func (l *lexer) escape(b *strings.Builder) {
	l.at++
	if l.at == len(l.src) {
		b.WriteByte('\\')
		return
	}
	switch c := l.src[l.at]; c {
	case '"', '\'', '\\':
		b.WriteByte(c)
	case 't':
		b.WriteByte('\t')
	case 'r':
		b.WriteByte('\r')
	case 'n':
		b.WriteByte('\n')
	default:
		b.WriteByte('\\')
		l.byte(b)
		return
	}
	l.at++
}

// skipCode skips the body of a block of another language, up to the brace that closes it. Strings
// and comments are those of Lua.
func (l *lexer) skipCode(line int) error {
	for depth := 1; l.at < len(l.src); l.at++ {
		switch c := l.src[l.at]; c {
		case '\n':
			l.line++
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				l.at++
				return nil
			}
		case '"', '\'':
			l.skipString(c)
		case '-':
			if strings.HasPrefix(l.src[l.at:], "--") {
				if n := strings.IndexByte(l.src[l.at:], '\n'); n > 0 {
					l.at += n - 1
				}
			}
		}
	}
	return l.errorf(line, "the block is not closed")
}

// skipString moves to the quote that ends a string, or to the end of the line.
func (l *lexer) skipString(quote byte) {
	for l.at++; l.at < len(l.src); l.at++ {
		switch l.src[l.at] {
		case quote:
			return
		case '\n':
			l.line++
			return
		case '\\':
			l.at++
			if l.at < len(l.src) && l.src[l.at] == '\n' {
				l.line++
			}
		}
	}
}
