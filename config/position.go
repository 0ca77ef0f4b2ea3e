package config

import (
	"strconv"
	"strings"
)

// position is where something stands.
type position struct {
	file string
	line int
}

// Position is where a key stands, for whoever finds a fault with it later (a bind that fails, a certificate that cannot be read). The path is
// that of faults ("listener.web.tls.certificates[0].cert"); an entry's number ("listener[0]", over all files) does as well. A key that
// was left out has the place of its table, and the end of all that is line 1 of the main file.
func (c *Config) Position(path string) (file string, line int) {
	for path = c.byName(path); path != ""; path = parentKey(path) {
		if p, ok := c.places[path]; ok {
			return p.file, p.line
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
