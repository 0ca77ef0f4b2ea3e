package migrate

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"mpgate/internal/nginxconf"
)

// table is a table of TOML whose keys keep their order. The values are string, int, bool, []any and
// *table.
type table struct {
	keys []entry
}

type entry struct {
	name   string
	value  any
	origin *nginxconf.Directive // nil if no single directive made it
}

// set adds a key, or replaces its value.
func (t *table) set(name string, value any, origin *nginxconf.Directive) {
	if i := t.index(name); i >= 0 {
		t.keys[i] = entry{name, value, origin}
		return
	}
	t.keys = append(t.keys, entry{name, value, origin})
}

func (t *table) index(name string) int {
	return slices.IndexFunc(t.keys, func(e entry) bool { return e.name == name })
}

// get returns the value of a key, nil if there is none.
func (t *table) get(name string) any {
	if i := t.index(name); i >= 0 {
		return t.keys[i].value
	}
	return nil
}

func (t *table) text(name string) string {
	s, _ := t.get(name).(string)
	return s
}

// child returns the table under a key, which it adds if it is missing.
func (t *table) child(name string, origin *nginxconf.Directive) *table {
	if c, ok := t.get(name).(*table); ok {
		return c
	}
	c := &table{}
	t.set(name, c, origin)
	return c
}

// remove removes a key and returns what made it.
func (t *table) remove(name string) *nginxconf.Directive {
	i := t.index(name)
	if i < 0 {
		return nil
	}
	origin := t.keys[i].origin
	t.keys = slices.Delete(t.keys, i, i+1)
	return origin
}

// write writes the lines of a table that has a header of its own. Tables in it are inline, except
// those named in apart, which get a header below; only tables for listeners have such.
func (t *table) write(b *strings.Builder, header string, apart ...string) {
	b.WriteString(header + "\n")
	width := 0
	for _, e := range t.keys {
		if !slices.Contains(apart, e.name) {
			width = max(width, len(key(e.name)))
		}
	}
	for _, e := range t.keys {
		if !slices.Contains(apart, e.name) {
			fmt.Fprintf(b, "%-*s = %s\n", width, key(e.name), inline(e.value))
		}
	}
	for _, e := range t.keys {
		if tab, ok := e.value.(*table); ok && slices.Contains(apart, e.name) {
			name := strings.Trim(header, "[]") + "." + e.name
			tab.write(b, "\n["+name+"]")
		}
	}
}

var bareKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func key(s string) string {
	if bareKey.MatchString(s) {
		return s
	}
	return quote(s)
}

// inline returns a value as it is written on one line.
func inline(v any) string {
	switch v := v.(type) {
	case string:
		return quote(strings.ReplaceAll(v, "${", "$${"))
	case int:
		return strconv.Itoa(v)
	case bool:
		return strconv.FormatBool(v)
	case []any:
		parts := make([]string, len(v))
		for i := range v {
			parts[i] = inline(v[i])
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case *table:
		if len(v.keys) == 0 {
			return "{}"
		}
		parts := make([]string, len(v.keys))
		for i, e := range v.keys {
			parts[i] = key(e.name) + " = " + inline(e.value)
		}
		return "{ " + strings.Join(parts, ", ") + " }"
	}
	panic(fmt.Sprintf("no value of TOML: %T", v))
}

// quote returns a string of TOML: a literal one for what has backslashes or quotes, else a basic
// one.
func quote(s string) string {
	if strings.ContainsAny(s, `\"`) && !strings.ContainsFunc(s, func(r rune) bool { return r == '\'' || r < ' ' || r == 0x7f || r == 0xfffd }) {
		return "'" + s + "'"
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteRune('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// list returns strings as a value; one string is written without brackets.
func list(s []string) any {
	if len(s) == 1 {
		return s[0]
	}
	return all(s)
}

// all returns strings as a list.
func all(s []string) []any {
	out := make([]any, len(s))
	for i := range s {
		out[i] = s[i]
	}
	return out
}
