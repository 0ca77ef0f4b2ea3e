package migrate

import (
	"path"
	"path/filepath"
	"strings"

	"mpgate/internal/nginxconf"
)

// tries translates try_files.
func (c *content) tries() bool {
	d := c.scope.first("try_files")
	if d == nil {
		if d = c.scope.one("try_files"); d == nil || c.scope.first("proxy_pass", "grpc_pass", "fastcgi_pass", "uwsgi_pass", "return") != nil {
			return false
		}
	}
	if len(d.Args) < 2 {
		return false
	}
	last := d.Args[len(d.Args)-1]
	for _, a := range d.Args[:len(d.Args)-1] {
		switch {
		case a == "$uri" || a == "$uri/" || a == "$uri/index.html":
		default:
			c.t.say(d, "%s: left out: files tries the path, and index.html in a directory", a)
		}
	}
	name, _, _ := strings.Cut(last, "?")
	switch {
	case strings.HasPrefix(last, "@"):
		return c.triesNamed(d, last)
	case strings.HasPrefix(last, "="):
		c.files()
	case strings.HasSuffix(name, ".php"):
		c.files()
		c.t.say(d, "%s: left out: mpgate does not speak FastCGI; what is not a file is answered with 404", last)
	default:
		f := c.files()
		fallback, ok := constant(name, c.scope)
		if f == nil || !ok || !strings.HasPrefix(fallback, "/") {
			c.t.say(d, "%s: left out: a fallback is a path below the root", last)
			return true
		}
		if c.scope.first("alias") != nil {
			fallback = "/" + strings.TrimPrefix(strings.TrimPrefix(fallback, strings.TrimSuffix(c.location.pattern, "/")), "/")
		}
		f.set("fallback", path.Clean(fallback), d)
	}
	return true
}

// triesNamed is a try_files that ends in a named location.
func (c *content) triesNamed(d *nginxconf.Directive, name string) bool {
	sc := c.site.named[name]
	if sc == nil {
		c.t.say(d, "left out: there is no location %s", name)
		return false
	}
	rootless := c.scope.one("root") == nil && c.scope.first("alias") == nil
	c.headers = sc
	if !c.handler(sc) {
		c.headers = c.scope
		c.t.say(d, "%s: left out: a fallback is a file or a backend", name)
		c.files()
		return true
	}
	backend := c.route.text("backend")
	if backend == "" || rootless { // answered here, or no files at all
		return true
	}
	c.route.remove("backend")
	if f := c.files(); f != nil {
		f.child("fallback", d).set("backend", backend, d)
	}
	return true
}

// files writes the action for files of root or alias; nil if there is none.
func (c *content) files() *table {
	alias, root := c.scope.first("alias"), c.scope.one("root")
	d, dir := root, ""
	switch {
	case alias != nil:
		d = alias
		var ok bool
		if dir, ok = constant(alias.Arg(0), c.scope); !ok || c.location.regex != "" || c.location.kind == "~" {
			c.t.say(alias, "left out: the name of a directory has no variables; the route answers 404")
			c.answer(404, alias)
			return nil
		}
		if c.location.kind == "=" {
			c.route.set("rewrite", canonical("/"+filepath.Base(dir)), alias)
			dir = filepath.Dir(dir)
		} else {
			c.route.set("rewrite", "/*", alias)
		}
	case root != nil:
		var ok bool
		if dir, ok = constant(root.Arg(0), c.scope); !ok {
			c.t.say(root, "left out: the name of a directory has no variables; the route answers 404")
			c.answer(404, root)
			return nil
		}
	default:
		c.answer(404, c.location.d)
		return nil
	}
	if dir = filepath.Clean(dir); dir == "." {
		dir = "/"
	}
	c.rewrites(c.scope)
	f := c.route.child("files", d)
	f.set("root", c.t.path(dir), d)
	c.fileKeys(f)
	return f
}

// fileKeys writes the keys of files other than the root.
func (c *content) fileKeys(f *table) {
	if d := c.scope.one("index"); d != nil && d.Arg(0) != "index.html" {
		for _, name := range d.Args {
			if strings.Contains(name, "$") || strings.HasSuffix(name, ".php") {
				continue
			}
			if name != "index.html" {
				f.set("index", name, d)
			}
			break
		}
		if len(d.Args) > 1 && f.get("index") != nil {
			c.t.say(d, "only the first name is used")
		}
	}
	if c.scope.on("gzip_static") || c.scope.on("brotli_static") || c.scope.on("zstd_static") {
		f.set("precompressed", true, c.scope.one("gzip_static"))
	}
	if d := c.scope.one("autoindex"); d != nil && d.Arg(0) == "on" {
		c.t.say(d, "left out: mpgate does not list directories")
	}
}
