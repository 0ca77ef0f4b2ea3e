package nginxconf

import (
	"fmt"
	"strings"
)

// Directive is one directive, with the block that follows it.
type Directive struct {
	Name string
	Args []string
	// Quoted says which arguments were in quotes.
	Quoted []bool
	// Block is nil for a simple directive.
	Block []*Directive
	File  string
	Line  int // from 1
}

// Arg returns an argument, "" if there are not so many.
func (d *Directive) Arg(i int) string {
	if i >= 0 && i < len(d.Args) {
		return d.Args[i]
	}
	return ""
}

// IsBlock reports whether the directive has a block.
func (d *Directive) IsBlock() bool { return d.Block != nil }

// Error is an error of syntax, or an exceeded limit.
type Error struct {
	File string
	Line int
	Msg  string
}

// Error is "file:line: what is wrong".
func (e *Error) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Msg) }

// parser is the state of one configuration.
type parser struct {
	source     Source
	prefix     string
	files      int
	bytes      int
	directives int
	missing    []Missing
}

// file parses one file with those that it includes.
func (p *parser) file(name string, includes, depth int) ([]*Directive, error) {
	text, err := p.read(name)
	if err != nil {
		return nil, err
	}
	l := &lexer{file: name, src: text, line: 1}
	list, last, err := p.block(l, includes, depth)
	if err == nil && last.kind == closing {
		err = l.errorf(last.line, "unexpected }")
	}
	return list, err
}

// block parses directives up to a closing brace or the end of the file.
func (p *parser) block(l *lexer, includes, depth int) (list []*Directive, last token, err error) {
	if depth > maxDepth {
		return nil, last, l.errorf(l.line, "more than %d blocks in each other", maxDepth)
	}
	list = []*Directive{}
	for {
		t, err := l.next()
		if err != nil {
			return nil, t, err
		}
		switch t.kind {
		case end, closing:
			return list, t, nil
		case semicolon, opening:
			return nil, t, l.errorf(t.line, "unexpected %s", map[kind]string{semicolon: ";", opening: "{"}[t.kind])
		}
		d, err := p.directive(l, t, includes, depth)
		if err != nil {
			return nil, t, err
		}
		if d.Name != "include" || d.IsBlock() || len(d.Args) != 1 {
			list = append(list, d)
			continue
		}
		more, err := p.include(d, includes, depth)
		if err != nil {
			return nil, t, err
		}
		list = append(list, more...)
	}
}

// directive parses what follows the name of a directive.
func (p *parser) directive(l *lexer, name token, includes, depth int) (*Directive, error) {
	if p.directives++; p.directives > maxDirectives {
		return nil, l.errorf(name.line, "more than %d directives", maxDirectives)
	}
	d := &Directive{Name: name.text, File: l.file, Line: name.line}
	for {
		t, err := l.next()
		if err != nil {
			return nil, err
		}
		switch t.kind {
		case word:
			if len(d.Args) == maxArgs {
				return nil, l.errorf(t.line, "%s has more than %d arguments", d.Name, maxArgs)
			}
			d.Args = append(d.Args, t.text)
			d.Quoted = append(d.Quoted, t.quoted)
		case semicolon:
			return d, nil
		case opening:
			return d, p.body(l, d, includes, depth)
		default:
			return nil, l.errorf(name.line, "%s is not terminated by \";\"", d.Name)
		}
	}
}

// body parses the block of a directive.
func (p *parser) body(l *lexer, d *Directive, includes, depth int) error {
	if strings.HasSuffix(d.Name, "_by_lua_block") {
		d.Block = []*Directive{}
		return l.skipCode(d.Line)
	}
	var last token
	var err error
	d.Block, last, err = p.block(l, includes, depth+1)
	if err == nil && last.kind != closing {
		err = l.errorf(d.Line, "the block of %s is not closed", d.Name)
	}
	return err
}
