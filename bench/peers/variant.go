package peers

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
)

// Variant is a change of mpgate's configuration of the cases.
type Variant struct {
	Name  string // what the peer's name ends with, as "+gzip"
	Root  bool   // the route serves the files of Setup.Root instead
	Route string // further lines of the route
	// Backend is further lines of the backend.
	Backend string
	// Servers, if not 0, is their number: 127.1.0.1, 127.1.0.2, … at the backend's port.
	Servers int
	Files   []File // beside the configuration
}

// Vary is p, which is an mpgate, with a variant of its configuration.
func Vary(p *Peer, v Variant) *Peer {
	one := *p
	one.Name = strings.TrimSpace(p.Name + " " + v.Name)
	one.plan = func(_ *Peer, s Setup) (Plan, error) {
		pl, err := planMpgate(p, s)
		if err != nil {
			return pl, err
		}
		text := pl.Files[0].Text
		if v.Root {
			text = edit(&err, text, "backend = \"origin\"\n", fmt.Sprintf("files = %q\n", s.Root))
		}
		text = edit(&err, text, "match = { path = \"/*\" }\n", "match = { path = \"/*\" }\n"+v.Route)
		text = edit(&err, text, "protocol = \"h1\"\n", "protocol = \"h1\"\n"+v.Backend)
		if v.Servers > 0 {
			text = manyServers(&err, text, s.Backend, v.Servers)
		}
		pl.Files[0].Text = text
		pl.Files = append(pl.Files, v.Files...)
		pl.Check = []string{p.Program, "check", "-c", filepath.Join(s.Dir, "mpgate.toml")}
		return pl, err
	}
	return &one
}

// edit replaces a part of a configuration that must be there.
func edit(err *error, text, old, with string) string {
	if *err == nil && !strings.Contains(text, old) {
		*err = fmt.Errorf("the configuration has no line %q", old)
	}
	return strings.Replace(text, old, with, 1)
}

// manyServers replaces the server of the backend by n on other addresses of the loopback.
func manyServers(err *error, text, backend string, n int) string {
	_, port, bad := net.SplitHostPort(backend)
	if bad != nil {
		*err = bad
		return text
	}
	var list strings.Builder
	for i := range n {
		fmt.Fprintf(&list, "  { address = \"127.1.%d.%d:%s\" },\n", i/250, 1+i%250, port)
	}
	return edit(err, text, fmt.Sprintf("servers = [ { address = %q } ]\n", backend), "servers = [\n"+list.String()+"]\n")
}

// varyNginx is nginx with a change of the configuration of the cases.
func varyNginx(p *Peer, name string, change func(text string, s Setup, err *error) string) *Peer {
	one := *p
	one.Name = name
	one.plan = func(_ *Peer, s Setup) (Plan, error) {
		pl, err := planNginx(p, s)
		if err != nil {
			return pl, err
		}
		pl.Files[0].Text = change(pl.Files[0].Text, s, &err)
		return pl, err
	}
	return &one
}

// NginxGzip is nginx that compresses the backend's text.
func NginxGzip(p *Peer, level int) *Peer {
	return varyNginx(p, fmt.Sprintf("%s gzip %d", p.Name, level), func(text string, _ Setup, err *error) string {
		return edit(err, text, "gzip off;", fmt.Sprintf("gzip on;\n  gzip_types text/plain;\n  gzip_min_length 1024;\n  gzip_comp_level %d;", level))
	})
}

// NginxFiles is nginx that serves the files of the root with sendfile. With cached it keeps them
// open, and looks only once a second whether they have changed.
func NginxFiles(p *Peer, cached bool) *Peer {
	name, cache := p.Name, ""
	if cached {
		name += " +open_file_cache"
		cache = "\n      open_file_cache max=1000 inactive=5s;\n      open_file_cache_valid 1s;"
	}
	return varyNginx(p, name, func(text string, s Setup, err *error) string {
		before, rest, _ := strings.Cut(text, "    location / {\n")
		_, after, found := strings.Cut(rest, "\n    }\n")
		if !found {
			*err = fmt.Errorf("the configuration has no location")
		}
		return before + fmt.Sprintf(`    location / {
      root %s;
      types { text/html html; }
      sendfile on;
      tcp_nopush on;%s
    }
`, s.Root, cache) + after
	})
}
