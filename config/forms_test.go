package config

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

// formTable has a key of each form and kind of value that the keys of the file format may have.
type formTable struct {
	Hosts    []string                  `toml:"host,one" as:"host" eg:"example.org" help:"One string or a list."`
	Headers  map[string][]string       `toml:"headers,one" names:"request_field" eg:"X-Frame-Options = DENY" help:"Fields with one value or several."`
	Query    map[string]string         `toml:"query" eg:"v = 2" help:"Names with any case."`
	Split    map[string]int            `toml:"split,one" names:"name" min:"0" max:"1000" eg:"api = 1" help:"A name, or weights."`
	Pages    map[StatusRange]*formPage `toml:"pages" short:"file" eg:"404 = 404.html" help:"A file or a table for each range of statuses."`
	Compress *formCompress             `toml:"compress,inline,toggle" help:"True or a table."`
	Limits   []formLimit               `toml:"limit,inline,one" help:"A table or a list of them."`
	Allow    []Network                 `toml:"allow" as:"clients" eg:"private" help:"Networks or private."`
	Log      formLog                   `toml:"log" default:"true" help:"A boolean or a word."`
	Status   int                       `toml:"status" default:"308" only:"301,302,307,308" help:"One of some numbers."`
	Share    Percent                   `toml:"share" min:"1%" max:"50%" eg:"20%" help:"A percentage."`
	Timeout  time.Duration             `toml:"timeout" min:"1ms" eg:"5s" help:"A duration that may be left out."`
	Accept   StatusRange               `toml:"accept" default:"200-399" help:"A range of statuses."`
	Glob     []string                  `toml:"glob,one" as:"path_glob" eg:"/*/objects/*" help:"Paths with wildcards."`
	Token    map[string]string         `toml:"token,secret" eg:"a = x" help:"A map of secrets."`
}

type formPage struct {
	File    string `toml:"file" as:"file" eg:"down.html" help:"A file."`
	Servers bool   `toml:"servers" default:"false" help:"A boolean."`
}

type formCompress struct {
	Min int64 `toml:"min" as:"size" default:"1KiB" min:"0" max:"1GiB" help:"A size."`
}

type formLimit struct {
	Rate Rate  `toml:"rate" group:"measure" eg:"30/s" help:"A rate."`
	Body int64 `toml:"body" as:"size" group:"measure" min:"1B" max:"1GiB" eg:"20MiB" help:"A size that may be left out."`
}

type formLog string

func (formLog) Values() []string { return []string{"true", "false", "errors"} }

func init() { declare(keys, reflect.TypeFor[formTable]()) }

// decodeForms reads a table, and gives its faults, without file and line 1.
func decodeForms(t *testing.T, text string) (formTable, string) {
	t.Helper()
	l := newLoader(Options{Lookup: noEnv, Check: true})
	root := l.parse(text, l.place("/f", 0))
	if root == nil {
		t.Fatalf("%v in\n%s", l.faults, text)
	}
	var v formTable
	l.table(root, reflect.ValueOf(&v).Elem())
	return v, strings.ReplaceAll(Errors(sortFaults(l.faults)).Error(), "/f:1: ", "")
}

func printForms(v *formTable) string {
	var e encoder
	e.table("", "", reflect.ValueOf(v).Elem())
	return e.b.String()
}

func formSchema(t *testing.T) object {
	t.Helper()
	b, err := json.Marshal(objectSchema(reflect.TypeFor[formTable]()))
	if err != nil {
		t.Fatal(err)
	}
	var s object
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestFormsRead reads each form of a value, prints it, and reads what was printed. The schema
// accepts both.
func TestFormsRead(t *testing.T) {
	schema := formSchema(t)
	for _, tt := range []struct {
		text, printed string
		check         func(formTable) any
		want          any
	}{
		{`host = "A.example"`, `host = ["a.example"]`, func(f formTable) any { return f.Hosts }, []string{"a.example"}},
		{`host = ["a.example", "*.b.example"]`, `host = ["a.example", "*.b.example"]`, func(f formTable) any { return len(f.Hosts) }, 2},
		{`headers = { X-Frame-Options = "DENY", Server = "", "+Vary" = ["a", "b"] }`, `headers = { "+Vary" = ["a", "b"], Server = "", X-Frame-Options = "DENY" }`,
			func(f formTable) any { return f.Headers },
			map[string][]string{"X-Frame-Options": {"DENY"}, "Server": {""}, "+Vary": {"a", "b"}}},
		{`query = { v = "2", V = "3", "a b" = "" }`, `query = { "a b" = "", V = "3", v = "2" }`,
			func(f formTable) any { return f.Query }, map[string]string{"v": "2", "V": "3", "a b": ""}},
		{`split = "api"`, `split = "api"`, func(f formTable) any { return f.Split }, map[string]int{"api": 1}},
		{`split = { stable = 95, canary = 5 }`, `split = { canary = 5, stable = 95 }`,
			func(f formTable) any { return f.Split }, map[string]int{"stable": 95, "canary": 5}},
		{`pages = { "502-504" = "down.html", 404 = { file = "/x.html", servers = true } }`,
			`pages = { 404 = { file = "/x.html", servers = true }, 502-504 = { file = "/down.html", servers = false } }`,
			func(f formTable) any { return *f.Pages[StatusRange{502, 504}] }, formPage{File: "/down.html"}},
		{`compress = true`, `compress = { min = "1KiB" }`, func(f formTable) any { return *f.Compress }, formCompress{Min: 1024}},
		{`compress = { min = "2MiB" }`, `compress = { min = "2MiB" }`, func(f formTable) any { return *f.Compress }, formCompress{Min: 2 << 20}},
		{`compress = false`, ``, func(f formTable) any { return f.Compress }, (*formCompress)(nil)},
		{`limit = { rate = "30/s" }`, "limit = [\n\t{ rate = \"30/s\" },\n]", func(f formTable) any { return f.Limits }, []formLimit{{Rate: Rate{30, time.Second}}}},
		{`limit = [ { rate = "1/h" }, { body = "20MiB" } ]`, "limit = [\n\t{ rate = \"1/h\" },\n\t{ body = \"20MiB\" },\n]",
			func(f formTable) any { return f.Limits }, []formLimit{{Rate: Rate{1, time.Hour}}, {Body: 20 << 20}}},
		{`allow = ["private", "192.0.2.1"]`, `allow = ["private", "192.0.2.1/32"]`, func(f formTable) any { return f.Allow },
			[]Network{{Name: NetworkPrivate}, {Prefix: netip.MustParsePrefix("192.0.2.1/32")}}},
		{`log = false`, `log = false`, func(f formTable) any { return f.Log }, formLog("false")},
		{`log = "errors"`, `log = "errors"`, func(f formTable) any { return f.Log }, formLog("errors")},
		{`status = 302`, `status = 302`, func(f formTable) any { return f.Status }, 302},
		{`share = "12.5%"`, `share = "12.5%"`, func(f formTable) any { return f.Share.Ratio() }, 0.125},
		{`share = ""`, `share = ""`, func(f formTable) any { return f.Share }, Percent(0)},
		{`timeout = "90s"`, `timeout = "1m30s"`, func(f formTable) any { return f.Timeout }, 90 * time.Second},
		{`accept = "204"`, `accept = "204"`, func(f formTable) any { return f.Accept.Contains(204) && !f.Accept.Contains(205) }, true},
		{`glob = ["/*/objects/*", "*.js", "/**/.*", "/a"]`, `glob = ["/*/objects/*", "*.js", "/**/.*", "/a"]`, func(f formTable) any { return len(f.Glob) }, 4},
		{``, `log = true`, func(f formTable) any { return f }, formTable{Log: "true", Status: 308, Accept: StatusRange{200, 399}}},
	} {
		v, faults := decodeForms(t, tt.text)
		if faults != "" {
			t.Errorf("%s: %s", tt.text, faults)
			continue
		}
		if got := tt.check(v); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %#v, want %#v", tt.text, got, tt.want)
		}
		printed := printForms(&v)
		if !strings.Contains("\n"+printed, "\n"+tt.printed) {
			t.Errorf("%s: %q is missing in\n%s", tt.text, tt.printed, printed)
		}
		again, faults := decodeForms(t, printed)
		if faults != "" || !sameForms(again, v) {
			t.Errorf("%s: printed as\n%s\nit is read as %+v, %s", tt.text, printed, again, faults)
		}
		for _, text := range []string{tt.text, printed} {
			if problems := validateText(t, schema, text); problems != nil {
				t.Errorf("the schema rejects %s: %q", text, problems)
			}
		}
	}
}

// sameForms compares what is printed: an empty list and none are the same.
func sameForms(a, b formTable) bool { return printForms(&a) == printForms(&b) }

// TestFormFaults sees what is said of a value that is wrong, and whether the schema knows, too.
func TestFormFaults(t *testing.T) {
	schema := formSchema(t)
	for _, tt := range []struct {
		text, fault string
		schema      bool // rejects it
	}{
		{`host = 1`, `host: is a number (got 1); must be a string, or an array of them, for example host = "example.org"`, true},
		{`headers = "x"`, `headers: is a string (got "x"); must be a table, for example headers = { X-Frame-Options = "DENY" }`, true},
		{`headers = { "X Y" = "1" }`, `headers."X Y": is not a valid header field name (got "X Y"); must be for example "X-Frame-Options", or "+Vary" to add a field`, false},
		{`headers = { "" = "1" }`, `headers."": has an empty name (got "")`, false},
		{`headers = { Content-Length = "1" }`, `headers.Content-Length: is a field that belongs to the connection or the length of the message, which mpgate writes itself (got "Content-Length"); leave it out`, false},
		{`headers = { x-a = "1", X-A = "2" }`, `headers.x-a: is set twice, here and at /f:1; keep one of them`, false},
		{`headers = { X-A = 3 }`, `headers.X-A: is a number (got 3); must be a string, or an array of them, for example X-A = "DENY"`, true},
		{`query = { v = true }`, `query.v: is a boolean (got true); must be a string, for example v = "2"`, true},
		{`split = 3`, `split: is a number (got 3); must be a string or a table, for example split = "api"`, true},
		{`split = "A"`, `split: is not a valid name (got "A"); must be of a-z, 0-9, _ and -, begin with a letter or a digit, and be at most 63 long`, true},
		{`split = { a = 1001 }`, `split.a: is out of range (got 1001); must be from 0 to 1000`, true},
		{`split = { a = "1" }`, `split.a: is a string (got "1"); must be a whole number, for example a = 1`, true},
		{`pages = { "5xx" = "a" }`, `pages.5xx: is not a valid status (got "5xx"); must be from 100 to 599, or a range, for example "404" or "502-504"`, true},
		{`pages = { "504-502" = "a" }`, `pages.504-502: is a range that ends before it begins (got "504-502"); write "502-504"`, false},
		{`pages = { "404" = 1 }`, `pages.404: is a number (got 1); must be a string or a table`, true},
		{`pages = { "404" = { fil = "a" } }`, `pages.404.fil: is not a known key; did you mean file?`, true},
		{`compress = "yes"`, `compress: is a string (got "yes"); must be true, false or a table`, true},
		{`compress = { min = 3 }`, `compress.min: is a number (got 3); must be a string, for example min = "1KiB"`, true},
		{`limit = "30/s"`, `limit: is a string (got "30/s"); must be a table or an array of tables: write limit = { … }, or limit = [ { … } ]`, true},
		{`limit = { rate = "30" }`, `limit.rate: is not a valid rate (got "30"); write a whole number and /s, /m or /h, for example "30/s"`, true},
		{`limit = { rate = "0/s" }`, `limit.rate: is out of range (got "0/s"); must be from 1/s to 1000000000/s`, false},
		{`limit = [ { rate = "1/s", body = "1B" } ]`, `limit[0]: has 2 measures; must have exactly one of rate and body`, false},
		{`limit = {}`, `limit: has 0 measures; must have exactly one of rate and body`, true},
		{`limit = { body = "2GiB" }`, `limit.body: is out of range (got "2GiB"); must be from 1B to 1GiB`, false},
		{`allow = ["privat"]`, `allow[0]: is not a valid network (got "privat"); did you mean "private"?`, false},
		{`allow = ["10.1.0.0/8"]`, `allow[0]: has bits set beyond its prefix length (got "10.1.0.0/8"); must be "10.0.0.0/8"`, false},
		{`log = "error"`, `log: is not a valid value (got "error"); did you mean "errors"? Must be "true", "false" or "errors"`, true},
		{`log = 1`, `log: is a number (got 1); must be true, false or a string, for example log = true`, true},
		{`pages = 1`, `pages: is a number (got 1); must be a table, for example pages = { 404 = "404.html" }`, true},
		{`status = 303`, `status: is not a valid value (got 303); must be 301, 302, 307 or 308`, true},
		{`share = "20"`, `share: is not a valid percentage (got "20"); write a number and %, for example "20%" or "0.5%"`, true},
		{`share = "51%"`, `share: is out of range (got "51%"); must be from 1% to 50%`, false},
		{`share = "1e1%"`, `share: is not a valid percentage (got "1e1%"); write a number and %, for example "20%" or "0.5%"`, true},
		{`accept = "99"`, `accept: is not a valid status (got "99"); must be from 100 to 599, or a range, for example "404" or "502-504"`, true},
		{`glob = "/a**/b"`, `glob: has the segment "a**" (got "/a**/b"); write one * in a segment, or ** alone for any number of segments`, false},
		{`glob = "a"`, `glob: does not begin with / (got "a"); must be for example "/api" or "/api/*"`, false},
		{`token = { a = 1 }`, `token.a: is a number; must be a string, for example a = "x"`, true},
	} {
		if _, faults := decodeForms(t, tt.text); faults != tt.fault {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.text, faults, tt.fault)
		}
		if problems := validateText(t, schema, tt.text); (problems != nil) != tt.schema {
			t.Errorf("%s: the schema finds %q", tt.text, problems)
		}
	}
}

// TestFormsHidden sees that the values of a map are secret, if the key is.
func TestFormsHidden(t *testing.T) {
	v, faults := decodeForms(t, `token = { a = "secret" }`)
	if text := printForms(&v); faults != "" || strings.Contains(text, "secret") || !strings.Contains(text, `token = { a = "(hidden)" }`) {
		t.Errorf("%s%s", faults, text)
	}
}

// TestFormsUnset sees that a variable which is not set gets its warning only.
func TestFormsUnset(t *testing.T) {
	for _, text := range []string{`split = "${X}"`, `pages = { "404" = "${X}" }`, `log = "${X}"`, `limit = { rate = "${X}" }`} {
		if _, faults := decodeForms(t, text); strings.Count(faults, "\n") > 0 || !strings.Contains(faults, "needs the variable X") {
			t.Errorf("%s: %s", text, faults)
		}
	}
}

// TestPrefixes sees that private stands for networks that only the own host or site has.
func TestPrefixes(t *testing.T) {
	all := Prefixes([]Network{{Name: NetworkPrivate}, {Name: NetworkUnix}, {Prefix: netip.MustParsePrefix("192.0.2.0/24")}})
	for addr, want := range map[string]bool{
		"127.0.0.1": true, "::1": true, "169.254.1.1": true, "fe80::1": true, "10.9.9.9": true, "172.31.0.1": true, "192.168.1.1": true,
		"fd00::1": true, "192.0.2.7": true, "172.32.0.1": false, "8.8.8.8": false, "2001:db8::1": false, "100.64.0.1": false,
	} {
		got := false
		for _, p := range all {
			got = got || p.Contains(netip.MustParseAddr(addr))
		}
		if got != want {
			t.Errorf("%s is in the list: %v, want %v", addr, got, want)
		}
	}
}

// TestRate sees what rates are per second.
func TestRate(t *testing.T) {
	if got := (Rate{90, time.Minute}).PerSecond(); got != 1.5 {
		t.Errorf("90/m is %v per second", got)
	}
}
