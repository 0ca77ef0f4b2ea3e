package migrate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"mpgate/config"
	"mpgate/internal/nginxconf"
)

// mostPasses is how often the result is loaded. Each pass takes something out.
const mostPasses = 100

// settle writes the file, and takes out what package config refuses, such as values that only nginx
// takes.
func (t *translator) settle() ([]byte, error) {
	if len(t.listeners) == 0 {
		return nil, errors.New("there is no server block with an address that mpgate can listen on")
	}
	dir, err := os.MkdirTemp("", "mpgate-import-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "mpgate.toml")
	for range mostPasses {
		t.prune()
		text := t.text()
		if err := os.WriteFile(name, text, 0o600); err != nil {
			return nil, err
		}
		_, faults := config.Check(name, config.Options{Check: true, Lookup: func(string) (string, bool) { return "", false }})
		faults = slices.DeleteFunc(faults, func(f config.Fault) bool { return f.Severity != config.Error })
		if len(faults) == 0 {
			return text, nil
		}
		touched := map[*table]bool{}
		for _, f := range faults {
			t.takeOut(f, touched)
		}
		if len(t.listeners) == 0 {
			return nil, fmt.Errorf("nothing is left: %v", faults[0].Msg)
		}
	}
	return nil, errors.New("the result is not accepted")
}

// text returns the file.
func (t *translator) text() []byte {
	var b strings.Builder
	names := make([]string, len(t.files))
	for i, f := range t.files {
		names[i] = filepath.Base(f)
	}
	fmt.Fprintf(&b, "# Translated from %s by mpgate import nginx. Its messages say what was left out.\n",
		strings.Map(printable, strings.Join(names, ", ")))
	for _, e := range t.head.keys {
		if tab := e.value.(*table); len(tab.keys) > 0 {
			b.WriteString("\n")
			tab.write(&b, "["+e.name+"]")
		}
	}
	for _, kind := range []struct {
		name  string
		list  []*table
		apart []string
	}{{"listener", t.listeners, []string{"tls"}}, {"route", t.routes, nil}, {"backend", t.backends, nil}} {
		for _, tab := range kind.list {
			b.WriteString("\n")
			tab.write(&b, "[["+kind.name+"]]", kind.apart...)
		}
	}
	return []byte(b.String())
}

func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return '?'
	}
	return r
}

// prune removes routes whose listener or backend is gone, and backends that no route names.
func (t *translator) prune() {
	listeners, backends := names(t.listeners), names(t.backends)
	t.routes = slices.DeleteFunc(t.routes, func(r *table) bool {
		m, _ := r.get("match").(*table)
		return m != nil && m.get("listener") != nil && !slices.Contains(listeners, m.text("listener"))
	})
	for _, r := range t.routes {
		for _, b := range backendsOf(r) {
			if !slices.Contains(backends, b) {
				t.shut(r, r.keys[0].origin)
				break
			}
		}
	}
	used := map[string]bool{}
	for _, r := range t.routes {
		for _, b := range backendsOf(r) {
			used[b] = true
		}
		for _, path := range [][2]string{{"files", "fallback"}, {"forward_auth", ""}} {
			if c, ok := r.get(path[0]).(*table); ok && path[1] != "" {
				c, _ = c.get(path[1]).(*table)
				if c != nil {
					used[c.text("backend")] = true
				}
			} else if ok {
				used[c.text("backend")] = true
			}
		}
	}
	t.backends = slices.DeleteFunc(t.backends, func(b *table) bool { return !used[b.text("name")] })
}

// backendsOf returns the names of the backends of a route.
func backendsOf(r *table) (list []string) {
	switch b := r.get("backend").(type) {
	case string:
		list = append(list, b)
	case *table:
		for _, e := range b.keys {
			list = append(list, e.name)
		}
	}
	return list
}

func names(list []*table) []string {
	out := make([]string, len(list))
	for i, tab := range list {
		out[i] = tab.text("name")
	}
	return out
}

// takeOut removes what a fault is about. touched are the tables that were changed since the file
// was checked: another fault may be about a key that they have no more.
func (t *translator) takeOut(f config.Fault, touched map[*table]bool) {
	steps := strings.Split(f.Key, ".")
	why := f.Msg
	if len(steps) < 2 {
		t.removeHead(steps[0])
		return
	}
	lists := map[string]*[]*table{"listener": &t.listeners, "route": &t.routes, "backend": &t.backends}
	l := lists[steps[0]]
	if l == nil {
		t.removeHead(steps[0])
		return
	}
	i := slices.IndexFunc(*l, func(tab *table) bool { return tab.text("name") == steps[1] })
	if n, ok := strings.CutPrefix(f.Key, steps[0]+"["); ok && i < 0 { // an entry without a name
		if number, _, ok := strings.Cut(n, "]"); ok {
			if j, err := strconv.Atoi(number); err == nil && j < len(*l) {
				i = j
			}
		}
	}
	if i < 0 {
		return
	}
	tab := (*l)[i]
	rest := steps[2:]
	if touched[tab] && len(rest) > 0 && (keyName(rest[0]) == "servers" || tab.index(keyName(rest[0])) < 0) {
		return
	}
	touched[tab] = true
	switch {
	case steps[0] == "route":
		t.routeFault(tab, rest, f.Key, why)
	case len(rest) == 0 || keyName(rest[0]) == "name" || keyName(rest[0]) == "address" || keyName(rest[0]) == "protocols" || rest[0] == "tls" && len(rest) == 1:
		t.drop(l, tab, f.Key, why)
	case keyName(rest[0]) == "servers":
		t.serverFault(l, tab, rest, f.Key, why)
	case !t.removeKey(tab, rest, f.Key, why):
		t.drop(l, tab, f.Key, why)
	}
}

func (t *translator) removeHead(name string) { t.head.remove(name) }

// keyName is the name of a key without the number of an entry.
func keyName(step string) string {
	name, _, _ := strings.Cut(step, "[")
	return name
}

// origin returns what made a table.
func origin(tab *table) *nginxconf.Directive {
	for _, e := range tab.keys {
		if e.origin != nil {
			return e.origin
		}
	}
	return nil
}

// drop removes a table.
func (t *translator) drop(l *[]*table, tab *table, key, why string) {
	i := slices.Index(*l, tab)
	if i < 0 {
		return
	}
	*l = slices.Delete(*l, i, i+1)
	t.say(origin(tab), "left out: %s: %s", key, why)
}

// actions are the keys of which a route has one.
var actions = []string{"backend", "files", "redirect", "answer"}

// restrictions are the keys that protect a route.
var restrictions = []string{"allow", "deny", "basic_auth", "jwt", "forward_auth"}

// routeFault takes out the key of a route. Without its match or action nothing remains of it; one
// that is restricted, or says no, must not leave its requests to other routes.
func (t *translator) routeFault(r *table, rest []string, key, why string) {
	step := ""
	if len(rest) > 0 {
		step = keyName(rest[0])
	}
	d := origin(r)
	hasAction := slices.ContainsFunc(actions, func(a string) bool { return r.get(a) != nil })
	switch {
	case hasAction && (step == "backend" && r.get("backend") == nil || step == "" && strings.HasPrefix(why, "names 0 actions")):
		return // another fault is about the key of its action
	case slices.Contains(restrictions, step):
		if e := r.index(step); e >= 0 && !t.closed[r] {
			t.say(r.keys[e].origin, "%s: %s; the route answers 403 until you replace that", key, why)
			t.shut(r, r.keys[e].origin)
			return
		}
	case step == "match" || step == "" || step == "name" || slices.Contains(actions, step) || step == "rewrite":
		i := slices.Index(t.routes, r)
		if i < 0 {
			return
		}
		if guard := t.guards[r]; guard != nil || t.refuses(r) {
			if guard == nil {
				guard = d
			}
			t.alarm(guard, "the route is left out: %s: %s", key, why)
		} else {
			t.say(d, "left out: %s: %s", key, why)
		}
		t.routes = slices.Delete(t.routes, i, i+1)
		return
	}
	if !t.removeKey(r, rest, key, why) {
		t.drop(&t.routes, r, key, why)
	}
}

// refuses reports whether the answer of a route protects what is behind it.
func (t *translator) refuses(r *table) bool {
	a, ok := r.get("answer").(*table)
	if !ok {
		return false
	}
	code, _ := a.get("status").(int)
	return t.closed[r] || code == 403 || code == 401 || code == 501
}

// serverFault takes out a server of a backend.
func (t *translator) serverFault(l *[]*table, b *table, rest []string, key, why string) {
	servers, _ := b.get("servers").([]any)
	_, number, _ := strings.Cut(rest[0], "[")
	i, err := strconv.Atoi(strings.TrimSuffix(number, "]"))
	if err != nil || i >= len(servers) || len(servers) == 1 {
		t.drop(l, b, key, why)
		return
	}
	server := servers[i].(*table)
	name := ""
	if len(rest) > 1 {
		name = rest[1]
	}
	if !slices.Contains([]string{"address", "backup", "weight", ""}, name) && t.removeKey(server, rest[1:], key, why) {
		return
	}
	t.say(origin(server), "the server is left out: %s: %s", key, why)
	b.set("servers", slices.Delete(slices.Clone(servers), i, i+1), b.keys[b.index("servers")].origin)
}

// removeKey removes the innermost key of a path that is there; false if there is none.
func (t *translator) removeKey(tab *table, path []string, key, why string) bool {
	if len(path) == 0 {
		return false
	}
	name := keyName(path[0])
	// A name such as "502.504" has dots itself.
	i := tab.index(name)
	if i < 0 {
		i = slices.IndexFunc(tab.keys, func(e entry) bool {
			return strings.HasPrefix(strings.Join(path, "."), strings.Trim(e.name, `"`)) || strings.HasPrefix(strings.Join(path, "."), quote(e.name))
		})
	}
	if i < 0 {
		return false
	}
	if inner, ok := tab.keys[i].value.(*table); ok && t.removeKey(inner, path[1:], key, why) {
		if len(inner.keys) == 0 {
			tab.remove(tab.keys[i].name)
		}
		return true
	}
	t.say(tab.keys[i].origin, "left out: %s: %s", key, why)
	tab.remove(tab.keys[i].name)
	return true
}
