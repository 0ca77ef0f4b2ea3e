package config

import (
	"strings"

	"mpgate/proxy/files"
)

// Files is the action that answers with the files of a directory.
type Files struct {
	Root          string    `toml:"root" as:"file" required:"name the directory, for example root = \"/srv/www\"" eg:"/srv/www" help:"Directory with the files."`
	Index         string    `toml:"index" default:"index.html" help:"Name of the file for a directory; empty for none."`
	Fallback      *Fallback `toml:"fallback,inline" short:"path" help:"What answers if there is no such file: a file or a backend."`
	Precompressed bool      `toml:"precompressed" default:"false" help:"Whether NAME.zst, NAME.br or NAME.gz are sent instead of NAME if the client accepts them."`
}

// Fallback is a file or a backend.
type Fallback struct {
	Path    string `toml:"path" as:"exact_path" group:"fallback" eg:"/index.html" help:"Path of a file below the root."`
	Backend string `toml:"backend" group:"fallback" eg:"api" help:"Name of a backend, which also gets all methods but GET and HEAD."`
}

// Options are the options for package files.
func (f *Files) Options() files.Options {
	o := files.Options{Root: f.Root, Index: f.Index, Precompressed: f.Precompressed}
	if f.Fallback != nil {
		o.Fallback = f.Fallback.Path
	}
	return o
}

// BackendName is the name of the backend that answers requests of the route, or those for which
// there is no file; "" for none.
func (r *Route) BackendName() string {
	if r.Files != nil && r.Files.Fallback != nil {
		return r.Files.Fallback.Backend
	}
	return r.Backend
}

func (c routeCheck) files(f *Files, n *node) {
	if f.Root == "" || n.unset("index", "fallback") || n.get("fallback").unset("path") {
		return
	}
	if _, err := files.New(f.Options()); err != nil {
		key, problem, _ := strings.Cut(err.Error(), ": ")
		c.fault(n.get(key).at, "%s", problem)
	}
}
