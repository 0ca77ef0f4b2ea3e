package migrate

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"mpgate/internal/nginxconf"
)

// Result is a translation.
type Result struct {
	// File is a configuration that package config accepts.
	File     []byte
	Messages []Message
	// Unprotected is set if a restriction was left out, and nothing closes what it protected.
	Unprotected bool
}

// Options are the inputs other than the files.
type Options struct {
	// Prefix is where relative names in the configuration begin; "" is the directory of each file.
	Prefix string
	// Source is where the files come from; nil is the file system.
	Source nginxconf.Source
}

// Nginx translates configurations of nginx, each a complete one or one that its http block would
// include.
func Nginx(files []string, o Options) (*Result, error) {
	t, err := translate(files, o)
	if err != nil {
		return nil, err
	}
	text, err := t.settle()
	if err != nil {
		return nil, err
	}
	return &Result{File: text, Messages: t.sorted(t.order), Unprotected: t.unprotected}, nil
}

// translate parses and translates; settle then takes out what package config refuses.
func translate(files []string, o Options) (*translator, error) {
	if o.Source == nil {
		o.Source = nginxconf.Files{}
	}
	prefix := o.Prefix
	if prefix == "" && len(files) > 0 {
		prefix = filepath.Dir(files[0])
	}
	prefix, err := filepath.Abs(prefix)
	if err != nil {
		return nil, err
	}
	t := &translator{prefix: prefix, files: files, done: map[*nginxconf.Directive]bool{}}
	var main []*nginxconf.Directive
	for _, name := range files {
		list, missing, err := nginxconf.Parse(name, o.Prefix, o.Source)
		if err != nil {
			return nil, err
		}
		for _, m := range missing {
			t.include(m)
		}
		main = append(main, list...)
	}
	t.order = readOrder(files, main)
	t.top(main)
	return t, nil
}

// translator is the state of one translation.
type translator struct {
	messages
	prefix string   // absolute
	files  []string // that were asked for
	order  []string // all that were read
	// done are the directives that were looked at one by one; directives.go is for the others.
	done map[*nginxconf.Directive]bool

	head                        *table // tables without a name: limits, defaults
	listeners, routes, backends []*table
	names                       map[string]int // how often each was asked for

	upstreams map[string]*nginxconf.Directive
	zones     map[string]*nginxconf.Directive // of limit_req_zone and limit_conn_zone
	maps      map[string]*nginxconf.Directive // map and geo, by variable
	closed    map[*table]bool                 // routes that answer 403 instead of what they should
	guards    map[*table]*nginxconf.Directive // what restricts a route
}

// top translates the main level. Server and upstream blocks at it are of files that http includes.
func (t *translator) top(main []*nginxconf.Directive) {
	t.head, t.names = &table{}, map[string]int{}
	t.upstreams, t.zones, t.maps = map[string]*nginxconf.Directive{}, map[string]*nginxconf.Directive{}, map[string]*nginxconf.Directive{}
	t.closed, t.guards = map[*table]bool{}, map[*table]*nginxconf.Directive{}
	t.rest(main)
	outer := &scope{list: main}
	if len(outer.here("server", "upstream", "location")) > 0 {
		t.http(&scope{outer: &scope{}, list: main})
	}
	for _, d := range outer.here("http") {
		t.http(outer.inner(d))
	}
	for _, d := range outer.here("stream") {
		t.stream(outer.inner(d))
	}
}

// name returns a name for a table that no other of its kind has.
func (t *translator) name(kind, wanted string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(wanted) {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '_':
			b.WriteRune(r)
		case r != '-' && r != '.' && r != '/' && r != ':' && r != ' ':
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	name := strings.Trim(b.String(), "-_")
	if len(name) > 50 {
		name = strings.TrimRight(name[:50], "-_")
	}
	if name == "" {
		name = kind
	}
	t.names[kind+" "+name]++
	if n := t.names[kind+" "+name]; n > 1 {
		return t.name(kind, fmt.Sprintf("%s-%d", name, n))
	}
	return name
}

// include says that an include was not read, unless mpgate needs nothing of it.
func (t *translator) include(m nginxconf.Missing) {
	for _, known := range []string{"mime.types", "modules-enabled", "fastcgi"} {
		if strings.Contains(m.Include.Arg(0), known) {
			t.done[m.Include] = true
			return
		}
	}
	t.say(m.Include, "not read: %s; name the directory of nginx by --prefix if the file is elsewhere", m.Why)
}

// readOrder returns the files in the order in which they were read.
func readOrder(files []string, main []*nginxconf.Directive) []string {
	var out []string
	var walk func([]*nginxconf.Directive)
	walk = func(list []*nginxconf.Directive) {
		for _, d := range list {
			if !slices.Contains(out, d.File) {
				out = append(out, d.File)
			}
			walk(d.Block)
		}
	}
	walk(main)
	for _, f := range files {
		if !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	return out
}
