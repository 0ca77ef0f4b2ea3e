package peers

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// Grown is how large a configuration of mpgate's is to be. Each field that is 0 stays as it is in
// the cases.
type Grown struct {
	// Clients is how many connections there will be, where they are more than the case says.
	Clients int
	Hosts   int // routes, each with a host of its own: r0.example, r1.example, …
	Paths   int // routes, each with a path of its own: /r0/*, /r1/*, …
	Servers int // in the backend: 127.1.0.0, 127.1.0.1, … at the backend's port
	// Listeners in addition to the first one, on loopback addresses that no other size uses.
	Listeners int
	// Backends of four servers each, which the routes by host use in turn; 0: all routes use the
	// backend of the cases.
	Backends int
}

// Grow is an mpgate with a configuration of a given size.
func Grow(p *Peer, name string, g Grown) *Peer {
	one := *p
	one.Name = name
	one.plan = func(_ *Peer, s Setup) (Plan, error) {
		s.Connections = max(s.Connections, g.Clients)
		pl, err := planMpgate(p, s)
		if err != nil {
			return pl, err
		}
		pl.Files[0].Text, err = g.grow(pl.Files[0].Text, s)
		pl.Args[len(pl.Args)-1] = filepath.Join(s.Dir, "mpgate.toml")
		return pl, err
	}
	return &one
}

// grow puts more tables into the configuration of the cases.
func (g Grown) grow(text string, s Setup) (string, error) {
	if g.Servers > 0 {
		var err error
		if text = manyServers(&err, text, s.Backend, g.Servers); err != nil {
			return "", err
		}
	}
	var b strings.Builder
	b.WriteString(text)
	route := func(i int, match, backend string) {
		fmt.Fprintf(&b, "\n[[route]]\nname = \"r%d\"\nmatch = { %s }\nbackend = %q\n", i, match, backend)
	}
	for i := range g.Hosts {
		backend := "origin"
		if g.Backends > 0 {
			backend = fmt.Sprintf("b%d", i%g.Backends)
		}
		route(i, fmt.Sprintf("host = \"r%d.example\", path = \"/*\"", i), backend)
	}
	for i := range g.Paths {
		route(i, fmt.Sprintf("path = \"/r%d/*\"", i), "origin")
	}
	for i := range g.Backends {
		fmt.Fprintf(&b, "\n[[backend]]\nname = \"b%d\"\nmptcp = \"off\"\nservers = [", i)
		for j := range 4 {
			fmt.Fprintf(&b, " { address = \"127.1.%d.%d:18081\" },", i/250, 1+4*(i%60)+j)
		}
		b.WriteString(" ]\n")
	}
	for i := range g.Listeners {
		address := fmt.Sprintf("127.%d.%d.%d:18080", 10+len(strconv.Itoa(g.Listeners)), i/250, 1+i%250)
		fmt.Fprintf(&b, "\n[[listener]]\nname = \"l%d\"\naddress = %q\nmptcp = \"off\"\n", i, address)
	}
	return b.String(), nil
}
