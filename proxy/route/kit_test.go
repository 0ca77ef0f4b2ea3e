package route

import (
	"net/netip"
	"strings"
	"testing"

	"mpgate/proxy/message"
)

type rule = Rule[string]

// buildRules makes a table of rules written as text, see newRule.
func buildRules(t testing.TB, texts ...string) *Table[string] {
	t.Helper()
	table, err := Build(newRules(texts...))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func newRules(texts ...string) (all []rule) {
	for _, text := range texts {
		all = append(all, newRule(text))
	}
	return all
}

// newRule reads "host path listener" and conditions, whose value and name is that text: "-" for
// none, lists with commas, a path_regex with "~" before it; then method=GET,HEAD header.X-A=1
// query.v=* cookie.beta= client=10.0.0.0/8.
func newRule(text string) rule {
	r := rule{Name: text, Value: text}
	f := strings.Fields(text)
	split := func(s string) []string {
		if s == "-" {
			return nil
		}
		return strings.Split(s, ",")
	}
	r.Match.Hosts, r.Match.Listener = split(f[0]), strings.Trim(f[2], "-")
	if expression, ok := strings.CutPrefix(f[1], "~"); ok {
		r.Match.PathRegex = expression
	} else {
		r.Match.Paths = split(f[1])
	}
	for _, word := range f[3:] {
		key, value, _ := strings.Cut(word, "=")
		kind, name, _ := strings.Cut(key, ".")
		set := func(m *map[string]string) {
			if *m == nil {
				*m = map[string]string{}
			}
			(*m)[name] = value
		}
		switch kind {
		case "method":
			r.Match.Methods = split(value)
		case "header":
			set(&r.Match.Header)
		case "query":
			set(&r.Match.Query)
		case "cookie":
			set(&r.Match.Cookie)
		case "client":
			for _, s := range split(value) {
				r.Match.Clients = append(r.Match.Clients, netip.MustParsePrefix(s))
			}
		default:
			panic(word)
		}
	}
	return r
}

// ask is a GET from 192.0.2.1.
func ask(host, path, listener string) *Request {
	path, query, _ := strings.Cut(path, "?")
	m := &message.Request{Method: []byte("GET"), Host: []byte(host), Path: []byte(path), Query: []byte(query)}
	return &Request{Request: m, Listener: listener, Client: netip.MustParseAddr("192.0.2.1")}
}

// with adds a field "Name: value".
func (q *Request) with(field string) *Request {
	name, value, _ := strings.Cut(field, ": ")
	q.Header.AddName([]byte(name), []byte(value))
	return q
}

// match returns the value that was found, "" for none.
func (t *Table[T]) match(q *Request) (value T) {
	f, _ := t.Match(q)
	return f.Value
}
