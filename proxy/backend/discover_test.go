package backend

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mpgate/internal/dnstest"
	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/proxy/resolve"
	"mpgate/telemetry"
)

// origins starts servers on one port of several addresses. Each answers with its address.
func origins(t *testing.T, addresses ...string) (port uint16, list []*proxytest.Origin) {
	t.Helper()
	for _, a := range addresses {
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", a, port))
		if err != nil {
			t.Fatal(err)
		}
		port = uint16(l.Addr().(*net.TCPAddr).Port)
		list = append(list, proxytest.OriginOn(t, l, answering(a)))
	}
	return port, list
}

// listed are the addresses of the servers of a backend, in their order.
func listed(b *Backend) string {
	var list []string
	for _, s := range b.list() {
		list = append(list, s.Address)
	}
	return strings.Join(list, " ")
}

// Every address of a name is a server. Those that stay keep their connections.
func TestAll(t *testing.T) {
	port, _ := origins(t, "127.0.0.1", "127.0.0.2", "127.0.0.3")
	s := dnstest.New(t)
	s.Set("api.example. 300 IN A 127.0.0.2", "api.example. 300 IN A 127.0.0.1")
	var mu sync.Mutex
	var moved []string
	b, _ := pool(t, Options{Resolve: asks(s), Servers: []ServerOptions{
		{Address: fmt.Sprintf("127.0.0.2:%d", port), MPTCP: mptcp.Off},
		{Address: fmt.Sprintf("api.example.:%d", port), All: true, MPTCP: mptcp.Off},
	}, Moved: func(name string, added, removed []string) {
		mu.Lock()
		defer mu.Unlock()
		moved = append(moved, fmt.Sprint(name, added, removed))
	}})
	defer func() {
		if got, want := b.list()[1].Host(), fmt.Sprintf("api.example.:%d", port); got != want {
			t.Errorf("the server is asked by %s, want %s", got, want)
		}
	}()
	at := func(a string) string { return fmt.Sprintf("127.0.0.%s:%d", a, port) }
	if !proxytest.Within(proxytest.Patience, func() bool { return len(b.list()) == 2 }) {
		t.Fatal("the name is not resolved")
	}
	if got, want := listed(b), at("2")+" "+at("1"); got != want {
		t.Errorf("servers %s, want %s: an address counts once", got, want)
	}
	for range 2 {
		ask(t, b, "GET")
	}
	first := b.list()[1]
	s.Set("api.example. 300 IN A 127.0.0.3", "api.example. 300 IN A 127.0.0.1")
	renew(b)
	if got, want := listed(b), at("2")+" "+at("1")+" "+at("3"); got != want {
		t.Errorf("servers %s, want %s", got, want)
	}
	if b.list()[1] != first || first.status(time.Now()).Idle != 1 {
		t.Error("a server that stays has lost its connection")
	}
	var answered []string
	for range 3 {
		answered = append(answered, ask(t, b, "GET"))
	}
	if slices.Sort(answered); fmt.Sprint(answered) != "[127.0.0.1 127.0.0.2 127.0.0.3]" {
		t.Errorf("%v answered, want each once", answered)
	}
	s.Set("api.example. 300 IN A 127.0.0.3")
	renew(b)
	if first.status(time.Now()).Idle != 0 {
		t.Error("a server that has gone keeps its connection")
	}
	said := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(moved) > 0 && moved[0] == fmt.Sprintf("api.example.:%d[%s] []", port, at("1"))
	}
	if !proxytest.Within(proxytest.Patience, said) {
		t.Errorf("reported %q", moved)
	}
}

// The servers of the lowest priority get the requests, by weight; those of a higher one only if
// none of the lower can be reached.
func TestSRV(t *testing.T) {
	port, list := origins(t, "127.0.0.1", "127.0.0.2", "127.0.0.3")
	s := dnstest.New(t)
	record := func(priority, weight int, target string) string {
		return fmt.Sprintf("_http._tcp.api.example. 300 IN SRV %d %d %d %s.example.", priority, weight, port, target)
	}
	s.Set(record(10, 300, "a"), record(10, 100, "b"), record(20, 50, "c"),
		"a.example. 300 IN A 127.0.0.1", "b.example. 300 IN A 127.0.0.2", "c.example. 300 IN A 127.0.0.3")
	b, _ := pool(t, Options{Resolve: asks(s), Servers: []ServerOptions{{SRV: "_http._tcp.api.example", MPTCP: mptcp.Off}}})
	count := func(n int) map[string]int {
		got := map[string]int{}
		for range n {
			got[ask(t, b, "GET")]++
		}
		return got
	}
	if got := count(40); fmt.Sprint(got) != "map[127.0.0.1:30 127.0.0.2:10]" {
		t.Errorf("answers by server: %v, want 30 and 10", got)
	}
	list[0].Close()
	list[1].Close()
	renew(b) // closes the idle connections
	if got := count(4); fmt.Sprint(got) != "map[127.0.0.3:4]" {
		t.Errorf("after the failure of the first two: %v", got)
	}
	s.Set(record(10, 1, "c"), "c.example. 300 IN A 127.0.0.3")
	renew(b)
	if got, want := listed(b), fmt.Sprintf("c.example:%d", port); got != want {
		t.Errorf("servers %s, want %s", got, want)
	}
	var found []string
	for _, n := range b.NameStatus() {
		found = append(found, fmt.Sprint(n.Kind, " ", n.Name, " ", n.Found))
	}
	want := fmt.Sprintf("srv _http._tcp.api.example [c.example:%d priority 10 weight 1], address c.example:%[1]d [127.0.0.3]", port)
	if ask(t, b, "GET") != "127.0.0.3" || strings.Join(found, ", ") != want && len(found) != 2 {
		t.Errorf("status %q, want %s", found, want)
	}
}

// A server whose weight or priority changes keeps its connections.
func TestChangedRecords(t *testing.T) {
	port, _ := origins(t, "127.0.0.1", "127.0.0.2")
	s := dnstest.New(t)
	set := func(a, b string) {
		s.Set(fmt.Sprintf("_http._tcp.api.example. 300 IN SRV %s %d a.example.", a, port), fmt.Sprintf("_http._tcp.api.example. 300 IN SRV %s %d b.example.", b, port),
			"a.example. 300 IN A 127.0.0.1", "b.example. 300 IN A 127.0.0.2")
	}
	b, _ := pool(t, Options{Resolve: asks(s), Servers: []ServerOptions{{SRV: "_http._tcp.api.example.", MPTCP: mptcp.Off}}})
	var before []*Server
	for _, c := range []struct{ a, b, want string }{
		{"10 1", "10 1", "map[127.0.0.1:20 127.0.0.2:20]"}, {"10 1", "10 3", "map[127.0.0.1:10 127.0.0.2:30]"},
		{"10 1", "20 3", "map[127.0.0.1:40]"}, {"20 1", "10 3", "map[127.0.0.2:40]"},
	} {
		set(c.a, c.b)
		renew(b)
		got := map[string]int{}
		for range 40 {
			got[ask(t, b, "GET")]++
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%s and %s: %v, want %s", c.a, c.b, got, c.want)
		}
		list := slices.SortedFunc(slices.Values(b.list()), func(x, y *Server) int { return strings.Compare(x.Address, y.Address) })
		if before != nil && !slices.Equal(list, before) {
			t.Errorf("%s and %s: other servers than before", c.a, c.b)
		}
		before = list
		for _, s := range list {
			if n := s.status(time.Now()).Idle; n != 1 {
				t.Errorf("%s and %s: %d idle connections to %s, want the one of before", c.a, c.b, n, s.Address)
			}
		}
	}
}

// Servers of a later priority stand by: they count only when those before them do not work.
func TestStandbyInsteadOfPanic(t *testing.T) {
	s := dnstest.New(t)
	s.Set("_http._tcp.api.example. 300 IN SRV 10 1 80 a.example.", "_http._tcp.api.example. 300 IN SRV 10 1 80 b.example.", "_http._tcp.api.example. 300 IN SRV 20 1 80 c.example.")
	b, _ := pool(t, Options{Resolve: asks(s), Servers: []ServerOptions{{SRV: "_http._tcp.api.example.", MPTCP: mptcp.Off}}}, probingEvery(time.Hour))
	if !proxytest.Within(proxytest.Patience, func() bool { return len(b.list()) == 3 }) {
		t.Fatal("the name is not resolved")
	}
	l := b.list()
	picks := func() *Server {
		var a Attempt
		a.Reset(b)
		return a.pick(time.Now())
	}
	failed := &checkError{"GET /: status 503"}
	l[0].fail(telemetry.ChangeCheck, failed)
	l[1].fail(telemetry.ChangeCheck, failed)
	if picks() != l[2] || b.panics.Load() {
		t.Error("the server that stands by is not used")
	}
	l[2].fail(telemetry.ChangeCheck, failed)
	if s := picks(); s == l[2] || !b.panics.Load() {
		t.Error("without a healthy server none of the first two is used")
	}
}

// Weight 0 holds for all servers of a name.
func TestAllWithoutWeight(t *testing.T) {
	s := dnstest.New(t)
	s.Set("api.example. 300 IN A 127.0.0.1")
	b, _ := pool(t, Options{Resolve: asks(s), Servers: []ServerOptions{{Address: "api.example.:80", All: true, Weight: -1, MPTCP: mptcp.Off}}})
	if !proxytest.Within(proxytest.Patience, func() bool { return len(b.list()) == 1 }) {
		t.Fatal("the name is not resolved")
	}
	if _, _, err := open(t, b); !errors.Is(err, ErrNoServer) {
		t.Errorf("got %v, want that there is no server", err)
	}
}

// What an operator asked of a server holds when its name has the address again, also of a later
// backend. Of too many the oldest are forgotten.
func TestServersThatGoAreRemembered(t *testing.T) {
	s := dnstest.New(t)
	both := []string{"api.example. 300 IN A 127.0.0.1", "api.example. 300 IN A 127.0.0.2"}
	s.Set(both...)
	o := Options{Resolve: asks(s), Servers: []ServerOptions{{Address: "api.example.:80", All: true, MPTCP: mptcp.Off}}}
	b, _ := pool(t, o)
	if !proxytest.Within(proxytest.Patience, func() bool { return len(b.list()) == 2 }) {
		t.Fatal("the name is not resolved")
	}
	for i := range maxRemembered + 1 {
		gone := &Server{Address: fmt.Sprint(i), backend: b}
		gone.admin.Store(uint32(AdminDown))
		gone.remember()
	}
	b.SetAdminState("127.0.0.2:80", AdminDrain)
	s.Set(both[0])
	renew(b)
	o.Restore = b.States()
	if n := len(o.Restore); n != 1+maxRemembered {
		t.Errorf("%d states, want those of a server and of %d that have gone", n, maxRemembered)
	}
	s.Set(both...)
	renew(b)
	later, _ := pool(t, o)
	if !proxytest.Within(proxytest.Patience, func() bool { return len(later.list()) == 2 }) {
		t.Fatal("the name is not resolved")
	}
	for _, b := range []*Backend{b, later} {
		if got := b.Status()[1]; got.Address != "127.0.0.2:80" || got.Admin != AdminDrain {
			t.Errorf("%s is %v, want drain", got.Address, got.Admin)
		}
	}
}

func TestServiceWeights(t *testing.T) {
	of := func(weights ...int) (list []resolve.Service) {
		for _, w := range weights {
			list = append(list, resolve.Service{Weight: uint16(w)})
		}
		return list
	}
	for _, c := range []struct {
		list []resolve.Service
		want string
	}{
		{of(0, 0), "[1 1]"}, {of(0, 10), "[1 10]"}, {of(65535, 32768, 1), "[100 50 1]"}, {of(7), "[7]"}, {nil, "[]"},
		{append(of(1000), resolve.Service{Priority: 1, Weight: 5}), "[100 5]"},
	} {
		if got := fmt.Sprint(serviceWeights(c.list)); got != c.want {
			t.Errorf("%v: %s, want %s", c.list, got, c.want)
		}
	}
}

func TestServiceHost(t *testing.T) {
	for name, want := range map[string]string{"_http._tcp.api.example": "api.example", "_http._tcp.api.example.": "api.example", "api.example": "api.example"} {
		if got := ServiceHost(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// A request that comes before the first answer about a name waits for it. Without an answer it ends
// with an error that says why.
func TestFirstAnswer(t *testing.T) {
	port, _ := origins(t, "127.0.0.1")
	s := dnstest.New(t)
	s.Behave(dnstest.NXDomain)
	s.Set("api.example. 300 IN A 127.0.0.1")
	b, _ := pool(t, Options{Resolve: asks(s), Servers: []ServerOptions{{Address: fmt.Sprintf("api.example.:%d", port), All: true, MPTCP: mptcp.Off}}})
	_, _, err := open(t, b)
	if !errors.Is(err, ErrNoServer) || !strings.Contains(err.Error(), "no such host") {
		t.Errorf("got %v, want that there is no such host", err)
	}
	s.Behave(dnstest.Normal)
	renew(b)
	if got := ask(t, b, "GET"); got != "127.0.0.1" {
		t.Errorf("%q answered", got)
	}
}

func TestInvalidEntries(t *testing.T) {
	for _, c := range []struct {
		server ServerOptions
		want   string
	}{
		{ServerOptions{SRV: "_a._tcp.b", Address: "b:80"}, `backend "b": server "_a._tcp.b": SRV stands alone`},
		{ServerOptions{Address: "192.0.2.1:80", All: true}, `backend "b": server "192.0.2.1:80": All needs a name`},
		{ServerOptions{Address: "name", All: true}, `backend "b": server "name": want host:port or unix:/path`},
	} {
		known := new(Names)
		_, err := New(Options{Name: "b", Names: known, Servers: []ServerOptions{{Address: "x.example:80"}, {Address: "y.example:80", All: true}, c.server}})
		if err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
		if len(known.hosts)+len(known.services) != 0 {
			t.Errorf("%v: names are left", c.server)
		}
	}
}

// With many servers a change costs little, and the order of an answer does not matter.
func TestAssembleKeepsTheOrder(t *testing.T) {
	b, err := New(Options{Name: "b", Servers: []ServerOptions{{Address: "api.example:80", All: true}}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Discard()
	var list []netip.Addr
	for i := range 2 * resolve.MaxRecords {
		list = append(list, netip.AddrFrom4([4]byte{10, 0, byte(i / 256), byte(i)}))
	}
	set := func(list []netip.Addr) {
		b.entries[0].all.snapshot.Store(&list)
		if err := b.assemble(); err != nil {
			t.Fatal(err)
		}
	}
	set(list)
	before := b.members.Load()
	turned := slices.Clone(list)
	slices.Reverse(turned)
	set(turned)
	if b.members.Load() != before {
		t.Error("the list was replaced although no server has come or gone")
	}
	set(list[1:])
	if n := len(b.list()); n != len(list)-1 || b.list()[0] != before.servers[1] {
		t.Errorf("%d servers, or others than before", n)
	}
}

// The servers that a name has at first get their whole share at once, those that come later do not.
func TestFoundServersStartSlowly(t *testing.T) {
	s := dnstest.New(t)
	s.Set("api.example. 300 IN A 192.0.2.1")
	b, _ := pool(t, Options{Resolve: asks(s), SlowStart: time.Hour, Servers: []ServerOptions{
		{Address: "192.0.2.9:80"}, {Address: "api.example.:80", All: true},
	}})
	if !proxytest.Within(proxytest.Patience, func() bool { return len(b.list()) == 2 }) {
		t.Fatal("the name is not resolved")
	}
	if share := b.list()[1].slowShare(time.Now()); share != 1 {
		t.Errorf("the first server of the name has the share %v", share)
	}
	s.Set("api.example. 300 IN A 192.0.2.1", "api.example. 300 IN A 192.0.2.2")
	renew(b)
	if list := b.list(); len(list) != 3 || list[1].slowShare(time.Now()) != 1 || list[2].slowShare(time.Now()) == 1 {
		t.Errorf("states %+v, want that only the last one starts slowly", b.States())
	}
}

// The weight 0 holds for all servers of a name.
func TestNameOfWeightZero(t *testing.T) {
	s := dnstest.New(t)
	s.Set("api.example. 300 IN A 192.0.2.1", "api.example. 300 IN A 192.0.2.2")
	b, _ := pool(t, Options{Resolve: asks(s), Servers: []ServerOptions{
		{Address: "192.0.2.9:80"}, {Address: "api.example.:80", All: true, Weight: -1},
	}})
	if !proxytest.Within(proxytest.Patience, func() bool { return len(b.list()) == 3 }) {
		t.Fatal("the name is not resolved")
	}
	if got := use(b, 10); got["192.0.2.9:80"] != 10 {
		t.Errorf("requests %v, want all at the server with a weight", got)
	}
}
