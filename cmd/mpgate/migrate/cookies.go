package migrate

import "strings"

// cookies translates proxy_cookie_flags for all cookies.
func (c *content) cookies() {
	if c.route.get("backend") == nil {
		return
	}
	for _, d := range c.scope.inherited("proxy_cookie_flags") {
		switch name := d.Arg(0); {
		case name == "off":
			return
		case strings.Trim(name, "~*^.$") != "":
			c.t.say(d, "left out: cookies = { … } is for all cookies of a route, not for %q only", name)
			continue
		}
		for _, flag := range d.Args[1:] {
			flag = strings.ToLower(flag)
			site, isSite := strings.CutPrefix(flag, "samesite=")
			switch {
			case flag == "secure":
				c.route.child("cookies", d).set("secure", true, d)
			case flag == "httponly":
				c.route.child("cookies", d).set("http_only", true, d)
			case isSite:
				c.route.child("cookies", d).set("same_site", site, d)
			default:
				c.t.say(d, "%s: left out: mpgate takes no attribute off cookies", flag)
			}
		}
		return // the first one that matches a cookie is used
	}
}
