package migrate

import (
	"slices"
	"strconv"
	"strings"

	"mpgate/internal/nginxconf"
)

// limit translates the limits of bodies, rates and concurrency.
func (c *content) limit() {
	var limits []*table
	first := func() *table {
		if len(limits) == 0 {
			limits = append(limits, &table{})
		}
		return limits[0]
	}
	d := c.scope.one("client_max_body_size")
	v := "1MiB"
	if d != nil {
		var ok bool
		if v, ok = size(d.Arg(0)); !ok {
			c.t.say(d, "left out: the size has no variables")
			v = "1MiB"
		}
	}
	serves := c.route.get("backend") != nil || c.route.get("files") != nil && inlineHas(c.route.get("files"), "backend")
	for _, d := range c.scope.inherited("limit_req") {
		c.rate(&limits, d)
	}
	for _, d := range c.scope.inherited("limit_conn") {
		c.concurrency(first, d)
	}
	if dry := c.scope.one("limit_req_dry_run"); dry != nil && dry.Arg(0) == "on" && len(limits) > 0 {
		first().set("dry_run", true, dry)
	}
	if v != "0" && serves && (v != "1MiB" || len(limits) > 0) {
		f := first()
		f.keys = slices.Insert(f.keys, 0, entry{"body", v, d})
	}
	defaults := c.t.head.get("defaults") != nil
	if v == "0" && serves && defaults && len(limits) == 0 {
		first().set("body", "0", d)
	}
	switch len(limits) {
	case 0:
	case 1:
		c.route.set("limit", limits[0], d)
	default:
		var l []any
		for _, one := range limits {
			l = append(l, one)
		}
		c.route.set("limit", l, d)
	}
}

func inlineHas(v any, name string) bool {
	t, ok := v.(*table)
	if !ok {
		return false
	}
	f, ok := t.get("fallback").(*table)
	return ok && f.get(name) != nil
}

// param returns the value of name=value among the arguments of a directive.
func param(d *nginxconf.Directive, name string) string {
	for _, a := range d.Args {
		if v, ok := strings.CutPrefix(a, name+"="); ok {
			return v
		}
	}
	return ""
}

// rate translates one limit_req.
func (c *content) rate(limits *[]*table, d *nginxconf.Directive) {
	zone := c.t.zones["limit_req_zone "+param(d, "zone")]
	if zone == nil {
		c.t.say(d, "left out: there is no limit_req_zone %q", param(d, "zone"))
		return
	}
	key, why := template(zone.Arg(0), c.scope)
	rate := param(zone, "rate")
	if why != "" || zone.Arg(0) == "" || !strings.HasSuffix(rate, "r/s") && !strings.HasSuffix(rate, "r/m") {
		c.t.say(d, "left out: the key %q of the zone: %s", zone.Arg(0), why)
		return
	}
	l := &table{}
	l.set("rate", strings.Replace(rate, "r/", "/", 1), d)
	if burst := param(d, "burst"); burst != "" {
		if n, err := strconv.Atoi(burst); err == nil {
			l.set("burst", n+1, d)
		}
	} else {
		l.set("burst", 1, d)
	}
	if key != "{client}" {
		l.set("key", key, zone)
	}
	if !slices.Contains(d.Args, "nodelay") && param(d, "burst") != "" {
		c.t.say(d, "mpgate lets a burst through at once (nodelay) and answers 429 above it; nginx delays and answers 503")
	}
	*limits = append(*limits, l)
}

// concurrency translates one limit_conn.
func (c *content) concurrency(limit func() *table, d *nginxconf.Directive) {
	zone := c.t.zones["limit_conn_zone "+d.Arg(0)]
	n, err := strconv.Atoi(d.Arg(1))
	if zone == nil || err != nil || n < 1 {
		c.t.say(d, "left out: there is no limit_conn_zone %q", d.Arg(0))
		return
	}
	key, why := template(zone.Arg(0), c.scope)
	switch {
	case why != "":
		c.t.say(d, "left out: the key of the zone: %s", why)
	case zone.Arg(0) == "$server_name" || zone.Arg(0) == "$host":
		c.t.say(d, "mpgate counts the requests of a route, not of a server")
		limit().set("requests", n, d)
	default:
		l := limit()
		l.set("per_key", n, d)
		if key != "{client}" && l.get("key") == nil {
			l.set("key", key, zone)
		}
	}
}
