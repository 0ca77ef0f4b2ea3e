package migrate

import (
	"regexp"
	"slices"
	"strings"

	"mpgate/internal/nginxconf"
)

// internal reports whether an internal location can be asked for by X-Accel-Redirect. Others are
// for error_page and auth_request.
func (c *content) internal() bool {
	if !c.site.internal(c.location) {
		return false
	}
	c.route.set("internal", true, c.scope.first("internal"))
	return true
}

// internal reports whether a location is one for X-Accel-Redirect: it is internal, says what is
// served, and nothing of the site leads to it otherwise.
func (s *site) internal(l *location) bool {
	if l.scope.first("internal") == nil || l.scope.first("alias", "root", "proxy_pass") == nil || s.asks(l.pattern) {
		return false
	}
	isPage := func(d *nginxconf.Directive) bool { return l.covers(d.Arg(len(d.Args) - 1)) }
	return !slices.ContainsFunc(s.scope.inherited("error_page"), isPage) &&
		!slices.ContainsFunc(s.locations, func(other *location) bool { return slices.ContainsFunc(other.scope.here("error_page"), isPage) })
}

// covers reports whether a location is for a path, as far as that can be said of it alone.
func (l *location) covers(path string) bool {
	switch l.kind {
	case "=":
		return path == l.pattern
	case "~", "~*":
		re, err := regexp.Compile(l.pattern)
		return err == nil && re.MatchString(path)
	}
	return strings.HasPrefix(path, l.pattern)
}

// accel lets the servers of a route redirect to the internal locations of its site, as nginx does
// everywhere.
func (c *content) accel() {
	files, _ := c.route.get("files").(*table)
	forwards := c.route.get("backend") != nil || files != nil && files.get("fallback") != nil
	if !forwards || c.route.get("internal") != nil || c.t.closed[c.route] {
		return
	}
	if i := slices.IndexFunc(c.site.locations, c.site.internal); i >= 0 {
		c.route.set("accel_redirect", true, c.site.locations[i].scope.first("internal"))
	}
}
