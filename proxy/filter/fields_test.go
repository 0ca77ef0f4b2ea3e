package filter_test

import (
	"net/netip"
	"strings"
	"testing"

	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/proxy/template"
	"mpgate/telemetry"
)

// edits makes edits of "Name=value" pairs; "+Name" adds, several values are separated by "|".
func edits(t testing.TB, list ...string) (out []filter.FieldEdit) {
	t.Helper()
	for _, s := range list {
		name, values, _ := strings.Cut(s, "=")
		e := filter.FieldEdit{}
		e.Name, e.Add = strings.CutPrefix(name, "+")
		for v := range strings.SplitSeq(values, "|") {
			e.Values = append(e.Values, parse(t, v))
		}
		out = append(out, e)
	}
	return out
}

func TestFields(t *testing.T) {
	for _, tt := range []struct {
		name  string
		edits []string
		want  string
	}{
		{"set", []string{"X-New=1"}, "Server: s\nX-A: 1\nX-A: 2\nX-New: 1"},
		{"replace, in any case", []string{"x-a=3"}, "Server: s\nx-a: 3"},
		{"remove", []string{"X-A=", "Server="}, ""},
		{"several values", []string{"X-A=3|4"}, "Server: s\nX-A: 3\nX-A: 4"},
		{"add", []string{"+X-A=3"}, "Server: s\nX-A: 1\nX-A: 2\nX-A: 3"},
		{"replace, then add", []string{"+X-A=4", "X-A=3"}, "Server: s\nX-A: 3\nX-A: 4"},
		{"a value of the field itself", []string{"X-A={header.X-A}; more"}, "Server: s\nX-A: 1, 2; more"},
		{"values are those before the edits", []string{"A-First=x", "X-Copy={header.A-First}{header.X-A}", "X-A="}, "Server: s\nA-First: x\nX-Copy: 1, 2"},
		{"an empty value is no field", []string{"X-A={header.None}", "+Y={header.None}|2"}, "Server: s\nY: 2"},
		{"white space is removed", []string{"X-A= {cookie.x} "}, "Server: s"},
	} {
		f, err := filter.NewRequestHeaders(edits(t, tt.edits...))
		if err != nil {
			t.Fatal(err)
		}
		r := requestFor("/")
		header(&r.Header, "Server: s", "X-A: 1", "X-A: 2")
		if f.FilterRequest(r) {
			t.Errorf("%s: the exchange ended with %+v", tt.name, r.Answer)
		}
		if got := lines(&r.Header); got != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, got, tt.want)
		}
	}
}

// No value brings a line break or a NUL into a message, whatever the client sends in an encoded
// form.
func TestFieldsStayOneLine(t *testing.T) {
	f := filter.NewResponseHeaders(edits(t, "X-A=a{query.x}b", "X-B={query.y}"))
	r := requestFor("/")
	r.Matched.Query, r.Matched.HasQuery = []byte("x=1%0d%0aSet-Cookie:%20a=b%00%7f&y=%0A%20%09"), true
	resp := new(message.Response)
	f.FilterResponse(r, resp)
	if got := lines(&resp.Header); got != "X-A: a1Set-Cookie: a=bb" {
		t.Errorf("%q", got)
	}
}

func TestHost(t *testing.T) {
	for _, tt := range []struct {
		value, host, port string
		refused           bool
	}{
		{"b.example", "b.example", "", false},
		{"B.Example.:8080", "b.example", "8080", false},
		{"[2001:DB8::1]:443", "[2001:db8::1]", "443", false},
		{"{header.X-Host}", "c.example", "", false},
		{"{server_host}", "", "", false},
		{"{header.X-Bad}", "", "", true},
		{"{header.X-None}", "", "", true},
	} {
		f, err := filter.NewRequestHeaders(edits(t, "host="+tt.value))
		if err != nil {
			t.Fatal(err)
		}
		r := requestFor("/")
		r.Port = []byte("80")
		header(&r.Header, "X-Host: C.example", "X-Bad: a/b")
		if got := f.FilterRequest(r); got != tt.refused || got && r.Answer.Status != 400 {
			t.Errorf("%s: refused: %v, %+v", tt.value, got, r.Answer)
		}
		if !tt.refused && (string(r.Host) != tt.host || string(r.Port) != tt.port) {
			t.Errorf("%s: %s:%s, want %s:%s", tt.value, r.Host, r.Port, tt.host, tt.port)
		}
		if string(r.Matched.Host) != "a.example" {
			t.Errorf("%s: the host that was matched has changed to %s", tt.value, r.Matched.Host)
		}
	}
	for _, list := range [][]string{{"+Host=a"}, {"Host=a|b"}} {
		if _, err := filter.NewRequestHeaders(edits(t, list...)); err == nil || !strings.Contains(err.Error(), "a request has exactly one") {
			t.Errorf("%v: %v", list, err)
		}
	}
}

// What is replaced in the header of a request cannot come in its trailer.
func TestFieldsOfTrailers(t *testing.T) {
	f, err := filter.NewRequestHeaders(edits(t, "X-User=", "X-Role=guest", "+X-More=1"))
	if err != nil {
		t.Fatal(err)
	}
	var trailer message.Header
	header(&trailer, "x-user: admin", "X-ROLE: admin", "X-More: 2", "Checksum: 1")
	f.FilterTrailer(&trailer)
	if got := lines(&trailer); got != "X-More: 2\nChecksum: 1" {
		t.Errorf("%q", got)
	}
}

// tenEdits are ten operations as configurations have them.
func tenEdits(t testing.TB) []filter.FieldEdit {
	return edits(t, "X-Forwarded-Port={port}", "X-Scheme={scheme}", "X-Real-Client={client}", "X-URL=https://{host}{uri}", "Cookie=",
		"Authorization=", "X-A=1|2", "+X-B={header.User-Agent}", "X-ID={id}", "Proxy=")
}

func TestFieldsAllocateNothing(t *testing.T) {
	request, err := filter.NewRequestHeaders(append(tenEdits(t), edits(t, "Host=b.example")...))
	if err != nil {
		t.Fatal(err)
	}
	response := filter.NewResponseHeaders(tenEdits(t))
	r, resp := fieldsRequest(), new(message.Response)
	run := func() {
		fillFields(r, resp)
		if request.FilterRequest(r) {
			t.Fatal(r.Answer)
		}
		response.FilterResponse(r, resp)
	}
	run()
	if n := testing.AllocsPerRun(100, run); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func fieldsRequest() *filter.Request {
	r := requestFor("/a/b")
	r.Record.Client, r.Record.Scheme = netip.MustParseAddr("192.0.2.1"), telemetry.SchemeHTTPS
	return r
}

// fillFields makes the messages as they were before the filters.
func fillFields(r *filter.Request, resp *message.Response) {
	r.Header.Reset()
	resp.Header.Reset()
	r.Scratch = r.Scratch[:0]
	r.Host = r.Matched.Host
	for _, f := range [...][2]string{{"User-Agent", "curl"}, {"Accept", "*/*"}, {"Cookie", "a=b"}, {"X-A", "0"}} {
		r.Header.AddName([]byte(f[0]), []byte(f[1]))
		resp.Header.AddName([]byte(f[0]), []byte(f[1]))
	}
}

func BenchmarkFields(b *testing.B) {
	f, err := filter.NewRequestHeaders(tenEdits(b))
	if err != nil {
		b.Fatal(err)
	}
	r, resp := fieldsRequest(), new(message.Response)
	b.ReportAllocs()
	for b.Loop() {
		fillFields(r, resp)
		f.FilterRequest(r)
	}
}

// A value never contains a line break, a NUL or white space at its ends, whatever the request has.
func FuzzFields(f *testing.F) {
	f.Add("{query.a}", "a=%0d%0a", "x")
	f.Add(" {header.X} {path}", "", " \t")
	f.Fuzz(func(t *testing.T, value, query, field string) {
		p, err := template.Parse(value)
		if err != nil {
			return
		}
		r := requestFor("/a")
		r.Matched.Query, r.Matched.HasQuery = []byte(query), true
		header(&r.Header, "X: "+strings.Map(func(c rune) rune {
			if c == '\r' || c == '\n' || c == 0 {
				return -1
			}
			return c
		}, field))
		resp := new(message.Response)
		filter.NewResponseHeaders([]filter.FieldEdit{{Name: "Y", Values: []template.Template{p}}}).FilterResponse(r, resp)
		for i := range resp.Header.Len() {
			_, _, v, _ := resp.Header.At(i)
			if s := string(v); s == "" || strings.ContainsAny(s, "\r\n\x00") || s != strings.Trim(s, " ") {
				t.Errorf("%q makes %q", value, s)
			}
		}
	})
}
