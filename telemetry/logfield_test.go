package telemetry

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseLogField(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want LogField
		err  string // a part of the error
	}{
		{"user_agent", LogField{"user_agent", "User-Agent", false}, ""},
		{"referer", LogField{"referer", "Referer", false}, ""},
		{"header.X-Name", LogField{"header.X-Name", "X-Name", false}, ""},
		{"response_header.X-Cache", LogField{"response_header.X-Cache", "X-Cache", true}, ""},
		{"header." + strings.Repeat("x", 64), LogField{"header." + strings.Repeat("x", 64), strings.Repeat("x", 64), false}, ""},
		{"header." + strings.Repeat("x", 65), LogField{}, "too long"},
		{"header.", LogField{}, "names no header field"},
		{"header.a b", LogField{}, "names no header field"},
		{"header.a\"", LogField{}, "names no header field"},
		{"Header.X", LogField{}, "must be user_agent"},
		{"path", LogField{}, "must be user_agent"},
		{"header.Authorization", LogField{}, "a secret of clients"},
		{"header.proxy-authorization", LogField{}, "a secret of clients"},
		{"header.COOKIE", LogField{}, "a secret of clients"},
		{"response_header.set-cookie", LogField{}, "a secret of clients"},
		{"response_header.Authorization", LogField{}, "a secret of clients"},
	} {
		got, err := ParseLogField(tt.in)
		if tt.err == "" && (err != nil || got != tt.want) || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: got %+v, %v", tt.in, got, err)
		}
	}
}

func logFields(t testing.TB, names ...string) (list []LogField) {
	t.Helper()
	for _, name := range names {
		f, err := ParseLogField(name)
		if err != nil {
			t.Fatal(name, err)
		}
		list = append(list, f)
	}
	return list
}

func TestFurtherFields(t *testing.T) {
	names := []string{"user_agent", "referer", "header.X-A-Name-That-Is-Longer-Than-A-Prefix", "response_header.X-Cache", "header.X-None"}
	fields := accessFields([]string{"token"}, logFields(t, names...)...)
	r := sample()
	r.AddHeader("User-Agent", false, []byte("curl/8 \"x\"\r\n"))
	r.AddHeader("Referer", false, []byte("https://a.example/?token=secret&x=1"))
	r.AddHeader("X-A-Name-That-Is-Longer-Than-A-Prefix", false, []byte("1"))
	r.AddHeader("X-A-Name-That-Is-Longer-Than-A-Prefix", false, []byte("2"))
	r.AddHeader("X-Cache", true, []byte("HIT"))
	r.AddHeader("X-Cache", false, []byte("of the request"))
	line := string(appendJSON(nil, fields, r))
	const json = `,"user_agent":"curl/8 \"x\"\r\n","referer":"https://a.example/?token=***&x=1",` +
		`"header.X-A-Name-That-Is-Longer-Than-A-Prefix":"1, 2","response_header.X-Cache":"HIT","header.X-None":""}` + "\n"
	if !strings.HasSuffix(line, json) {
		t.Errorf("JSON: got\n%swant at the end\n%s", line, json)
	}
	const text = ` user_agent="curl/8 \"x\"\r\n" referer="https://a.example/?token=***&x=1" ` +
		`header.X-A-Name-That-Is-Longer-Than-A-Prefix="1, 2" response_header.X-Cache=HIT` + "\n"
	if line := string(appendText(nil, fields, r)); !strings.HasSuffix(line, text) {
		t.Errorf("text: got\n%swant at the end\n%s", line, text)
	}
	r.ResetHeaders(true)
	if line := string(appendText(nil, fields, r)); strings.Contains(line, "HIT") || !strings.Contains(line, "curl") {
		t.Errorf("after the response was reset: %s", line)
	}
}

func TestLongValues(t *testing.T) {
	fields := accessFields(nil, logFields(t, "header.X")...)
	r := sample()
	for range 100 {
		r.AddHeader("X", false, bytes.Repeat([]byte("x"), 1000))
	}
	without := len(appendJSON(nil, accessFields(nil), r))
	if n := len(appendJSON(nil, fields, r)) - without; n > maxLogValue+100 {
		t.Errorf("a field of %d bytes", n)
	}
}

func TestCombinedLine(t *testing.T) {
	line := combined([]string{"token"})
	r := sample()
	r.Path = []byte("/a?token=1&x=\"\xff")
	r.AddHeader("Referer", false, []byte("https://b.example/?token=2"))
	r.AddHeader("User-Agent", false, []byte("Mozilla/5.0 (\"x\" \\ \x1b é)"))
	const want = `2001:db8::1 - - [24/Nov/2026:05:03:05 +0000] "GET /a?token=***&x=\"\xff HTTP/1.1" 200 1024 ` +
		`"https://b.example/?token=***" "Mozilla/5.0 (\"x\" \\ \x1b \xc3\xa9)"` + "\n"
	if got := string(line(nil, nil, r)); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	var none Record
	none.Reset()
	none.Client = netip.Addr{}
	const nothing = `- - - [01/Jan/0001:00:00:00 +0000] "-" 000 - "-" "-"` + "\n"
	if got := string(line(nil, nil, &none)); got != nothing {
		t.Errorf("of nothing: got\n%swant\n%s", got, nothing)
	}
}

func TestLogged(t *testing.T) {
	for _, tt := range []struct {
		logged Logged
		status int
		end    End
		want   bool
	}{
		{LoggedAll, 200, EndOK, true},
		{LoggedNone, 500, EndInternal, false},
		{LoggedErrors, 200, EndOK, false},
		{LoggedErrors, 399, EndOK, false},
		{LoggedErrors, 400, EndOK, true},
		{LoggedErrors, 200, EndClientGone, true},
		{LoggedErrors, 0, EndClientGone, true},
	} {
		if got := tt.logged.Has(&Record{Status: tt.status, End: tt.end}); got != tt.want {
			t.Errorf("%v of %d %v: %v", tt.logged, tt.status, tt.end, got)
		}
	}
}

// FuzzHeaderFields sees that no value of a header field breaks out of its place, in any format.
func FuzzHeaderFields(f *testing.F) {
	f.Add("curl/8.0", "https://a.example/?token=x&y")
	f.Add("\" 200 1 \"-\" \"\r\n127.0.0.1 - - [", "\x00\xff\\\\\" \u2028\u0085")
	fields := accessFields([]string{"token"}, fieldUserAgent, fieldReferer)
	line := combined([]string{"token"})
	f.Fuzz(func(t *testing.T, agent, referer string) {
		r := sample()
		r.AddHeader(fieldUserAgent.Header, false, []byte(agent))
		r.AddHeader(fieldReferer.Header, false, []byte(referer))
		object := appendJSON(nil, fields, r)
		for _, l := range [][]byte{object, appendText(nil, fields, r), line(nil, nil, r)} {
			if !utf8.Valid(l) || bytes.IndexByte(l, '\n') != len(l)-1 || bytes.ContainsFunc(l[:len(l)-1], isControl) {
				t.Fatalf("not a clean line: %q", l)
			}
		}
		var got struct {
			Agent string `json:"user_agent"`
			End   string `json:"end"`
		}
		if err := json.Unmarshal(object, &got); err != nil || got.End != "ok" {
			t.Fatalf("%v: %s", err, object)
		}
		if len(agent) <= maxLogValue && got.Agent != throughJSON(t, agent) {
			t.Fatalf("got %q, want %q", got.Agent, agent)
		}
		// Outside of escapes the combined form has exactly six quotes.
		quotes := 0
		for l := line(nil, nil, r); len(l) > 0; l = l[1:] {
			switch l[0] {
			case '\\':
				l = l[1:]
			case '"':
				quotes++
			}
		}
		if quotes != 6 {
			t.Fatalf("%d quotes: %s", quotes, line(nil, nil, r))
		}
	})
}

func TestFurtherFieldsAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops at random under the race detector")
	}
	for _, format := range []Format{FormatJSON, FormatText, FormatCombined} {
		l := openLog(t, AccessLogOptions{
			Format: format, Redact: []string{"token"}, Fields: logFields(t, "user_agent", "referer", "response_header.X-A-Name-That-Is-Long-Indeed"),
		})
		r := sample()
		agent, referer := []byte("curl/8 \"é"), []byte("/?token=1")
		once := func() {
			r.ResetHeaders(false)
			r.ResetHeaders(true)
			r.AddHeader("User-Agent", false, agent)
			r.AddHeader("Referer", false, referer)
			r.AddHeader("X-A-Name-That-Is-Long-Indeed", true, referer)
			l.Log(r)
		}
		for range 1000 {
			once()
		}
		if n := testing.AllocsPerRun(20000, once); n != 0 {
			t.Errorf("%v: %v allocations, want none", format, n)
		}
	}
}
