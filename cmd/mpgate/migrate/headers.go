package migrate

import (
	"slices"
	"strings"

	"mpgate/internal/nginxconf"
)

// sent are the fields that mpgate sends to servers by itself, and values that are the same.
var sent = map[string][]string{
	"host":                     {"$host", "$http_host", "$host:$server_port", "$server_name", "$host:$proxy_port"},
	"x-real-ip":                {"$remote_addr", "$http_x_real_ip", "$realip_remote_addr", "$proxy_protocol_addr"},
	"x-forwarded-for":          {"$proxy_add_x_forwarded_for", "$remote_addr", "$http_x_forwarded_for", "$proxy_protocol_addr"},
	"x-forwarded-proto":        {"$scheme", "$http_x_forwarded_proto", "https", "http"},
	"x-forwarded-host":         {"$host", "$http_host", "$server_name", "$host:$server_port", "$http_x_forwarded_host"},
	"x-request-id":             {"$request_id"},
	"upgrade":                  {"$http_upgrade"},
	"connection":               {"upgrade", "Upgrade", "", "keep-alive", "close", "$http_connection"},
	"te":                       {"trailers", "$http_te"},
	"sec-websocket-key":        {"$http_sec_websocket_key"},
	"sec-websocket-version":    {"$http_sec_websocket_version"},
	"sec-websocket-extensions": {"$http_sec_websocket_extensions"},
}

// requestHeaders translates proxy_set_header.
func (c *content) requestHeaders() {
	if c.upstream == "" || c.t.closed[c.route] {
		return
	}
	h := &table{}
	hasHost := false
	for _, d := range c.headers.inherited("proxy_set_header", "grpc_set_header") {
		name, value := d.Arg(0), d.Arg(1)
		hasHost = hasHost || strings.EqualFold(name, "host")
		if c.t.done[d] && strings.HasPrefix(value, "$") || c.sentAnyway(strings.ToLower(name), value) {
			continue
		}
		if strings.EqualFold(name, "host") && (value == "$proxy_host" || value == c.upstream) {
			c.setHost(h, d)
			continue
		}
		v, why := template(value, c.headers)
		switch {
		case strings.EqualFold(name, "connection") || strings.EqualFold(name, "upgrade"):
			c.t.say(d, "left out: mpgate manages the connection by itself")
		case why != "":
			c.t.say(d, "left out: %s", why)
		case slices.Contains([]string{"transfer-encoding", "content-length", "keep-alive", "te", "trailer", "x-forwarded-for"}, strings.ToLower(name)):
			c.t.say(d, "left out: mpgate writes %s by itself", name)
		default:
			h.set(name, v, d)
		}
	}
	if !hasHost {
		c.setHost(h, c.headers.first("proxy_pass", "grpc_pass"))
	}
	if len(h.keys) > 0 {
		c.route.set("request_headers", h, h.keys[0].origin)
	}
}

// sentAnyway reports whether mpgate sends a field with this value by itself.
func (c *content) sentAnyway(name, value string) bool {
	value = strings.NewReplacer("${", "$", "}", "").Replace(value)
	if slices.Contains(sent[name], value) {
		return true
	}
	if name == "connection" {
		m := c.t.maps[strings.TrimPrefix(value, "$")]
		return m != nil && m.Arg(0) == "$http_upgrade"
	}
	return name == "host" && c.scheme() != "" && len(c.site.names) == 1 && value == c.site.names[0]
}

// setHost writes the Host that nginx sends where the configuration does not say which: the name in
// proxy_pass. A name without a dot is one of a block upstream or of a container, which servers do
// not ask for.
func (c *content) setHost(h *table, d *nginxconf.Directive) {
	name, _, _ := strings.Cut(c.upstream, ":")
	if strings.Contains(name, ".") && strings.Trim(name, "0123456789.") != "" && c.t.upstreams[c.upstream] == nil {
		h.set("Host", c.upstream, d)
	}
}

// responseHeaders translates add_header, proxy_hide_header and expires.
func (c *content) responseHeaders() {
	if c.t.closed[c.route] {
		return
	}
	h := &table{}
	for _, d := range c.scope.inherited("proxy_hide_header", "grpc_hide_header", "more_clear_headers") {
		for _, name := range d.Args {
			h.set(name, "", d)
		}
	}
	for _, d := range c.scope.inherited("expires") {
		c.expires(h, d)
	}
	for _, d := range c.scope.inherited("add_header") {
		c.addHeader(h, d)
	}
	for _, d := range c.scope.inherited("more_set_headers") {
		for _, a := range d.Args {
			name, value, _ := strings.Cut(a, ":")
			if v, why := template(strings.TrimSpace(value), c.scope); why == "" && !strings.HasPrefix(a, "-") {
				h.set(name, v, d)
			} else {
				c.t.say(d, "%s: left out", a)
			}
		}
	}
	if len(h.keys) > 0 {
		c.route.set("response_headers", h, h.keys[0].origin)
	}
}

func (c *content) addHeader(h *table, d *nginxconf.Directive) {
	name, value := d.Arg(0), d.Arg(1)
	if strings.EqualFold(name, "Alt-Svc") && strings.Contains(value, "h3") {
		c.t.say(d, "left out: mpgate does not speak HTTP/3")
		return
	}
	if strings.EqualFold(name, "Content-Type") && c.route.get("answer") != nil {
		return // the type of the answer
	}
	if value == "" {
		return // nginx sends no field with an empty value
	}
	v, why := template(value, c.scope)
	if why != "" {
		c.t.say(d, "left out: %s", why)
		return
	}
	// nginx adds to what a server sends; a value of ours replaces it, which is what is meant.
	switch old := h.get(name).(type) {
	case string:
		if old == "" || old == v {
			h.set(name, v, d)
			return
		}
		if strings.EqualFold(name, "Cache-Control") { // of expires
			h.set(name, old+", "+v, d)
			return
		}
		h.set(name, []any{old, v}, d)
	case []any:
		h.set(name, append(old, v), d)
	default:
		h.set(name, v, d)
	}
}

// expires translates to Cache-Control.
func (c *content) expires(h *table, d *nginxconf.Directive) {
	arg := d.Arg(0)
	switch {
	case arg == "off":
	case arg == "max":
		h.set("Cache-Control", "max-age=315360000", d)
	case arg == "epoch" || strings.HasPrefix(arg, "-"):
		h.set("Cache-Control", "no-cache", d)
	default:
		v, ok := seconds(arg)
		if !ok || len(d.Args) > 1 {
			c.t.say(d, "left out: write response_headers = { Cache-Control = \"max-age=…\" }")
			return
		}
		h.set("Cache-Control", "max-age="+v, d)
	}
}
