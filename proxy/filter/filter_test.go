package filter_test

import (
	"net/netip"
	"slices"
	"testing"

	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/proxy/template"
	"mpgate/telemetry"
)

// tracer notes its calls.
type tracer struct {
	name  string
	ends  bool
	calls *[]string
}

func (t *tracer) Name() string { return t.name }

func (t *tracer) FilterRequest(r *filter.Request) bool {
	*t.calls = append(*t.calls, "request "+t.name)
	r.Keep(t, t)
	return t.ends
}

func (t *tracer) FilterResponse(r *filter.Request, resp *message.Response) {
	*t.calls = append(*t.calls, "response "+t.name)
}

func (t *tracer) FilterEnd(r *filter.Request) {
	what := "end "
	if r.Kept(t) != t {
		what = "end without what was kept "
	}
	*t.calls = append(*t.calls, what+t.name)
}

func newRequest() *filter.Request {
	return &filter.Request{Request: new(message.Request), Record: new(telemetry.Record)}
}

// Filters act in order until one ends the exchange. Those that acted, and only those, are told of
// the end.
func TestChain(t *testing.T) {
	var calls []string
	c := filter.Compile(&tracer{"a", false, &calls}, filter.MaxForwards{}, &tracer{"b", true, &calls}, &tracer{"c", false, &calls})
	r := newRequest()
	if by := c.Request(r); by != "b" {
		t.Errorf("ended by %q, want b", by)
	}
	c.Response(r, new(message.Response))
	c.End(r)
	want := []string{"request a", "request b", "response a", "response b", "response c", "end a", "end b"}
	if !slices.Equal(calls, want) {
		t.Errorf("%q, want %q", calls, want)
	}
	r.Reset()
	calls = nil
	c.End(r)
	if len(calls) > 0 {
		t.Errorf("%q for a request that never came to the chain", calls)
	}
}

type idle struct{}

func (idle) Name() string { return "idle" }

func TestCompileRefusesFiltersThatDoNothing(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	filter.Compile(idle{})
}

func TestVariables(t *testing.T) {
	r := newRequest()
	rec := r.Record
	rec.Listener, rec.Route, rec.Server, rec.SNI = "web", "api", "[fe80::1%eth0]:80", "a.example"
	rec.Scheme, rec.Client = telemetry.SchemeHTTPS, netip.MustParseAddr("192.0.2.1")
	r.Conn = connection{"mptcp", "lte"}
	rec.GivenID = []byte("abc")
	r.Method = []byte("GET")
	r.Matched = filter.Target{
		Host: []byte("a.example"), Port: []byte("8443"), Path: []byte("/a/b"), Query: []byte("x=1&y+z=%41%0d%0a+b"), HasQuery: true,
	}
	r.Status = 502
	r.Header.AddName([]byte("X-One"), []byte("1"))
	r.Header.AddName([]byte("x-one"), []byte("2"))
	r.Header.AddName([]byte("Cookie"), []byte(`a=1; session="s_1"; bad=a b; a=2`))
	for in, want := range map[string]string{
		"https://{host}:{port}{uri}":               "https://a.example:8443/a/b?x=1&y+z=%41%0d%0a+b",
		"{scheme} {method} {path} {query}":         "https GET /a/b x=1&y+z=%41%0d%0a+b",
		"{client} {id} {listener} {route}":         "192.0.2.1 abc web api",
		"{server_host} {status}":                   "[fe80::1]:80 502",
		"{sni} {client_transport} {client_path}":   "a.example mptcp lte",
		"{header.X-One},{header.None}":             "1, 2,",
		"{cookie.session} {cookie.a} {cookie.bad}": "s_1 1 ",
		"{query.x} {query.y z} {query.none}":       "1 A b ",
		"{{literal}":                               "{literal}",
	} {
		p, err := template.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(r.Append(nil, &p)); got != want {
			t.Errorf("%s is %q, want %q", in, got, want)
		}
	}
}

// connection is a filter.Conn.
type connection struct{ transport, path string }

func (c connection) Transport() string { return c.transport }
func (c connection) Path() string      { return c.path }

// Evaluating a template allocates nothing.
func TestVariablesAllocateNothing(t *testing.T) {
	r := newRequest()
	r.Record.Client = netip.MustParseAddr("2001:db8::1")
	r.Matched = filter.Target{Host: []byte("a.example"), Path: []byte("/a"), Query: []byte("x=1"), HasQuery: true}
	r.Header.AddName([]byte("X-One"), []byte("1"))
	p, err := template.Parse("https://{host}{uri} {client} {header.X-One} {query.x} {cookie.none} {status}")
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]byte, 0, 256)
	if n := testing.AllocsPerRun(100, func() { dst = r.Append(dst[:0], &p) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
