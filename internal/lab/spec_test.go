package lab

import (
	"net/netip"
	"testing"
	"time"
)

func TestSpecFaults(t *testing.T) {
	link := func(f func(*LinkSpec)) Spec {
		s := Pair(1, Path{})
		f(&s.Links[0])
		return s
	}
	for name, c := range map[string]struct {
		spec Spec
		want string
	}{
		"empty":     {Spec{}, `lab: no links`},
		"no name":   {link(func(l *LinkSpec) { l.Name = "" }), `lab: link "": needs a name and two places (got "", "client" and "server")`},
		"one place": {link(func(l *LinkSpec) { l.B = l.A }), `lab: link "link1": needs a name and two places (got "link1", "client" and "client")`},
		"long name": {link(func(l *LinkSpec) { l.DevA = "averylonginterface" }), `lab: link "link1": interface "averylonginterface": a name has at most 15 bytes and is not lo`},
		"loss":      {link(func(l *LinkSpec) { l.Loss = 5 }), `lab: link "link1": loss is not within 0 to 1 (got 5); 1 % is 0.01`},
		"rate":      {link(func(l *LinkSpec) { l.Rate = 100 }), `lab: link "link1": rate is below 1000 bit/s (got 100); give bit/s, as in 100 * lab.Mbit`},
		"back":      {link(func(l *LinkSpec) { l.Back = &Path{Delay: -time.Second} }), `lab: link "link1": delay is not within 0 to 10s (got -1s)`},
		"queue":     {link(func(l *LinkSpec) { l.Queue, l.QueuePackets = 1, 1 }), `lab: link "link1": queue is given in bytes and in packets (got 1 and 1); give one`},
		"addresses": {link(func(l *LinkSpec) {
			l.AddrA, l.AddrB = netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("198.51.100.1/24")
		}), `lab: link "link1": the two ends need two addresses of one prefix (got 192.0.2.1/24 and 198.51.100.1/24)`},
		"place": {Spec{Links: Pair(1, Path{}).Links, Places: []PlaceSpec{{Name: "cleint"}}}, `lab: place "cleint": no link leads there`},
		"twice, turned round": {Spec{Links: []LinkSpec{{Name: "x", A: "a", B: "b"}, {Name: "x", A: "b", B: "a"}}},
			"lab: link \"x\": the name is used twice\n" +
				"lab: link \"x\": another link has \"a\" as A and \"b\" as B; of all links between two places the same is A\n" +
				"lab: link \"x\": place \"b\" has two interfaces \"x\"\n" +
				"lab: link \"x\": place \"a\" has two interfaces \"x\""},
	} {
		_, err := c.spec.complete()
		if err == nil || err.Error() != c.want {
			t.Errorf("%s:\n got %v\nwant %s", name, err, c.want)
		}
	}
}

func TestSpecDefaults(t *testing.T) {
	s := TwoPaths(Path{Delay: 10 * time.Millisecond})
	s.IPv6 = true
	s, err := s.complete()
	if err != nil {
		t.Fatal(err)
	}
	l := s.Links[2]
	if l.Name != "back1" || l.A != "gateway" || l.DevB != "back1" || l.MTU != 1500 || l.Rate != 100*Mbit ||
		l.AddrA.String() != "10.77.3.1/24" || l.AddrB.String() != "10.77.3.2/24" || l.Addr6B.String() != "fd77:0:0:3::2/64" {
		t.Errorf("%+v", l)
	}
	if got := l.there().queueBytes(1500); got != 500_000 { // 100 Mbit/s for 40 ms
		t.Errorf("queue of %d bytes", got)
	}
}
