package limit

import (
	"net/netip"
	"testing"
	"time"

	"mpgate/proxy/filter"
)

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
