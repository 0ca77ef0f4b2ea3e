package limit

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"sync"
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

func TestDeclaredBody(t *testing.T) {
	l := New(Options{Body: 100})
	for _, tt := range []struct {
		length int64
		status int
	}{{0, 0}, {100, 0}, {101, 413}, {1 << 62, 413}, {message.Unknown, 0}} {
		r := request("192.0.2.1")
		r.ContentLength = tt.length
		if done := l.FilterRequest(r); done != (tt.status != 0) || r.Answer.Status != tt.status {
			t.Errorf("a body of %d bytes: done %v, status %d", tt.length, done, r.Answer.Status)
		}
		if tt.status != 0 && r.Answer.End != telemetry.EndLimited {
			t.Errorf("end %v", r.Answer.End)
		}
		l.FilterEnd(r)
	}
}

// pieces is a body.
type pieces []string

func (p *pieces) Next(bool) ([]byte, error) {
	if len(*p) == 0 {
		return nil, io.EOF
	}
	first := (*p)[0]
	*p = (*p)[1:]
	return []byte(first), nil
}

func TestBodyOfUnknownLength(t *testing.T) {
	for _, dry := range []bool{false, true} {
		for _, tt := range []struct {
			body pieces
			ok   bool
		}{
			{pieces{"12345", "67890"}, true},
			{pieces{"12345", "678901"}, false},
			{pieces{"12345678901"}, false},
			{pieces{"1234567890", "", "1"}, false},
			{nil, true},
		} {
			in := telemetry.NewInstruments("test")
			l := New(Options{Body: 10, DryRun: dry, Meter: in.Limits("api")})
			r := request("192.0.2.1")
			r.ContentLength = message.Unknown
			if l.FilterRequest(r) {
				t.Fatal("refused before the body came")
			}
			want := strings.Join(tt.body, "")
			body := l.FilterRequestBody(r, &tt.body)
			got := ""
			var err error
			for err == nil {
				var p []byte
				p, err = body.Next(true)
				got += string(p)
			}
			var refused *filter.BodyError
			switch {
			case tt.ok || dry:
				if err != io.EOF || got != want {
					t.Errorf("dry %v, %q: got %q, %v", dry, want, got, err)
				}
			case !errors.As(err, &refused) || refused.Answer.Status != 413 || len(got) > 10:
				t.Errorf("%q: got %q, %v", want, got, err)
			default:
				if _, again := body.Next(true); again != err {
					t.Errorf("then %v", again)
				}
				if r.Record.Filter != "limit" {
					t.Errorf("filter %q", r.Record.Filter)
				}
			}
			if exceeded := r.Record.DryRun != ""; exceeded != (dry && !tt.ok) {
				t.Errorf("%q: DryRun %q", want, r.Record.DryRun)
			}
			l.FilterEnd(r)
		}
	}
}

// A tunnel has no body.
func TestTunnelsHaveNoBody(t *testing.T) {
	l := New(Options{Body: 1})
	r := request("192.0.2.1")
	r.ContentLength, r.Upgrade = message.Unknown, []byte("websocket")
	src := new(pieces)
	if got := l.FilterRequestBody(r, src); got != src {
		t.Error("what follows a change of protocols is counted")
	}
}

func TestRateFields(t *testing.T) {
	l := New(Options{Rate: Rate{10, time.Minute}, Burst: 2, Policy: "limit-2"})
	for i, want := range []struct {
		done                bool
		state, after, limit string
	}{
		{false, `"limit-2";r=1;t=6`, "", ""},
		{false, `"limit-2";r=0;t=6`, "", ""},
		{true, `"limit-2";r=0;t=6`, "6", ""},
		{true, `"limit-2";r=0;t=6`, "6", ""},
	} {
		r := request("192.0.2.1")
		if done := l.FilterRequest(r); done != want.done {
			t.Errorf("request %d: done %v", i, done)
		}
		if want.done && (r.Answer.Status != 429 || r.Answer.End != telemetry.EndLimited) {
			t.Errorf("request %d: %+v", i, r.Answer)
		}
		for name, value := range map[string]string{
			"RateLimit": want.state, "RateLimit-Policy": `"limit-2";q=2;w=12`, "Retry-After": want.after,
		} {
			if got := field(r, name); got != value {
				t.Errorf("request %d: %s is %q, want %q", i, name, got, value)
			}
		}
		l.FilterEnd(r)
	}
	other := request("192.0.2.2")
	if l.FilterRequest(other) {
		t.Error("another client was refused")
	}
}

// The clock of a bucket, without waiting.
func TestRate(t *testing.T) {
	l := newRate(Rate{10, time.Second}, 3, "limit", nil)
	k := l.hash([]byte("a"))
	now := l.epoch
	take := func(after time.Duration) (state, bool) {
		now = now.Add(after)
		return l.take(k, now)
	}
	for i, tt := range []struct {
		after time.Duration
		ok    bool
		left  int64
		wait  time.Duration
	}{
		{0, true, 2, 100 * time.Millisecond},
		{0, true, 1, 100 * time.Millisecond},
		{0, true, 0, 100 * time.Millisecond},
		{0, false, 0, 100 * time.Millisecond},
		{99 * time.Millisecond, false, 0, time.Millisecond},
		{time.Millisecond, true, 0, 100 * time.Millisecond},
		{50 * time.Millisecond, false, 0, 50 * time.Millisecond},
		{250 * time.Millisecond, true, 2, 100 * time.Millisecond}, // full again
		{-time.Millisecond, true, 0, time.Millisecond},            // the clock of another goroutine
		{101 * time.Millisecond, true, 1, 100 * time.Millisecond},
	} {
		s, ok := take(tt.after)
		if ok != tt.ok || s.left != tt.left || s.wait != tt.wait {
			t.Errorf("%d: got %v, %+v, want %+v", i, ok, s, tt)
		}
	}
}

// The most extreme rates do not overflow.
func TestExtremeRates(t *testing.T) {
	for _, o := range []Options{
		{Rate: Rate{1_000_000_000, time.Second}, Burst: 1_000_000_000},
		{Rate: Rate{1, time.Hour}, Burst: 1_000_000_000},
		{Rate: Rate{1_000_000_000, time.Hour}, Burst: 1},
		{Rate: Rate{1, time.Hour}},
	} {
		l := New(o)
		r := request("192.0.2.1")
		if l.FilterRequest(r) {
			t.Errorf("%+v refuses the first request", o.Rate)
		}
		for _, name := range []string{"RateLimit", "RateLimit-Policy"} {
			if v := field(r, name); v == "" || strings.Contains(v, "-1") || strings.Contains(v, "=-") {
				t.Errorf("%+v: %s is %q", o.Rate, name, v)
			}
		}
	}
}

func TestKeys(t *testing.T) {
	for _, tt := range []struct {
		key  string
		a, b func(r *filter.Request)
		same bool
	}{
		{"{client}", client("2001:db8:1:2::1"), client("2001:db8:1:2:ffff:1:2:3"), true},
		{"{client}", client("2001:db8:1:2::1"), client("2001:db8:1:3::1"), false},
		{"{client}", client("::ffff:192.0.2.1"), client("192.0.2.1"), true},
		{"{client}", client("192.0.2.1"), client("192.0.2.2"), false},
		{"{client}", client("fe80::1"), client("fe80::2"), false},
		{"{client} {path}", client("2001:db8::1"), client("2001:db8::2"), true},
		{"{header.A}{header.B}", fields("A", "xy", "B", "z"), fields("A", "x", "B", "yz"), false},
		{"{header.A}", fields("a", "x"), fields("A", "x"), true},
		{"{header.A}", fields(), fields(), true}, // without the field they are one key
		{"{header.A}", fields("A", "x\x00"), fields("A", "x"), true},
		{"{host}", fields("X", "1"), fields("X", "2"), true},
	} {
		l := New(Options{Rate: Rate{1, time.Hour}, Key: key(t, tt.key)})
		a, b := request("192.0.2.9"), request("192.0.2.9")
		tt.a(a)
		tt.b(b)
		if l.FilterRequest(a) {
			t.Fatal("the first was refused")
		}
		if got := l.FilterRequest(b); got != tt.same {
			t.Errorf("%s: the second was refused: %v, want %v", tt.key, got, tt.same)
		}
	}
}

func client(a string) func(r *filter.Request) {
	return func(r *filter.Request) { r.Record.Client = netip.MustParseAddr(a) }
}

func fields(pairs ...string) func(r *filter.Request) {
	return func(r *filter.Request) {
		for i := 0; i < len(pairs); i += 2 {
			r.Header.AddName([]byte(pairs[i]), []byte(pairs[i+1]))
		}
	}
}

func TestConcurrency(t *testing.T) {
	l := New(Options{PerKey: 2, Requests: 3})
	var held []*filter.Request
	enter := func(client string, status int) {
		t.Helper()
		r := request(client)
		if done := l.FilterRequest(r); done != (status != 0) || r.Answer.Status != status {
			t.Fatalf("%s: done %v, status %d, want %d", client, done, r.Answer.Status, status)
		}
		if status != 0 {
			if field(r, "Retry-After") != "1" {
				t.Error("no Retry-After")
			}
			l.FilterEnd(r) // as the chain does
			return
		}
		held = append(held, r)
	}
	enter("192.0.2.1", 0)
	enter("192.0.2.1", 0)
	enter("192.0.2.1", 429)
	enter("192.0.2.2", 0)
	enter("192.0.2.3", 503)
	enter("192.0.2.3", 503)
	l.FilterEnd(held[0])
	enter("192.0.2.3", 0)
	for _, r := range held[1:] {
		l.FilterEnd(r)
	}
	if n := l.inAll.now.Load(); n != 0 {
		t.Errorf("%d requests are still counted", n)
	}
	for i := range l.perKey.shards {
		for _, p := range l.perKey.shards[i].places {
			if p.number != 0 {
				t.Errorf("a key has still %d", p.number)
			}
		}
	}
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

// A full table forgets nobody who has something to lose.
func TestFullTable(t *testing.T) {
	in := telemetry.NewInstruments("test")
	l := New(Options{Rate: Rate{1, time.Hour}, Burst: 2, Memory: &Memory{Limit: 1}, Meter: in.Limits("api")})
	attacker := request("192.0.2.1")
	l.FilterRequest(attacker)
	l.FilterRequest(attacker)
	if !l.FilterRequest(attacker) {
		t.Fatal("the burst is 2")
	}
	passed := 0
	for i := range 100_000 { // from other addresses
		r := request(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String())
		if !l.FilterRequest(r) {
			passed++
		}
	}
	if !l.FilterRequest(attacker) {
		t.Error("the bucket of the attacker was reset")
	}
	// The keys that have a place pass, and the two requests of each shared bucket.
	if most := shards*minPlaces + 2*shards; passed > most {
		t.Errorf("%d of 100,000 keys passed, want at most %d", passed, most)
	}
	for i := range l.rate.shards {
		if n := len(l.rate.shards[i].places); n > minPlaces {
			t.Errorf("a shard has %d places", n)
		}
	}
}

// A place is given to another key once its bucket is full again, and the memory stays bounded.
func TestPlacesAreUsedAgain(t *testing.T) {
	l := newRate(Rate{1, time.Second}, 1, "limit", nil)
	now := l.epoch
	for i := range 300_000 {
		k := l.hash(strconv.AppendInt(nil, int64(i), 10))
		if _, ok := l.take(k, now); !ok {
			t.Fatalf("key %d was refused", i)
		}
		now = now.Add(100 * time.Microsecond) // 10,000 keys have something to lose at a time
	}
	places := 0
	for i := range l.shards {
		places += len(l.shards[i].places)
	}
	if places > 1<<16 {
		t.Errorf("%d places", places)
	}
}

func TestTableGrows(t *testing.T) {
	m := &Memory{}
	p := &perKey{newTable(m, nil), 1}
	var keys []uint64
	for i := range 100_000 {
		k := p.hash(strconv.AppendInt(nil, int64(i), 10))
		if ok, shared := p.enter(k); !ok || shared {
			t.Fatalf("key %d: %v, shared %v", i, ok, shared)
		}
		keys = append(keys, k)
	}
	for _, k := range keys {
		if ok, _ := p.enter(k); ok {
			t.Fatal("a key was forgotten")
		}
	}
	for _, k := range keys {
		p.leave(k, false)
	}
	if m.used.Load() == 0 {
		t.Error("no memory was taken")
	}
	p.release()
	if n := m.used.Load(); n != 0 {
		t.Errorf("%d bytes were not given back", n)
	}
}

// What a table has grown by in an attack is given back when that is over, and no key is forgotten.
func TestTableShrinks(t *testing.T) {
	m := &Memory{}
	p := &perKey{newTable(m, nil), 1}
	var keys []uint64
	for i := range 100_000 {
		keys = append(keys, p.hash(strconv.AppendInt(nil, int64(i), 10)))
		p.enter(keys[i])
	}
	grown := m.used.Load()
	m.shrink()
	if n := m.used.Load(); n != grown {
		t.Errorf("%d bytes while all keys are in use, had %d", n, grown)
	}
	stay := keys[:2_000]
	for _, k := range keys[len(stay):] {
		p.leave(k, false)
	}
	m.shrink()
	if n := m.used.Load(); n >= grown/4 || n == 0 {
		t.Errorf("%d bytes for %d keys, had %d", n, len(stay), grown)
	}
	for _, k := range stay {
		if ok, shared := p.enter(k); ok || shared {
			t.Fatal("a key was forgotten")
		}
		p.leave(k, false)
	}
	for i := range p.shards {
		for _, place := range p.shards[i].places {
			if place.number != 0 {
				t.Fatal("a key is still there")
			}
		}
	}
	p.enter(keys[0])
	m.shrink()
	if n := m.used.Load(); n != 0 {
		t.Errorf("%d bytes for one key", n)
	}
}

// Run shrinks tables whose buckets are full again, without requests.
func TestMemoryIsGivenBack(t *testing.T) {
	m := &Memory{Every: time.Millisecond}
	l := newRate(Rate{1, time.Minute}, 1, "limit", m)
	l.epoch = time.Now().Add(-time.Hour)
	for i := range 100_000 {
		l.take(l.hash(strconv.AppendInt(nil, int64(i), 10)), l.epoch)
	}
	if m.used.Load() == 0 {
		t.Fatal("no memory was taken")
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	for end := time.Now().Add(time.Minute); m.used.Load() != 0; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%d bytes are still held", m.used.Load())
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	// After release nothing is counted any more.
	l.release()
	for i := range 100_000 {
		l.take(l.hash(strconv.AppendInt(nil, int64(i), 10)), time.Now())
	}
	if n := m.used.Load(); n != 0 || len(m.tables) != 0 {
		t.Errorf("%d bytes and %d tables after release", n, len(m.tables))
	}
}

// The fields say what the rate is, also where the time of a bucket is not whole seconds.
func TestRatePolicy(t *testing.T) {
	for _, c := range []struct {
		rate  Rate
		burst int
		want  string
	}{
		{Rate{30, time.Second}, 50, "q=60;w=2"},
		{Rate{30, time.Second}, 1, "q=30;w=1"},
		{Rate{30, time.Second}, 30, "q=30;w=1"},
		{Rate{100, time.Minute}, 100, "q=100;w=60"},
		{Rate{1, time.Hour}, 3, "q=3;w=10800"},
		{Rate{7, time.Second}, 3, "q=7;w=1"},
		{Rate{1 << 40, time.Nanosecond}, 1 << 60, "q=999999999999999;w=1152921505"},
	} {
		l := newRate(c.rate, c.burst, "limit", nil)
		if got, want := string(l.policy), `"limit";`+c.want; got != want {
			t.Errorf("%v with a burst of %d: %s, want %s", c.rate, c.burst, got, want)
		}
	}
	l := newRate(Rate{10, time.Minute}, 100, "limit", nil)
	for i, want := range []string{"r=99;t=6", "r=98;t=6", "r=97;t=4"} {
		s, _ := l.take(1, l.epoch.Add(time.Duration(i/2)*2*time.Second))
		if got := string(l.appendState(nil, s)); got != `"limit";`+want {
			t.Errorf("request %d: %s, want %s", i, got, want)
		}
	}
}

// Keys without a place share a number, and each takes back what it has added.
func TestSharedNumbers(t *testing.T) {
	p := &perKey{newTable(&Memory{Limit: 1}, nil), 3}
	type one struct {
		key    uint64
		shared bool
	}
	var in []one
	for i := range 10_000 {
		k := p.hash(strconv.AppendInt(nil, int64(i), 10))
		if ok, shared := p.enter(k); ok {
			in = append(in, one{k, shared})
		}
	}
	for _, e := range in {
		p.leave(e.key, e.shared)
	}
	for i := range p.shards {
		s := &p.shards[i]
		if s.shared != 0 {
			t.Errorf("shard %d: %d left", i, s.shared)
		}
		for _, place := range s.places {
			if place.number != 0 {
				t.Errorf("shard %d: %d left for a key", i, place.number)
			}
		}
	}
}

func TestSideBySide(t *testing.T) {
	l := New(Options{Rate: Rate{1_000_000, time.Second}, PerKey: 4, Requests: 10, Body: 5})
	var wait sync.WaitGroup
	for g := range 8 {
		wait.Go(func() {
			for i := range 2000 {
				r := request(netip.AddrFrom4([4]byte{10, 0, byte(g), byte(i)}).String())
				r.ContentLength = message.Unknown
				if !l.FilterRequest(r) {
					_, _ = l.FilterRequestBody(r, &pieces{"123456"}).Next(true)
				}
				l.FilterEnd(r)
			}
		})
	}
	wait.Wait()
	if n := l.inAll.now.Load(); n != 0 {
		t.Errorf("%d requests are still counted", n)
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

func BenchmarkRate(b *testing.B) {
	l := New(Options{Rate: Rate{1_000_000_000, time.Second}})
	r := request("2001:db8::1")
	for b.Loop() {
		l.FilterRequest(r)
		r.Fields.Reset()
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
