package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strings"

	"github.com/BurntSushi/toml"
)

// Options are the inputs of a configuration other than its files. The zero value is for running the
// gateway.
type Options struct {
	// Lookup returns the variables for ${VAR}; nil is os.LookupEnv.
	Lookup func(name string) (value string, set bool)
	// Check makes unset variables warnings instead of errors: a file is often checked in another
	// environment than it runs in.
	Check bool
}

// maxFile is the maximum size of a file; 100,000 routes fit.
const maxFile = 64 << 20

// Load reads a file and the files that it includes. No other file is opened. An error is an
// [Errors] with all faults.
func Load(path string, o Options) (*Config, error) {
	c, faults := Check(path, o)
	if c == nil {
		return nil, Errors(faults).errors()
	}
	return c, nil
}

// Check is like Load, but also returns the warnings if there are errors. Without errors the Config
// is not nil. The faults are sorted by place.
func Check(path string, o Options) (*Config, []Fault) {
	l := newLoader(o)
	root := l.files(path)
	return l.finish(root)
}

// Default returns the configuration of an empty file. A valid one would also need listeners, routes
// and backends.
func Default() *Config {
	l := newLoader(Options{})
	return l.config(&node{at: l.place("", 0), keys: map[string]*node{}})
}

// loader is the state of one load: the files that were read and the faults that were found.
type loader struct {
	lookup func(string) (string, bool)
	check  bool
	user   user

	names   []string // of the files read, as in faults
	written []*place // of every key and entry
	aliases []alias
	faults  []Fault
	broken  bool // a file could not be parsed: missing entries may be in it
}

func newLoader(o Options) *loader {
	l := &loader{lookup: o.Lookup, check: o.Check}
	if l.lookup == nil {
		l.lookup = os.LookupEnv
	}
	l.user = user{uid: os.Geteuid(), lookup: l.lookup}
	return l
}

func (l *loader) place(file string, order int) *place {
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		dir = filepath.Dir(file) // no working directory: paths stay relative
	}
	return &place{source: &source{file: file, order: order, dir: dir}, line: 1}
}

func (l *loader) fault(at *place, format string, args ...any) { l.add(Error, at, format, args) }
func (l *loader) warn(at *place, format string, args ...any)  { l.add(Warning, at, format, args) }

func (l *loader) add(s Severity, at *place, format string, args []any) {
	if at.unset {
		return
	}
	l.faults = append(l.faults, Fault{
		File: at.file, Line: int(at.line), Key: at.key(), Msg: fmt.Sprintf(format, args...), Severity: s, order: at.order,
	})
}

// files reads the main file and its includes into one tree. It is nil if the main file cannot be
// read.
func (l *loader) files(path string) *node {
	root := l.file(path)
	if root == nil {
		return nil
	}
	seen := map[string]bool{filepath.Clean(path): true}
	if inc := root.keys["include"]; inc != nil {
		for _, p := range inc.list {
			l.include(root, p, path, seen)
		}
	}
	return root
}

// include adds the files of one pattern. The decoder reports what is not a string.
func (l *loader) include(root, pattern *node, main string, seen map[string]bool) {
	s, ok := pattern.leaf.(string)
	if !ok || pattern.at.unset {
		return
	}
	path := s
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(main), path)
	}
	names := []string{path}
	isGlob := strings.ContainsAny(s, `*?[`)
	if isGlob {
		var err error
		if names, err = filepath.Glob(path); err != nil {
			l.fault(pattern.at, "is not a pattern (got %q): %v; write for example \"conf.d/*.toml\"", s, err)
			return
		}
		sort.Strings(names)
	}
	for _, name := range names {
		name = filepath.Clean(name)
		if isGlob && strings.HasPrefix(filepath.Base(name), ".") {
			continue // a temporary file of an editor
		}
		if seen[name] {
			if name == filepath.Clean(main) && !isGlob {
				l.fault(pattern.at, "is the file that includes (got %q); name other files", s)
			}
			continue
		}
		seen[name] = true
		if _, err := os.Stat(name); err != nil && !isGlob {
			l.fault(pattern.at, "names a file that cannot be read (got %q): %v; a pattern such as \"conf.d/*.toml\" may match nothing", s, cause(err))
			continue
		}
		sub := l.file(name)
		if sub == nil {
			continue
		}
		if inc := sub.keys["include"]; inc != nil {
			l.fault(inc.at, "is only for the main file (%s); include these files there", main)
			delete(sub.keys, "include")
		}
		l.merge(root, sub)
	}
}

// file reads one file. It returns nil if that fails.
func (l *loader) file(name string) *node {
	at := l.place(name, len(l.names))
	l.names = append(l.names, name)
	text, err := read(name)
	if err != nil {
		l.broken = true
		at.line = 0
		l.fault(at, "cannot be read: %v", cause(err))
		return nil
	}
	return l.parse(text, at)
}

func (l *loader) parse(text string, at *place) *node {
	where, deep := locate(text)
	if deep > 0 {
		l.broken = true
		p := *at
		p.line = int32(deep)
		l.fault(&p, "is nested deeper than %d arrays and tables; mpgate's keys need fewer than ten", maxDepth)
		return nil
	}
	tree := map[string]any{}
	if _, err := toml.Decode(text, &tree); err != nil {
		l.broken = true
		p := *at
		msg := err.Error()
		var pe toml.ParseError
		if errors.As(err, &pe) {
			p.line = int32(min(max(1, pe.Position.Line), 1+strings.Count(text, "\n")))
			msg = strings.TrimSuffix(pe.Message, ".")
			if strings.Contains(msg, `but got '\n'`) && p.line > 1 {
				p.line-- // the parser has read the end of the line
			}
			msg += firstPlace(where, msg, int(p.line))
			msg = explainSyntax(msg, lineOf(text, int(p.line)))
		}
		l.fault(&p, "is not TOML: %s", msg)
		return nil
	}
	return l.build(tree, where, at)
}

// firstPlace completes the parser's message about a key that is defined twice: it says where the
// first one is.
func firstPlace(where *spot, msg string, line int) string {
	key, ok := strings.CutPrefix(msg, "Key '")
	key, _, found := strings.Cut(key, "' has already been defined")
	if !ok || !found {
		return ""
	}
	for _, step := range strings.Split(key, ".") {
		if where = where.into().keys[step]; where == nil {
			return ""
		}
	}
	if where.line >= line {
		return ""
	}
	return fmt.Sprintf(", at line %d; keep one of them", where.line)
}

func read(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("is longer than %d bytes", maxFile)
	}
	return string(b), err
}

// cause returns an error without the path, which the fault already names.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// finish returns the Config of the tree, nil if there is an error.
func (l *loader) finish(root *node) (*Config, []Fault) {
	var c *Config
	if root != nil {
		if c = l.config(root); !l.broken {
			l.cross(c, root)
		}
	}
	l.faults = sortFaults(l.faults)
	if Errors(l.faults).errors() != nil {
		return nil, l.faults
	}
	c.Files = l.names
	c.Warnings = l.faults
	return c, l.faults
}

// config decodes a tree and checks each of its tables.
func (l *loader) config(root *node) *Config {
	l.mergeSets(root)
	c := &Config{places: &places{written: l.written, aliases: l.aliases}}
	l.table(root, reflect.ValueOf(c).Elem())
	l.checkTables(c, root)
	return c
}
