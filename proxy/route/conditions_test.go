package route

import (
	"net/netip"
	"strings"
	"testing"

	"mpgate/proxy/message"
)

func TestConditions(t *testing.T) {
	for _, tt := range []struct {
		condition string
		change    func(*Request)
		want      bool
	}{
		{"method=GET,POST", nil, true},
		{"method=POST", nil, false},
		{"method=GET", func(q *Request) { q.Method = []byte("get") }, false},
		{"method=GET", func(q *Request) { q.Method = []byte("HEAD") }, false},
		{"method=X-CUSTOM", func(q *Request) { q.Method = []byte("X-CUSTOM") }, true},

		{"header.X-A=1", nil, false},
		{"header.X-A=1", func(q *Request) { q.with("x-a: 1") }, true},
		{"header.x-a=1", func(q *Request) { q.with("X-A: 1") }, true},
		{"header.X-A=a", func(q *Request) { q.with("X-A: A") }, false},
		{"header.X-A=1", func(q *Request) { q.with("X-A: 1, 2") }, false}, // a list is one value
		{"header.X-A=2", func(q *Request) { q.with("X-A: 1").with("X-B: 2").with("X-A: 2") }, true},
		{"header.X-A=*", func(q *Request) { q.with("X-A: ") }, true},
		{"header.X-A=*", nil, false},
		{"header.X-A=", nil, true},
		{"header.X-A=", func(q *Request) { q.with("X-A: ") }, false},
		{"header.X-A=", func(q *Request) { q.with("X-A: 1"); q.Header.DelName([]byte("X-A")) }, true},
		{"header.User-Agent=curl/8", func(q *Request) { q.with("User-Agent: curl/8") }, true},
		{"header.User-Agent=*", nil, false},
		{"header.Upgrade=websocket", func(q *Request) { q.Upgrade = []byte("WebSocket") }, true},
		{"header.upgrade=WebSocket", func(q *Request) { q.Upgrade = []byte("websocket") }, true},
		{"header.Upgrade=*", func(q *Request) { q.Upgrade = []byte("h2c") }, true},
		{"header.Upgrade=", nil, true},
		{"header.X-Forwarded-Proto=https", func(q *Request) { q.with("X-Forwarded-Proto: https") }, false},
		{"header.X-Forwarded-Proto=https", func(q *Request) { q.TrustedPeer = true; q.with("X-Forwarded-Proto: https") }, true},
		{"header.X-Forwarded-Port=*", func(q *Request) { q.with("X-Forwarded-Port: 443") }, false},
		{"header.X-Real-Ip=", func(q *Request) { q.with("X-Real-IP: 10.0.0.1") }, true},
		{"header.Forwarded=*", func(q *Request) { q.with("Forwarded: for=_a") }, false},

		{"query.v=2", query("v=2"), true},
		{"query.v=2", query("a=1&v=2&b"), true},
		{"query.v=2", query("v=1&v=2"), true},
		{"query.v=2", query("v=1"), false},
		{"query.v=2", query("V=2"), false},
		{"query.v=2", query("v=22"), false},
		{"query.v=2", query("xv=2"), false},
		{"query.v=2", query("%76=%32"), true},
		{"query.v=a_b", query("v=a_b"), true},
		{"query.v=*", query("v"), true},
		{"query.v=*", query("v="), true},
		{"query.v=*", query("a=v"), false},
		{"query.v=*", query("a=1;v=2"), false}, // a semicolon separates nothing
		{"query.v=", query(""), true},
		{"query.v=", query("a=1&&"), true},
		{"query.v=", query("v"), false},
		{"query.v=", query("%76"), false},
		{"query.v=%zz", query("v=%zz"), true}, // an invalid escape stands for itself
		{"query.v=%", query("v=%"), true},
		{"query.v=%2", query("v=%2"), true},
		{"query.v=a=b", query("v=a=b"), true},
		{"query.v=+", query("v=%2B"), true},
		{"query.v=+", query("v=+"), false},

		{"cookie.beta=1", cookie("beta=1"), true},
		{"cookie.beta=1", cookie("a=2; beta=1; c=3"), true},
		{"cookie.beta=1", cookie("a=2;beta=1"), true},
		{"cookie.beta=1", cookie(`beta="1"`), true},
		{"cookie.beta=1", cookie("Beta=1"), false},
		{"cookie.beta=1", cookie("xbeta=1"), false},
		{"cookie.beta=1", cookie("beta=2; beta=1"), true},
		{"cookie.beta=1", cookie("beta = 1"), false},
		{"cookie.beta=*", cookie("beta"), false},
		{"cookie.beta=*", cookie("beta="), true},
		{"cookie.beta=*", cookie("beta=a b"), false}, // not the octets of a cookie
		{"cookie.beta=*", cookie(`beta="a`), false},
		{"cookie.beta=*", cookie(`beta=a\b`), false},
		{"cookie.beta=", cookie("a=beta"), true},
		{"cookie.beta=", cookie("beta=x"), false},
		{"cookie.beta=", nil, true},
		{"cookie.beta=2", func(q *Request) { q.with("Cookie: a=1").with("Cookie: beta=2") }, true},

		{"client=192.0.2.0/24", nil, true},
		{"client=10.0.0.0/8,192.0.2.1/32,2001:db8::/32", nil, true},
		{"client=10.0.0.0/8,192.0.2.2/32", nil, false},
		{"client=192.0.0.0/16,192.0.0.0/8,192.1.0.0/16", nil, true}, // one lies within another
		{"client=::ffff:192.0.2.0/120", nil, true},
		{"client=0.0.0.0/0", client("::ffff:203.0.113.9"), true},
		{"client=fe80::/10", client("fe80::1%eth0"), true},
		{"client=0.0.0.0/0", client("2001:db8::1"), false},
		{"client=0.0.0.0/0,::/0", func(q *Request) { q.Client = netip.Addr{} }, false},

		{"method=GET header.X-A=1 query.v=2 cookie.c=*", func(q *Request) { query("v=2")(q.with("X-A: 1").with("Cookie: c=x")) }, true},
		{"method=GET header.X-A=1 query.v=2 cookie.c=*", func(q *Request) { query("v=3")(q.with("X-A: 1").with("Cookie: c=x")) }, false},
	} {
		table := buildRules(t, "- - - "+tt.condition)
		q := ask("", "/", "")
		if tt.change != nil {
			tt.change(q)
		}
		if _, ok := table.Match(q); ok != tt.want {
			t.Errorf("%s: got %v, want %v; query %q", tt.condition, ok, tt.want, q.Query)
		}
		e := table.Explain(q)
		if why := e.Candidates[0].Why; (e.Chosen == 0) != tt.want || !tt.want && !strings.Contains(why, ": want ") {
			t.Errorf("%s: explained %q", tt.condition, why)
		}
		if n := testing.AllocsPerRun(20, func() { table.Match(q) }); n != 0 {
			t.Errorf("%s: %v allocations", tt.condition, n)
		}
	}
}

func query(s string) func(*Request) { return func(q *Request) { q.Query = []byte(s) } }

func cookie(s string) func(*Request) { return func(q *Request) { q.with("Cookie: " + s) } }

func client(s string) func(*Request) { return func(q *Request) { q.Client = netip.MustParseAddr(s) } }

// A name and a value with characters that a query can only have encoded.
func TestQueryIsDecoded(t *testing.T) {
	table, err := Build([]rule{{Value: "x", Match: Match{Query: map[string]string{"a b": "c&d=é"}}}})
	if err != nil {
		t.Fatal(err)
	}
	for s, want := range map[string]string{"a+b=c%26d%3D%C3%A9": "x", "a%20b=c%26d%3d%c3%a9": "x", "a%2Bb=c%26d%3D%C3%A9": "", "a+b=c%26d%3D%E9": ""} {
		q := ask("", "/?"+s, "")
		if got := table.match(q); got != want {
			t.Errorf("%s: got %q, want %q", s, got, want)
		}
	}
	if got := table.Explain(ask("", "/?a+b=c+%26", "")).Candidates[0].Why; got != `query a b: want "c&d=é", got "c &"` {
		t.Errorf("got %s", got)
	}
}

// What fails is named with what the request has.
func TestFailures(t *testing.T) {
	q := ask("a", "/?v=1", "web").with("X-A: 1").with("Cookie: c=2").with("X-Forwarded-Proto: https")
	for condition, want := range map[string]string{
		"method=PUT,POST,PATCH":           "method: want PATCH, POST or PUT, got GET",
		"header.X-A=2":                    `header X-A: want "2", got "1"`,
		"header.x-b=*":                    "header X-B: want any value, got none",
		"header.X-Forwarded-Proto=*":      "header X-Forwarded-Proto: want any value, got none: the peer is not a trusted proxy",
		"query.v=":                        `query v: want none, got "1"`,
		"cookie.c=3":                      `cookie c: want "3", got "2"`,
		"client=10.0.0.0/8":               "client: want 10.0.0.0/8, got 192.0.2.1",
		"method=GET query.v=1 cookie.d=*": "cookie d: want any value, got none",
	} {
		if got := buildRules(t, "- - - "+condition).Explain(q).Candidates[0].Why; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	q.Client = netip.Addr{}
	if got := buildRules(t, "- - - client=10.0.0.0/8").Explain(q).Candidates[0].Why; got != "client: want 10.0.0.0/8, got none" {
		t.Errorf("got %s", got)
	}
}

// Rules with conditions are tried in the order of the file, the one without them last; if none
// holds, what is less specific is tried.
func TestConditionsFallThrough(t *testing.T) {
	table := buildRules(t,
		"a /x/* -",
		"a /x/* - query.v=2",
		"a /x/* - query.v=*",
		"a /x/y/* - header.A=1",
		"a /x/y/z - method=POST",
		"a /x/*/z - method=PUT",
		"a /**/z - query.w=1",
		"a ~/z$ - method=DELETE",
		"*.b - - method=GET",
		"- - -",
	)
	for _, tt := range []struct {
		path   string
		method string
		field  string
		want   string
	}{
		{"/x/y/z", "POST", "A: 1", "a /x/y/z - method=POST"},
		{"/x/y/z", "GET", "A: 1", "a /x/y/* - header.A=1"},
		{"/x/y/z", "GET", "A: 2", "a /x/* -"},
		{"/x/y/z", "PUT", "A: 2", "a /x/*/z - method=PUT"},
		{"/x/y/z?v=1", "GET", "A: 2", "a /x/* - query.v=*"},
		{"/x/y/z?v=2", "GET", "A: 2", "a /x/* - query.v=2"},
		{"/y/z?w=1", "GET", "A: 1", "a /**/z - query.w=1"},
		{"/y/z", "DELETE", "A: 1", "a ~/z$ - method=DELETE"},
		{"/y/z", "GET", "A: 1", "- - -"},
	} {
		q := ask("a", tt.path, "").with(tt.field)
		q.Method = []byte(tt.method)
		if got := table.match(q); got != tt.want {
			t.Errorf("%s %s, %s: got %q, want %q", tt.method, tt.path, tt.field, got, tt.want)
		}
	}
	q := ask("x.b", "/", "")
	q.Method = []byte("PUT")
	if got := table.match(q); got != "- - -" {
		t.Errorf("a host whose rule does not hold: got %q", got)
	}
}

// A bare Request, as for the name of a TLS handshake, matches by host.
func TestBareRequest(t *testing.T) {
	table := buildRules(t, "a - -", "b /x -", "- *.js -", "- ~x -", "- - - method=GET", "- - - query.a= header.B= cookie.c=")
	for host, want := range map[string]string{"a": "a - -", "b": "- - - query.a= header.B= cookie.c="} {
		if got := table.match(&Request{Request: &message.Request{Host: []byte(host)}}); got != want {
			t.Errorf("%s: got %q, want %q", host, got, want)
		}
	}
}
