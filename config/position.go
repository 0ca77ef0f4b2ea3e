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
	dir   string // absolute; relative paths in the file start here
}

// place is the place of a value in the files, or where it would be. A large configuration has very
// many places.
type place struct {
	*source
	in      *place // the table or array; nil: the file itself
	step    string // the key in the table, or the name of an entry; "" if the entry has a number
	number  int32  // of an entry of an array
	line    int32
	entry   bool // of an array
	written bool
	unset   bool // the value is not known: it has an unset variable, or is not in its enumeration
	secret  bool
}

// child returns the place of a key that is not in the table.
func (p *place) child(key string) place {
	return place{source: p.source, in: p, step: key, line: p.line, secret: p.secret}
}

// key returns the path of the place, as in faults.
func (p *place) key() string {
	switch {
	case p.in == nil:
		return ""
	case p.entry && p.step == "":
		return p.in.key() + "[" + strconv.Itoa(int(p.number)) + "]"
	}
	return joinKey(p.in.key(), p.step)
}

// pattern returns the key without the names and numbers of entries.
func (p *place) pattern() string {
	switch {
	case p.in == nil:
		return ""
	case p.entry:
		return p.in.pattern()
	}
	return joinKey(p.in.pattern(), p.step)
}

// places are the places of all keys of a configuration. The index is built when it is first needed,
// which is rare.
type places struct {
	written []*place
	aliases []alias

	once     sync.Once
	at       map[string]*place
	aliasFor map[string]*place
}

// alias is a place whose value is written elsewhere: in a set of filters, or in the defaults.
type alias struct{ at, written *place }

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
		p.aliasFor = make(map[string]*place, len(p.aliases))
		for _, a := range p.aliases {
			p.aliasFor[a.at.key()] = a.written
		}
	})
	for prefix := key; prefix != ""; prefix = parentKey(prefix) {
		if a := p.aliasFor[prefix]; a != nil {
			if prefix == key {
				return a
			}
			return p.at[a.key()+key[len(prefix):]]
		}
	}
	return p.at[key]
}

// Position returns the place of a key, for faults that are found later, such as a bind that fails
// or a certificate that cannot be read. The path is that of faults
// ("listener.web.tls.certificates[0].cert"); an entry may also be named by its number over all
// files ("listener[0]"). The place of a key that is not in the file is that of its table, and
// finally line 1 of the main file.
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

// byName replaces the number of an entry by its name.
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

// parentKey removes the last step of a key: "a.b[0]" -> "a.b" -> "a" -> "".
func parentKey(key string) string {
	if i := strings.LastIndexAny(key, ".["); i >= 0 {
		return key[:i]
	}
	return ""
}
