package nginxconf

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Source is where files come from.
type Source interface {
	// Read returns at most limit bytes of a file.
	Read(name string, limit int) ([]byte, error)
	// Glob returns the names that a pattern of package path/filepath matches, in their order.
	Glob(pattern string) ([]string, error)
}

// Files is the Source of the file system.
type Files struct{}

// Read implements Source.
func (Files) Read(name string, limit int) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, int64(limit)))
}

// Glob implements Source.
func (Files) Glob(pattern string) ([]string, error) { return filepath.Glob(pattern) }

// Missing is an include that could not be read.
type Missing struct {
	Include *Directive
	Why     string
}

// Parse parses a file and the files that it includes. Names in includes are relative to prefix;
// where prefix is "", to the directory of the file. An include that is not found is returned, and
// no error. An error is an [*Error], or one of the source for the file itself.
func Parse(name, prefix string, source Source) ([]*Directive, []Missing, error) {
	if prefix == "" {
		prefix = filepath.Dir(name)
	}
	p := &parser{source: source, prefix: prefix}
	list, err := p.file(name, 0, 0)
	return list, p.missing, err
}

func (p *parser) read(name string) (string, error) {
	if p.files++; p.files > maxFiles {
		return "", &Error{File: name, Line: 1, Msg: fmt.Sprintf("more than %d files", maxFiles)}
	}
	b, err := p.source.Read(name, maxFile+1)
	if err != nil {
		return "", err
	}
	if p.bytes += len(b); len(b) > maxFile || p.bytes > maxTotal {
		return "", &Error{File: name, Line: 1, Msg: fmt.Sprintf("the file has more than %d bytes, or all have more than %d", maxFile, maxTotal)}
	}
	return strings.TrimPrefix(string(b), "\ufeff"), nil
}

// include returns the directives of the files that d names.
func (p *parser) include(d *Directive, includes, depth int) ([]*Directive, error) {
	if includes == maxIncludes {
		return nil, &Error{File: d.File, Line: d.Line, Msg: fmt.Sprintf("more than %d files include each other", maxIncludes)}
	}
	pattern := d.Args[0]
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(p.prefix, pattern)
	}
	names := []string{pattern}
	if strings.ContainsAny(pattern, "*?[") {
		var err error
		if names, err = p.source.Glob(pattern); err != nil {
			p.missing = append(p.missing, Missing{d, err.Error()})
			return nil, nil
		}
		slices.Sort(names)
	}
	var all []*Directive
	for _, name := range names {
		list, err := p.file(name, includes+1, depth)
		if _, syntax := err.(*Error); syntax {
			return nil, err
		} else if err != nil {
			p.missing = append(p.missing, Missing{d, err.Error()})
		}
		all = append(all, list...)
	}
	return all, nil
}
