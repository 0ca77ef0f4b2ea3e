package limit

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/proxy/template"
	"mpgate/telemetry"
)

// request is one of a client.
func request(client string) *filter.Request {
	r := &filter.Request{Request: new(message.Request), Record: new(telemetry.Record)}
	r.Record.Client, _ = netip.ParseAddr(client)
	return r
}

// key parses a template.
func key(t testing.TB, s string) template.Template {
	t.Helper()
	k, err := template.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func field(r *filter.Request, name string) string {
	var values []string
	for i := range r.Fields.Len() {
		if _, n, v, ok := r.Fields.At(i); ok && message.EqualFold(n, name) {
			values = append(values, string(v))
		}
	}
	return strings.Join(values, " | ")
}

func TestDryRun(t *testing.T) {
	l := New(Options{Body: 1, Rate: Rate{1, time.Hour}, PerKey: 1, Requests: 1, DryRun: true})
	for i, want := range []string{"", "rate"} {
		r := request("192.0.2.1")
		if l.FilterRequest(r) {
			t.Fatal("refused")
		}
		if r.Record.DryRun != want {
			t.Errorf("request %d: DryRun %q, want %q", i, r.Record.DryRun, want)
		}
		if r.Fields.Len() != 0 {
			t.Error("the client is told")
		}
		defer l.FilterEnd(r)
	}
	if l.inAll.now.Load() != 1 {
		t.Errorf("%d requests are counted; the one beyond the limit would not be there", l.inAll.now.Load())
	}
}

func TestSet(t *testing.T) {
	s := Set{New(Options{PerKey: 5}), New(Options{Requests: 1}), New(Options{Body: 10})}
	a, b := request("192.0.2.1"), request("192.0.2.1")
	if s.FilterRequest(a) || !s.FilterRequest(b) || b.Answer.Status != 503 {
		t.Fatalf("status %d", b.Answer.Status)
	}
	s.FilterEnd(b)
	s.FilterEnd(a)
	if s[1].inAll.now.Load() != 0 {
		t.Error("a request is still counted")
	}
}

// Nothing is counted for an explanation.
func TestExplain(t *testing.T) {
	l := New(Options{Body: 10, Rate: Rate{30, time.Second}, Requests: 1, PerKey: 1})
	for range 3 {
		r := request("192.0.2.1")
		note := ""
		r.Explain = func(n string) { note += n }
		r.ContentLength = 5
		if l.FilterRequest(r) {
			t.Fatal("refused")
		}
		if want := "limit accepts bodies of up to 10 bytes, 30 requests in a second for each {client}, 30 of them at once, " +
			"1 at the same time for each {client}, 1 at the same time in all"; note != want {
			t.Errorf("note %q", note)
		}
		l.FilterEnd(r)
	}
	r := request("192.0.2.1")
	r.Explain = func(string) {}
	r.ContentLength = 11
	if !l.FilterRequest(r) || r.Answer.Status != 413 {
		t.Error("a body that is too large is not explained")
	}
}

func TestAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("sync.Pool drops at random under the race detector")
	}
	l := New(Options{
		Body: 10, Rate: Rate{1_000_000, time.Second}, PerKey: 4, Requests: 10, Key: key(t, "{client} {header.X-Key}"),
		Meter: telemetry.NewInstruments("test").Limits("api"),
	})
	r := request("2001:db8::1")
	r.Header.AddName([]byte("X-Key"), []byte("abc"))
	src := message.BodyReader(new(pieces))
	once := func() {
		r.ContentLength = message.Unknown
		if l.FilterRequest(r) {
			t.Fatal("refused")
		}
		l.FilterRequestBody(r, src)
		l.FilterEnd(r)
		r.Reset()
		r.Record.Client = netip.MustParseAddr("2001:db8::1")
	}
	once()
	if n := testing.AllocsPerRun(1000, once); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// FuzzLimit sees that no key and no length makes a limit panic or let more through than it may.
func FuzzLimit(f *testing.F) {
	f.Add("{client}", "192.0.2.1", "x", int64(5), uint16(3))
	f.Add("{header.A}{path}", "::1", "\x00\xff", int64(-1), uint16(1))
	f.Fuzz(func(t *testing.T, tmpl, addr, value string, length int64, burst uint16) {
		k, err := template.Parse(tmpl)
		if err != nil {
			return
		}
		most := int(burst%50) + 1
		l := New(Options{Body: 100, Rate: Rate{1, time.Hour}, Burst: most, Key: k})
		passed := 0
		for range most + 10 {
			r := request(addr)
			r.Header.AddName([]byte("A"), []byte(value))
			r.Matched.Path = []byte(value)
			r.ContentLength = length
			if !l.FilterRequest(r) {
				passed++
			}
			l.FilterEnd(r)
		}
		want := most
		if length > 100 {
			want = 0
		}
		if passed != want {
			t.Fatalf("%d passed, want %d", passed, want)
		}
	})
}
