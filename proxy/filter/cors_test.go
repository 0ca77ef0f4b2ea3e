package filter_test

import (
	"strings"
	"testing"
	"time"

	"mpgate/proxy/filter"
	"mpgate/proxy/message"
)

func cors(t testing.TB, o filter.CORSOptions) *filter.CORS {
	t.Helper()
	f, err := filter.NewCORS(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

var corsOptions = filter.CORSOptions{
	Origins: []string{"https://a.example", "HTTPS://*.B.example:443", "http://localhost:3000", "https://[2001:DB8::1]:8443"},
	Methods: []string{"GET", "PUT"}, Headers: []string{"X-A", "Authorization"}, Expose: []string{"X-Total"}, Credentials: true, MaxAge: 10 * time.Minute,
}

// respond runs a filter on a request with fields, and on the response of a server that has its own
// mind about CORS.
func respond(f *filter.CORS, method string, fields ...string) (status int, got string) {
	r := requestFor("/")
	r.Method = []byte(method)
	header(&r.Header, fields...)
	if f.FilterRequest(r) {
		status = r.Answer.Status
	}
	resp := new(message.Response)
	if status == 0 {
		header(&resp.Header, "access-control-allow-origin: *", "Access-Control-Allow-Private-Network: true", "Vary: Accept, Cookie", "X-Total: 1")
	}
	f.FilterResponse(r, resp)
	return status, lines(&resp.Header)
}

func TestCORSOrigins(t *testing.T) {
	for origin, want := range map[string]bool{
		"https://a.example":               true,
		"https://x.b.example":             true,
		"http://localhost:3000":           true,
		"https://[2001:db8::1]:8443":      true,
		"https://A.example":               false, // browsers write lower case
		"http://a.example":                false,
		"https://a.example:443":           false,
		"https://a.example:8443":          false,
		"https://a.example.evil":          false,
		"https://xa.example":              false,
		"https://b.example":               false,
		"https://x.y.b.example":           false,
		"https://evil.example/.b.example": false,
		"https://evil#.b.example":         false,
		"https://.b.example":              false,
		"https://xb.example":              false,
		"null":                            false,
		"":                                false,
		"*":                               false,
	} {
		status, got := respond(cors(t, corsOptions), "GET", "Origin: "+origin)
		admitted := strings.Contains(got, "Access-Control-Allow-Origin: "+origin+"\n")
		if status != 0 || admitted != want || !want && strings.Contains(got, "Access-Control") {
			t.Errorf("%q: %d\n%s", origin, status, got)
		}
		if !strings.Contains(got, "Vary: Accept, Cookie\n") || !strings.Contains(got, "Vary: Origin") || !strings.Contains(got, "X-Total: 1") {
			t.Errorf("%q: %s", origin, got)
		}
	}
	if _, got := respond(cors(t, corsOptions), "GET", "Origin: https://a.example", "Origin: https://a.example"); strings.Contains(got, "Access-Control") {
		t.Errorf("two origins: %s", got)
	}
}

func TestCORS(t *testing.T) {
	const preflightVary = "Vary: Origin\nVary: Access-Control-Request-Method\nVary: Access-Control-Request-Headers"
	everyone := filter.CORSOptions{Origins: []string{"*"}, Methods: []string{"*"}, Headers: []string{"*"}}
	for _, tt := range []struct {
		name    string
		options filter.CORSOptions
		method  string
		fields  []string
		status  int
		want    string
	}{
		{"simple", corsOptions, "GET", []string{"Origin: https://a.example"}, 0, "Vary: Accept, Cookie\nX-Total: 1\nVary: Origin\n" +
			"Access-Control-Allow-Origin: https://a.example\nAccess-Control-Allow-Credentials: true\nAccess-Control-Expose-Headers: X-Total"},
		{"not cross-origin", corsOptions, "GET", nil, 0, "Vary: Accept, Cookie\nX-Total: 1\nVary: Origin"},
		{"preflight", corsOptions, "OPTIONS", []string{"Origin: https://a.example", "access-control-request-method: PUT"}, 204, preflightVary +
			"\nAccess-Control-Allow-Origin: https://a.example\nAccess-Control-Allow-Credentials: true\nAccess-Control-Allow-Methods: GET, PUT" +
			"\nAccess-Control-Allow-Headers: X-A, Authorization\nAccess-Control-Max-Age: 600"},
		{"preflight of another", corsOptions, "OPTIONS", []string{"Origin: https://evil.example", "Access-Control-Request-Method: PUT"}, 204, preflightVary},
		{"OPTIONS without a method", corsOptions, "OPTIONS", []string{"Origin: https://evil.example"}, 0, "Vary: Accept, Cookie\nX-Total: 1\nVary: Origin"},
		{"OPTIONS without an origin", corsOptions, "OPTIONS", []string{"Access-Control-Request-Method: PUT"}, 0, "Vary: Accept, Cookie\nX-Total: 1\nVary: Origin"},
		{"not OPTIONS", corsOptions, "options", []string{"Origin: https://evil.example", "Access-Control-Request-Method: PUT"}, 0, "Vary: Accept, Cookie\nX-Total: 1\nVary: Origin"},
		{"everyone", everyone, "GET", []string{"Origin: null"}, 0, "Vary: Accept, Cookie\nX-Total: 1\nAccess-Control-Allow-Origin: *"},
		{"everyone's preflight", everyone, "OPTIONS", []string{"Origin: https://x", "Access-Control-Request-Method: PATCH", "Access-Control-Request-Headers: x-a,authorization"}, 204,
			preflightVary + "\nAccess-Control-Allow-Origin: *\nAccess-Control-Allow-Methods: PATCH\nAccess-Control-Allow-Headers: x-a,authorization"},
		{"defaults", filter.CORSOptions{Origins: []string{"https://a.example"}}, "OPTIONS", []string{"Origin: https://a.example", "Access-Control-Request-Method: POST"}, 204,
			preflightVary + "\nAccess-Control-Allow-Origin: https://a.example\nAccess-Control-Allow-Methods: GET, HEAD, POST"},
	} {
		status, got := respond(cors(t, tt.options), tt.method, tt.fields...)
		if status != tt.status || got != tt.want {
			t.Errorf("%s: %d\n%s\nwant %d\n%s", tt.name, status, got, tt.status, tt.want)
		}
	}
}

// Vary is not repeated.
func TestCORSVary(t *testing.T) {
	for _, vary := range []string{"*", "origin", "Accept ,\tORIGIN"} {
		resp := new(message.Response)
		header(&resp.Header, "Vary: "+vary)
		cors(t, corsOptions).FilterResponse(requestFor("/"), resp)
		if got := lines(&resp.Header); got != "Vary: "+vary {
			t.Errorf("%q: %s", vary, got)
		}
	}
}

func TestCORSFaults(t *testing.T) {
	for _, tt := range []struct {
		o    filter.CORSOptions
		want string
	}{
		{filter.CORSOptions{}, "has no origins"},
		{filter.CORSOptions{Origins: []string{"*"}, Credentials: true}, "with credentials: every site"},
		{filter.CORSOptions{Origins: []string{"*", "https://a.example"}}, "and other origins"},
		{filter.CORSOptions{Origins: []string{"null"}}, "sandboxed page"},
	} {
		if _, err := filter.NewCORS(tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.o, err, tt.want)
		}
	}
	for in, want := range map[string]string{
		"a.example":               "is not an origin",
		"ftp://a.example":         "is not an origin",
		"https://":                "has no valid host",
		"https://a.example/":      "has more than a scheme and a host",
		"https://u@a.example":     "has more than a scheme and a host",
		"https://a.example:99999": "has no valid host",
		"https://*":               "has no valid host",
		"https://*.*.example":     "has no valid host",
		"https://a.*.example":     "has no valid host",
		"https://*a.example":      "has no valid host",
		"https://*.[::1]":         "has no valid host",
		"https://a b":             "has no valid host",
	} {
		if got, err := filter.ParseOrigin(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v, want %q", in, got, err, want)
		}
	}
}

// An origin that is let in is one of those that are written, or one label before it.
func FuzzCORS(f *testing.F) {
	f.Add("https://*.a.example", "https://x.a.example")
	f.Add("https://a.example:443", "https://a.example")
	f.Add("http://[::1]", "http://[::1]")
	f.Fuzz(func(t *testing.T, pattern, origin string) {
		canonical, err := filter.ParseOrigin(pattern)
		if err != nil || strings.ContainsAny(origin, "\r\n\x00") {
			return
		}
		if again, err := filter.ParseOrigin(canonical); err != nil || again != canonical {
			t.Fatalf("%q is %q, which is %q (%v)", pattern, canonical, again, err)
		}
		_, got := respond(cors(t, filter.CORSOptions{Origins: []string{pattern}}), "GET", "Origin: "+origin)
		if !strings.Contains(got, "Access-Control-Allow-Origin") {
			return
		}
		scheme, rest, _ := strings.Cut(canonical, "://")
		suffix, wildcard := strings.CutPrefix(rest, "*")
		if !wildcard && origin != canonical {
			t.Errorf("%q admits %q", pattern, origin)
		}
		label, ok := strings.CutSuffix(strings.TrimPrefix(origin, scheme+"://"), suffix)
		if wildcard && (!ok || label == "" || strings.ContainsAny(label, "./:@#?\\")) {
			t.Errorf("%q admits %q", pattern, origin)
		}
	})
}

func TestCORSAllocatesNothing(t *testing.T) {
	f := cors(t, corsOptions)
	r, resp := requestFor("/"), new(message.Response)
	header(&r.Header, "Origin: https://x.b.example")
	vary := []byte("Accept")
	run := func() {
		resp.Header.Reset()
		resp.Header.Add(message.Vary, vary)
		f.FilterRequest(r)
		f.FilterResponse(r, resp)
	}
	run()
	if n := testing.AllocsPerRun(100, run); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
