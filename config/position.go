package config

import (
	"strconv"
	"strings"
	"sync"
)

// source is a file that was read.
type source struct {
	file  string
	order int    // among those that were read
	dir   string // absolute, what relative paths in the file start from
}

// place is where a value is in the files, or would be. A large configuration has very many of
// them.
type place struct {
	*source
	in      *place // the table or array; nil: the file itself
	step    string // the key in the table, or the name of an entry; "" with entry: it goes by its number
	number  int32  // of an entry of an array
	line    int32
	entry   bool // of an array
	written bool
	unset   bool // its value is not known: a variable in it is not set, or it is not one of an enumeration
	secret  bool
}

// child is the place of a key that was left out of the table.
func (p *place) child(key string) place {
	return place{source: p.source, in: p, step: key, line: p.line, secret: p.secret}
}

// key is the path that leads to the place, as in faults.
func (p *place) key() string {
	switch {
	case p.in == nil:
		return ""
	case p.entry && p.step == "":
		return p.in.key() + "[" + strconv.Itoa(int(p.number)) + "]"
	}
	return joinKey(p.in.key(), p.step)
}

// pattern is the key without the names and numbers of entries.
func (p *place) pattern() string {
	switch {
	case p.in == nil:
		return ""
	case p.entry:
		return p.in.pattern()
	}
	return joinKey(p.in.pattern(), p.step)
}

// places are where the keys of a configuration are. They are sorted out when somebody asks, which
// few do.
type places struct {
	written []*place

	once sync.Once
	at   map[string]*place
}

func (p *places) find(key string) *place {
	if p == nil {
		return nil
	}
	p.once.Do(func() {
		p.at = make(map[string]*place, len(p.written))
		for _, w := range p.written {
			if k := w.key(); p.at[k] == nil {
				p.at[k] = w
			}
		}
	})
	return p.at[key]
}

// Position is where a key is, for faults that are found later (a bind that fails, a
// certificate that cannot be read). The path is that of faults
// ("listener.web.tls.certificates[0].cert"); an entry's number ("listener[0]", over all files) does
// as well. A key that was left out has the place of its table, and the end of all that is line 1 of
// the main file.
func (c *Config) Position(path string) (file string, line int) {
	for path = c.byName(path); path != ""; path = parentKey(path) {
		if p := c.places.find(path); p != nil {
			return p.file, int(p.line)
		}
	}
	if len(c.Files) > 0 {
		return c.Files[0], 1
	}
	return "", 1
}

// byName puts the name of an entry for its number.
func (c *Config) byName(path string) string {
	head, rest, ok := strings.Cut(path, "[")
	if !ok {
		return path
	}
	num, rest, ok := strings.Cut(rest, "]")
	n, err := strconv.Atoi(num)
	if !ok || err != nil || n < 0 {
		return path
	}
	switch {
	case head == "listener" && n < len(c.Listeners):
		return "listener." + c.Listeners[n].Name + rest
	case head == "route" && n < len(c.Routes):
		return "route." + c.Routes[n].Name + rest
	case head == "backend" && n < len(c.Backends):
		return "backend." + c.Backends[n].Name + rest
	}
	return path
}

// parentKey takes the last step off a key: "a.b[0]" -> "a.b" -> "a" -> "".
func parentKey(key string) string {
	if i := strings.LastIndexAny(key, ".["); i >= 0 {
		return key[:i]
	}
	return ""
}
