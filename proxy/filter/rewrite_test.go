package filter_test

import (
	"strings"
	"testing"

	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/proxy/target"
)

func rewrite(t testing.TB, to string, o filter.RewriteOptions) *filter.Rewrite {
	t.Helper()
	f, err := filter.NewRewrite(to, o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// prefixed is a request for a path that "prefix/*" has matched.
func prefixed(path, prefix string) *filter.Request {
	r := requestFor(path)
	r.Match = &matched{path: path, from: min(len(prefix)+1, len(path)), to: len(path)}
	return r
}

func TestRewrite(t *testing.T) {
	for _, tt := range []struct {
		to, path, prefix string
		want             string // "" is refused
	}{
		{"/*", "/api/x/y", "/api", "/x/y"},
		{"/*", "/api/", "/api", "/"},
		{"/*", "/api", "/api", "/"},
		{"/*", "/x", "", "/x"},
		{"/v1/*", "/x", "", "/v1/x"},
		{"/v1/*", "/api/x/", "/api", "/v1/x/"},
		{"/v1/*", "/api", "/api", "/v1/"},
		{"/v1*", "/api/x", "/api", "/v1x"},
		{"/v1/*/end", "/api/x", "/api", "/v1/x/end"},
		{"/index.php", "/api/x", "/api", "/index.php"},
		{"/{host}/*", "/api/x", "/api", "/a.example/x"},
		{"/v1{path}", "/api/x", "/api", "/v1/api/x"},
		{"/v1/{path}", "/api/x", "/api", "/v1/api/x"},
		{"/*", "/api/%20;a=1/%3D", "/api", "/%20;a=1/%3D"},
		{"/q/{query.q}", "/api", "/api", "/q/a%3F%23b%20c"},
		{"/q/{query.dots}/x", "/api", "/api", ""},  // a dot segment
		{"/q/{query.slash}/x", "/api", "/api", ""}, // an encoded slash
		{"/q{query.none}/x", "/api", "/api", "/q/x"},
	} {
		r := prefixed(tt.path, tt.prefix)
		r.Query, r.HasQuery = []byte("q=a%3F%23b+c&dots=..&slash=a%2Fb"), true
		r.Matched.Query, r.Matched.HasQuery = r.Query, true
		refused := rewrite(t, tt.to, filter.RewriteOptions{}).FilterRequest(r)
		if refused != (tt.want == "") || !refused && string(r.Path) != tt.want {
			t.Errorf("%s of %s is %s (%v), want %s", tt.to, tt.path, r.Path, refused, tt.want)
		}
		if refused && r.Answer.Status != 400 {
			t.Errorf("%s of %s: %+v", tt.to, tt.path, r.Answer)
		}
		if string(r.Query) != "q=a%3F%23b+c&dots=..&slash=a%2Fb" || string(r.Matched.Path) != tt.path {
			t.Errorf("%s of %s: the query or the matched path has changed", tt.to, tt.path)
		}
	}
}

// A piece of a canonical path that is a dot segment or a part of an escape in its new place is
// refused: the server would serve what another route may guard.
func TestRewriteOfPieces(t *testing.T) {
	for _, tt := range []struct {
		to, path string
		group    string // what {1}, and the star, is
		want     string
	}{
		// as with an alias without a slash in nginx
		{"/files/{1}", "/dl../secret", "../secret", ""},
		{"/files/{1}", "/dl..", "..", ""},
		{"/files/{1}x", "/dl..", "..", "/files/..x"},
		{"/files{1}", "/dl/x", "/x", "/files/x"},
		{"/files/*", "/a..", "..", ""},
		{"/files/*/x", "/a..", "..", ""},
		{"/{1}", "/x/evil.example", "/evil.example", "/evil.example"},
		{"/f/{1}", "/a%20b", "%2", ""},
		{"/f/{1}", "/a%20b", "20b", "/f/20b"},
		{"/f/{1}2F", "/a%20", "%", ""},
		{"/f/{1}", "/a;..", ";..", "/f/;.."},
		{"/f/..{1}", "/a;x", ";x", ""},
		{"/f/{2}", "/a", "a", "/f/"},
	} {
		f, err := filter.NewRewrite(tt.to, filter.RewriteOptions{})
		if err != nil {
			if tt.want != "" || !strings.Contains(err.Error(), "dot segment") {
				t.Errorf("%s: %v", tt.to, err)
			}
			continue
		}
		r := requestFor(tt.path)
		at := strings.Index(tt.path, tt.group)
		r.Match = &matched{path: tt.path, from: at, to: at + len(tt.group), groups: []int{0, len(tt.path), at, at + len(tt.group), -1, -1}}
		refused := f.FilterRequest(r)
		if refused != (tt.want == "") || !refused && string(r.Path) != tt.want {
			t.Errorf("%s of %q in %s is %s (%v), want %q", tt.to, tt.group, tt.path, r.Path, refused, tt.want)
		}
	}
}

func TestRewriteKeeps(t *testing.T) {
	r := prefixed("/api/a%2Fb", "/api")
	if !rewrite(t, "/*", filter.RewriteOptions{}).FilterRequest(r) {
		t.Error("an encoded slash is rewritten")
	}
	r = prefixed("/api/a%2Fb", "/api")
	if rewrite(t, "/*", filter.RewriteOptions{KeepEncodedSlash: true}).FilterRequest(r) || string(r.Path) != "/a%2Fb" || !r.EncodedSlash {
		t.Errorf("%s: %+v", r.Path, r.Answer)
	}
	for kept, want := range map[string]string{"//api//x//y": "/x//y", "/api///": "/", "//api": "/"} {
		r = requestFor(kept)
		merged := string(target.MergeSlashes([]byte(kept)))
		r.Match = &matched{path: merged, from: min(5, len(merged)), to: len(merged)}
		if rewrite(t, "/*", filter.RewriteOptions{KeepSlashes: true}).FilterRequest(r) || string(r.Path) != want {
			t.Errorf("%s is %s, want %s", kept, r.Path, want)
		}
	}
	r = requestFor("*")
	r.Method = []byte("OPTIONS")
	if rewrite(t, "/x", filter.RewriteOptions{}).FilterRequest(r) || string(r.Path) != "*" {
		t.Errorf("OPTIONS * is for %s", r.Path)
	}
}

func TestRewriteFaults(t *testing.T) {
	for to, want := range map[string]string{
		"":              "does not begin with /",
		"v1/*":          "does not begin with /",
		"{path}":        "does not begin with /",
		"/*/*":          "has more than one *",
		"/a?b=c":        `has a "?" or a "#"`,
		"/a#b":          `has a "?" or a "#"`,
		"/a/../*":       "dot segments",
		"//a/*":         "slashes in a row",
		"/%41/*":        "escapes of plain letters",
		"/%2f/*":        "escapes of plain letters",
		"/%2F/*":        `encoded_slash = "keep"`,
		"/a b":          "percent-encoded",
		"/%4/*":         "two hexadecimal digits",
		"/{hots}":       "unknown variable {hots}",
		"/*{1":          "without a closing brace",
		"/a\r\nX: y":    "line break",
		"/caf\u00e9/*":  "escapes of plain letters",
		"/a/..;x/{1}":   "dot segment",
		"/\\evil/{1}/*": "backslash",
	} {
		if _, err := filter.NewRewrite(to, filter.RewriteOptions{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", to, err, want)
		}
	}
	if got := rewrite(t, "/{2}/{1}", filter.RewriteOptions{}).Captures(); got != 2 {
		t.Errorf("captures: %d", got)
	}
}

// Location, Content-Location and the paths of cookies are translated back.
func TestFollowBack(t *testing.T) {
	for _, tt := range []struct{ to, path, from, want string }{
		{"/*", "/api/x", "Location: /login?next=/x#f", "Location: /api/login?next=/x#f"},
		{"/*", "/api/x", "Location: /", "Location: /api/"},
		{"/*", "/api", "Location: /login", "Location: /api/login"},
		{"/*", "/api/x", "Location: /.well-known/x", "Location: /api/.well-known/x"},
		{"/*", "/api/x", "content-location: /y", "content-location: /api/y"},
		{"/v1/*", "/api/x", "Location: /v1/y", "Location: /api/y"},
		{"/v1/*", "/api/x", "Location: /v1", "Location: /api"},
		{"/v1/*", "/api/x", "Location: /v10/y", "Location: /v10/y"},
		{"/v1/*", "/api/x", "Location: /other", "Location: /other"},
		{"/*", "/api/x", "Location: http://a.example/y", "Location: http://a.example/api/y"},
		{"/*", "/api/x", "Location: https://A.example:443/y", "Location: https://A.example:443/api/y"},
		{"/*", "/api/x", "Location: http://10.0.0.1:8080/y?q", "Location: /api/y?q"},
		{"/*", "/api/x", "Location: HTTP://10.0.0.1:8080", "Location: /api/"},
		{"/*", "/api/x", "Location: http://10.0.0.1:8080//evil.example/", "Location: /api//evil.example/"},
		{"/v1/*", "/api/x", "Location: http://10.0.0.1:8080//evil.example/", "Location: /evil.example/"},
		{"/*", "/api/x", "Location: http://10.0.0.1:9/y", "Location: http://10.0.0.1:9/y"},
		{"/*", "/api/x", "Location: https://other.example/y", "Location: https://other.example/y"},
		{"/*", "/api/x", "Location: //other.example/y", "Location: //other.example/y"},
		{"/*", "/api/x", "Location: //a.example/y", "Location: //a.example/api/y"},
		{"/*", "/api/x", `Location: http://a.example\@evil.example/y`, `Location: http://a.example\@evil.example/y`},
		{"/*", "/api/x", "Location: http://a.example@evil.example/y", "Location: http://a.example@evil.example/y"},
		{"/*", "/api/x", "Location: y", "Location: y"},
		{"/*", "/api/x", "Location: ?q", "Location: ?q"},
		{"/*", "/api/x", "Location: ", "Location: "},
		{"/*", "/api/x", "Location: /a/../../y", "Location: /a/../../y"},
		{"/*", "/api/x", "Location: /%2e%2e/y", "Location: /%2e%2e/y"},
		{"/*", "/api/x", "Set-Cookie: a=b; Path=/; HttpOnly", "Set-Cookie: a=b; Path=/api; HttpOnly"},
		{"/*", "/api/x", "Set-Cookie: a=b; path=/admin", "Set-Cookie: a=b; path=/api/admin"},
		{"/v1/*", "/api/x", "Set-Cookie: a=b; Path=/v1/", "Set-Cookie: a=b; Path=/api"},
		{"/v1/*", "/api/x", "Set-Cookie: a=b; Path=/v1", "Set-Cookie: a=b; Path=/api"},
		{"/v1/*", "/api/x", "Set-Cookie: a=b; Path=/", "Set-Cookie: a=b; Path=/"},
		{"/v1/*", "/x", "Set-Cookie: a=b; Path=/v1/", "Set-Cookie: a=b; Path=/"},
		// a cookie of that name
		{"/*", "/api/x", "Set-Cookie: Path=/x; Secure", "Set-Cookie: Path=/x; Secure"},
		{"/*", "/api/x", "Set-Cookie: __Host-a=b; Path=/; Secure", "Set-Cookie: __Host-a=b; Path=/; Secure"},
		{"/*", "/api/x", "X-Location: /y", "X-Location: /y"},
		{"/fixed", "/api/x", "Location: /y", "Location: /y"},
		{"/*/z", "/api/x", "Location: /y", "Location: /y"},
	} {
		prefix := "/api"
		if !strings.HasPrefix(tt.path, prefix) {
			prefix = ""
		}
		r := prefixed(tt.path, prefix)
		r.Record.Server = "10.0.0.1:8080"
		f := rewrite(t, tt.to, filter.RewriteOptions{})
		if f.FilterRequest(r) {
			t.Fatalf("%s of %s: %+v", tt.to, tt.path, r.Answer)
		}
		for _, fromServer := range []bool{true, false} {
			resp := new(message.Response)
			header(&resp.Header, tt.from)
			r.FromServer = fromServer
			f.FilterResponse(r, resp)
			want := tt.want
			if !fromServer {
				want = tt.from
			}
			if got := lines(&resp.Header); got != want {
				t.Errorf("%s of %s, of a server %v:\n%s\nwant\n%s", tt.to, tt.path, fromServer, got, want)
			}
		}
	}
}

// A response to a request that an earlier filter ended is left alone.
func TestFollowBackWithoutRequest(t *testing.T) {
	r := requestFor("/api/x")
	r.FromServer = true
	resp := new(message.Response)
	header(&resp.Header, "Location: /y")
	rewrite(t, "/*", filter.RewriteOptions{}).FilterResponse(r, resp)
	if got := lines(&resp.Header); got != "Location: /y" {
		t.Error(got)
	}
}

func TestRewriteAllocatesNothing(t *testing.T) {
	f := rewrite(t, "/v1/*", filter.RewriteOptions{})
	r := prefixed("/api/x/y", "/api")
	path := r.Path
	run := func() {
		r.Path, r.Scratch = path, r.Scratch[:0]
		if f.FilterRequest(r) {
			t.Fatal(r.Answer)
		}
	}
	run()
	if n := testing.AllocsPerRun(100, run); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// Whatever pieces are put together, the result is canonical, or refused.
func FuzzRewrite(f *testing.F) {
	f.Add("/*", "/api/x", 5, 6, "q=1")
	f.Add("/f/{1}{query.q}/*", "/api../x", 4, 7, "q=..")
	f.Add("/{path}/*", "/a//b", 1, 2, "")
	f.Fuzz(func(t *testing.T, to, path string, from, end int, query string) {
		var scratch []byte
		canonical, _, err := target.Path([]byte(path), &scratch)
		if err != nil || from < 0 || from > end || end > len(canonical) {
			return
		}
		g, err := filter.NewRewrite(to, filter.RewriteOptions{})
		if err != nil {
			return
		}
		r := requestFor(string(canonical))
		r.Match = &matched{path: string(canonical), from: from, to: end, groups: []int{0, len(canonical), from, end}}
		r.Matched.Query, r.Matched.HasQuery = []byte(query), true
		if g.FilterRequest(r) {
			return
		}
		again, flags, err := target.Path(r.Path, &scratch)
		if err != nil || string(again) != string(r.Path) || flags&target.EncodedSlash != 0 {
			t.Errorf("%s of %s is %s, which is read as %s (%v)", to, canonical, r.Path, again, err)
		}
	})
}

// A location that is translated back is a location on the same host.
func FuzzFollowBack(f *testing.F) {
	f.Add("/login", "a=b; Path=/")
	f.Add("//evil.example", "a; path")
	f.Add("http://10.0.0.1:8080//evil", ";Path=/;Path=")
	f.Add(`http://10.0.0.1:8080\\evil`, "")
	f.Fuzz(func(t *testing.T, location, cookie string) {
		if strings.ContainsAny(location+cookie, "\r\n\x00") {
			return
		}
		r := prefixed("/api/x", "/api")
		r.Record.Server, r.FromServer = "10.0.0.1:8080", true
		g := rewrite(t, "/v1/*", filter.RewriteOptions{})
		g.FilterRequest(r)
		resp := new(message.Response)
		resp.Header.AddString(message.Location, location)
		resp.Header.AddString(message.SetCookie, cookie)
		g.FilterResponse(r, resp)
		got := string(resp.Header.Get(message.Location))
		if got != location && (strings.HasPrefix(got, "//") && !strings.HasPrefix(location, "//") || strings.HasPrefix(got, `/\`)) {
			t.Errorf("%q becomes %q", location, got)
		}
		if c := string(resp.Header.Get(message.SetCookie)); strings.Count(c, ";") != strings.Count(cookie, ";") {
			t.Errorf("%q becomes %q", cookie, c)
		}
	})
}

// The cookie of the gateway itself keeps its path: it is for all routes of the backend.
func TestFollowBackOwnCookie(t *testing.T) {
	r := prefixed("/api/x", "/api")
	f := rewrite(t, "/*", filter.RewriteOptions{})
	if f.FilterRequest(r) {
		t.Fatalf("%+v", r.Answer)
	}
	resp := new(message.Response)
	own := "srv=x; Path=/; HttpOnly"
	resp.Header.AddString(message.SetCookie, "a=b; Path=/")
	resp.Header.AddString(message.SetCookie, own)
	r.FromServer, r.OwnCookie = true, []byte(own)
	f.FilterResponse(r, resp)
	if got, want := lines(&resp.Header), "Set-Cookie: "+own+"\nSet-Cookie: a=b; Path=/api"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
