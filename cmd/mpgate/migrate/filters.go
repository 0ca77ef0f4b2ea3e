package migrate

import (
	"slices"
	"strconv"
	"strings"

	"mpgate/internal/nginxconf"
)

// filter writes the filters of a route, in the order in which they act.
func (c *content) filter() {
	if c.route.get("answer") == nil && c.route.get("redirect") == nil { // return precedes access
		c.access()
		c.limit()
		c.basicAuth()
		c.forwardAuth()
	}
	c.requestHeaders()
	c.responseHeaders()
	c.cookies()
	c.compress()
	c.errorPages()
	c.log()
}

// compress translates gzip, brotli and zstd.
func (c *content) compress() {
	var d *nginxconf.Directive
	kind := ""
	for _, k := range []string{"gzip", "brotli", "zstd"} {
		if c.scope.on(k) {
			d, kind = c.scope.one(k), k
			break
		}
	}
	if d == nil || c.route.get("redirect") != nil || c.route.get("answer") != nil {
		return
	}
	z := &table{}
	if types := c.scope.one(kind + "_types"); types != nil && !slices.Contains(types.Args, "*") {
		l := slices.Clone(types.Args)
		if !slices.Contains(l, "text/html") {
			l = append([]string{"text/html"}, l...)
		}
		z.set("types", all(l), types)
	}
	if least := c.scope.one(kind + "_min_length"); least != nil {
		if v, ok := size(least.Arg(0)); ok && v != "20B" && v != "0" {
			z.set("min", v, least)
		}
	}
	if len(z.keys) == 0 {
		c.route.set("compress", true, d)
		return
	}
	c.route.set("compress", z, d)
}

// errorPages translates error_page to files.
func (c *content) errorPages() {
	pages := &table{}
	for _, d := range c.scope.inherited("error_page") {
		if len(d.Args) < 2 {
			continue
		}
		to, codes := d.Args[len(d.Args)-1], d.Args[:len(d.Args)-1]
		if strings.HasPrefix(codes[len(codes)-1], "=") {
			if codes[0] != "401" {
				c.t.say(d, "%s: left out: the status of an answer stays", codes[len(codes)-1])
			}
			codes = codes[:len(codes)-1]
		}
		if !strings.HasPrefix(to, "/") || strings.Contains(to, "$") {
			if len(codes) > 0 && codes[0] != "401" {
				c.t.say(d, "left out: error_pages takes files: { \"404\" = \"404.html\" }")
			}
			continue
		}
		file := c.pageFile(to)
		if file == "" {
			c.t.say(d, "left out: %s is not a file", to)
			continue
		}
		for _, code := range spans(codes) {
			if !c.scope.on("proxy_intercept_errors") {
				pages.set(code, file, d)
				continue
			}
			page := &table{}
			page.set("file", file, d)
			page.set("servers", true, d)
			pages.set(code, page, d)
		}
	}
	if len(pages.keys) > 0 {
		c.route.set("error_pages", pages, pages.keys[0].origin)
	}
}

// pageFile returns the file of a path of this server, "" if the path is no file.
func (c *content) pageFile(uri string) string {
	sc := c.site.scope
	for _, l := range c.site.locations {
		if l.pattern == uri || slices.Contains(l.paths, uri) {
			sc = l.scope
		}
	}
	if sc.first("proxy_pass", "return") != nil {
		return ""
	}
	if a := sc.first("alias"); a != nil && !strings.Contains(a.Arg(0), "$") {
		return c.t.path(a.Arg(0))
	}
	if r := sc.one("root"); r != nil && !strings.Contains(r.Arg(0), "$") {
		return c.t.path(strings.TrimSuffix(r.Arg(0), "/") + uri)
	}
	return ""
}

// spans joins statuses that follow each other: 500 502 503 504 are 500 and 502-504.
func spans(codes []string) (out []string) {
	from, last := 0, -1
	flush := func() {
		switch {
		case last < 0:
		case from == last:
			out = append(out, strconv.Itoa(from))
		default:
			out = append(out, strconv.Itoa(from)+"-"+strconv.Itoa(last))
		}
	}
	numbers := make([]int, 0, len(codes))
	for _, code := range codes {
		if n, err := strconv.Atoi(code); err == nil && n >= 400 && n < 600 {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		if n != last+1 || last < 0 {
			flush()
			from = n
		}
		last = n
	}
	flush()
	return out
}

// log translates access_log off.
func (c *content) log() {
	if d := c.scope.one("access_log"); d != nil && d.Arg(0) == "off" {
		c.route.set("log", false, d)
	}
}
