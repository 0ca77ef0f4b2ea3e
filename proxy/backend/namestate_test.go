package backend

import (
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"testing"
	"time"

	"mpgate/internal/dnstest"
	"mpgate/proxy/resolve"
)

// What one process knows about a name, the next one knows at once, also if the resolver is silent
// by then.
func TestNamesOfAnotherProcess(t *testing.T) {
	for _, all := range []bool{false, true} {
		var known, next Names
		b, s, _ := moving(t, Options{Names: &known}, ServerOptions{All: all}, answering)
		_ = ask(t, b, "GET")
		s.Behave(dnstest.Silent)
		next.Restore(throughJSON(t, known.States()))
		options := Options{Name: "next", Names: &next, Servers: b.options.Servers, Resolve: asks(s)}
		after, err := New(options)
		if err != nil {
			t.Fatal(err)
		}
		next.Restore(nil)
		if list := after.NameStatus(); len(list) != 1 || len(list[0].Found) != 1 || list[0].At.IsZero() || list[0].Expires <= 0 {
			t.Errorf("all=%v: status %+v", all, list)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- after.Run(ctx) }()
		if got := ask(t, after, "GET"); got != "old" {
			t.Errorf("all=%v: %q answers", all, got)
		}
		cancel()
		<-ended
		// What another server has said counts for nothing, and nothing does later on.
		options.Resolve.Servers = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53")}
		for range 2 {
			other, err := New(options)
			if err != nil {
				t.Fatal(err)
			}
			if list := other.NameStatus(); len(list) != 1 || len(list[0].Found) != 0 {
				t.Errorf("all=%v: status %+v, want nothing", all, list)
			}
			other.Discard()
			options.Resolve.Servers = asks(s).Servers
		}
	}
}

// The state has both families, of which one may stay while the other is answered, and services.
func TestNameStates(t *testing.T) {
	var known, next Names
	var o Resolve
	host, srv := known.host(o, "api.example"), known.service(o, "_http._tcp.example")
	if list := known.States(); len(list) != 0 {
		t.Errorf("%+v, and nothing was found", list)
	}
	expires := time.Now().Add(time.Minute)
	list, services := addrs("2001:db8::1", "192.0.2.1"), []resolve.Service{{Target: "a.example", Port: 80, Weight: 2}}
	host.restore(&NameState{At: time.Now().Add(-time.Hour), Expires: expires}, list)
	srv.restore(&NameState{Expires: expires.Add(24 * time.Hour)}, services)
	next.Restore(throughJSON(t, known.States()))
	got := next.host(o, "api.example")
	if !slices.Equal(got.last(), list) || !slices.Equal(got.v4.addrs, addrs("192.0.2.1")) || !slices.Equal(got.v6.addrs, addrs("2001:db8::1")) {
		t.Errorf("%v: %v and %v", got.last(), got.v4, got.v6)
	}
	if s := got.status("address", netip.Addr.String); s.Age < time.Hour || s.Expires > time.Minute || s.Expires < time.Minute/2 {
		t.Errorf("status %+v", s)
	}
	if s := next.service(o, "_http._tcp.example"); !slices.Equal(s.last(), services) || time.Until(s.expires) > resolve.MaxTTL {
		t.Errorf("%v until %v", s.last(), s.expires)
	}
	if s := next.service(o, "api.example"); s.last() != nil {
		t.Errorf("the services of a host are %v", s.last())
	}
}

func throughJSON(t *testing.T, list []NameState) (out []NameState) {
	t.Helper()
	text, err := json.Marshal(list)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}
