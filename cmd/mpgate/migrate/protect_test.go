package migrate

import (
	"strings"
	"testing"

	"mpgate/internal/nginxconf"
)

// TestFailsClosed: a location whose restriction cannot be translated answers 403, what mpgate
// cannot serve 501, and what is lost is said.
func TestFailsClosed(t *testing.T) {
	for _, c := range []struct{ location, want string }{
		{`location /a { allow 10.0.0.0/8; deny 10.1.0.0/16; deny all; proxy_pass http://10.0.0.1; }`, "403"},
		{`location /a { deny 10.0.0.0/8; allow 10.1.0.0/16; deny 10.2.0.0/16; proxy_pass http://10.0.0.1; }`, "403"},
		{`location /a { deny unix:; proxy_pass http://10.0.0.1; }`, "403"},
		{`location /a { deny all; allow 10.0.0.0/8; proxy_pass http://10.0.0.1; }`, "403"},
		{`location /a { auth_basic x; proxy_pass http://10.0.0.1; }`, "403"},
		{`location /a { auth_basic x; auth_basic_user_file /etc/$host; proxy_pass http://10.0.0.1; }`, "403"},
		{`location /a { auth_jwt x; proxy_pass http://10.0.0.1; }`, "403"},
		{`location /a { auth_request /none; proxy_pass http://10.0.0.1; }`, "403"},
		{`location /a { auth_request /b; proxy_pass http://10.0.0.1; } location /b { proxy_pass http://$host; }`, "403"},
		{`root /srv; location /a { fastcgi_pass unix:/run/php.sock; }`, "501"},
		{`root /srv; location /a { uwsgi_pass app:1; }`, "501"},
		{`root /srv; location /a { proxy_pass http://$arg_x; }`, "501"},
		{`root /srv; location /a { content_by_lua_block { x } }`, "501"},
		{`location ~ ^/(?=a) { deny all; }`, ""},
		{`location ~ ^/a[0-9]+ { deny all; } location /a { proxy_pass http://10.0.0.1; }`, ""},
		{`location ~* secret { auth_basic x; auth_basic_user_file f; proxy_pass http://10.0.0.1; } location /a { root /srv; }`, ""},
		{`location /a { if ($http_user_agent ~* bot) { return 403; } proxy_pass http://10.0.0.1; }`, ""},
		{`location /a { access_by_lua_block { x } proxy_pass http://10.0.0.1; }`, ""},
		{`location /a { secure_link $arg_md5; proxy_pass http://10.0.0.1; }`, ""},
	} {
		tr, err := translate([]string{"nginx.conf"}, Options{Source: memory("server { " + c.location + " }")})
		if err != nil {
			t.Fatal(err)
		}
		tr.prune()
		text := string(tr.text())
		closed := strings.Contains(text, "path = \"/a/*\" }\nanswer = { status = "+c.want+" }")
		if c.want != "" && (!closed || tr.unprotected) || c.want == "" && !tr.unprotected {
			t.Errorf("%s\nis (unprotected: %v)\n%s", c.location, tr.unprotected, text)
		}
	}
}

// TestSettleFailsClosed: what package config refuses of a restricted route closes it, or is said.
func TestSettleFailsClosed(t *testing.T) {
	d := &nginxconf.Directive{Name: "deny", File: "nginx.conf", Line: 1}
	restricted := func() (*translator, *table) {
		r := &table{}
		r.set("name", "a", d)
		r.set("match", &table{}, d)
		r.set("backend", "b", d)
		r.set("allow", all([]string{"10.0.0.0/8"}), d)
		r.set("log", false, d)
		return &translator{routes: []*table{r}, closed: map[*table]bool{}, guards: map[*table]*nginxconf.Directive{r: d}}, r
	}
	tr, r := restricted()
	tr.routeFault(r, []string{"allow[0]"}, "route.a.allow[0]", "is wrong")
	if got := inline(r); got != `{ name = "a", match = {}, answer = { status = 403 } }` || tr.unprotected {
		t.Errorf("%s, %v", got, tr.unprotected)
	}
	tr.routeFault(r, []string{"answer", "status"}, "route.a.answer.status", "is wrong")
	if len(tr.routes) != 0 || !tr.unprotected {
		t.Errorf("%d routes, %v", len(tr.routes), tr.unprotected)
	}
	tr, r = restricted()
	tr.routeFault(r, []string{"match", "path[0]"}, "route.a.match.path[0]", "is wrong")
	if len(tr.routes) != 0 || !tr.unprotected {
		t.Errorf("%d routes, %v", len(tr.routes), tr.unprotected)
	}
	tr, r = restricted()
	tr.routeFault(r, []string{"log"}, "route.a.log", "is wrong")
	if r.get("log") != nil || r.get("backend") == nil || tr.unprotected {
		t.Errorf("%s, %v", inline(r), tr.unprotected)
	}
}
