package resolve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"

	"mpgate/internal/dnstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// files writes the system's files for a resolver.
func files(t *testing.T, resolvConf, hosts string) Options {
	t.Helper()
	dir := t.TempDir()
	o := Options{ResolvConf: filepath.Join(dir, "resolv.conf"), Hosts: filepath.Join(dir, "hosts")}
	for name, text := range map[string]string{o.ResolvConf: resolvConf, o.Hosts: hosts} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// asking returns a resolver that asks these servers.
func asking(t *testing.T, resolvConf string, servers ...*dnstest.Server) *Resolver {
	o := files(t, resolvConf, "")
	for _, s := range servers {
		o.Servers = append(o.Servers, s.Addr)
	}
	return New(o)
}

func show(f Family) string {
	if f.Err != nil {
		var dns *net.DNSError
		if errors.As(f.Err, &dns) {
			return dns.Err
		}
		return f.Err.Error()
	}
	return fmt.Sprintf("%v for %v", f.Addrs, f.TTL)
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	s := dnstest.New(t)
	s.Set(
		"both.example. 7 IN A 192.0.2.1", "both.example. 5 IN A 192.0.2.2", "both.example. 9 IN AAAA 2001:db8::1",
		"alias.example. 4 IN CNAME other.example.", "other.example. 60 IN CNAME both.example.",
		"v6.example. 1 IN AAAA 2001:db8::2",
		"zero.example. 0 IN A 192.0.2.3", "long.example. 86400 IN A 192.0.2.4",
		"blocked.example. 60 IN A 0.0.0.0", "blocked.example. 60 IN AAAA ::",
		"loop.example. 1 IN CNAME loop.example.",
		"twice.example. 2 IN A 192.0.2.1", "twice.example. 3 IN A 192.0.2.1",
	)
	r := asking(t, "", s)
	for _, c := range []struct{ host, v4, v6 string }{
		{"both.example", "[192.0.2.1 192.0.2.2] for 5s", "[2001:db8::1] for 9s"},
		{"BOTH.example.", "[192.0.2.1 192.0.2.2] for 5s", "[2001:db8::1] for 9s"},
		{"alias.example", "[192.0.2.1 192.0.2.2] for 4s", "[2001:db8::1] for 4s"},
		{"v6.example", "no record of type A", "[2001:db8::2] for 1s"},
		{"zero.example", "[192.0.2.3] for 1s", "no record of type AAAA"},
		{"long.example", "[192.0.2.4] for 5m0s", "no record of type AAAA"},
		{"blocked.example", "no record of type A", "no record of type AAAA"},
		{"loop.example", "no record of type A", "no record of type AAAA"},
		{"twice.example", "[192.0.2.1] for 2s", "no record of type AAAA"},
		{"none.example", "no such host", "no such host"},
	} {
		v4, v6, _ := r.Addresses(t.Context(), c.host, "")
		if show(v4) != c.v4 || show(v6) != c.v6 {
			t.Errorf("%s: %s and %s, want %s and %s", c.host, show(v4), show(v6), c.v4, c.v6)
		}
	}
}

// A server that misbehaves fails the lookup, or the next server answers.
func TestServersThatMisbehave(t *testing.T) {
	t.Parallel()
	good := dnstest.New(t)
	good.Set("api.example. 5 IN A 192.0.2.1", "api.example. 5 IN AAAA 2001:db8::1")
	var wait sync.WaitGroup
	defer wait.Wait()
	const right = "[192.0.2.1] for 5s and [2001:db8::1] for 5s"
	for _, c := range []struct {
		name  string
		mode  dnstest.Mode
		alone string // the result, where it is the only server
	}{
		{"servfail", dnstest.ServFail, "the server failed (SERVFAIL)"},
		{"servfail without the question", dnstest.BareFail, "the server failed (SERVFAIL)"},
		{"refused", dnstest.Refused, "the server refused to answer (REFUSED)"},
		{"silent", dnstest.Silent, "no answer in time"},
		{"garbage", dnstest.Garbage, "no answer in time"},
		{"malformed", dnstest.Malformed, "malformed answer"},
		{"wrong id", dnstest.WrongID, "no answer in time"},
		{"wrong name", dnstest.WrongName, "no answer in time"},
	} {
		var bad [2]*dnstest.Server
		for i := range bad {
			bad[i] = dnstest.New(t)
			bad[i].Behave(c.mode)
			bad[i].Set("api.example. 5 IN A " + dnstest.Forged)
		}
		wait.Go(func() {
			v4, v6, _ := asking(t, "options timeout:1 attempts:1\n", bad[0]).Addresses(t.Context(), "api.example", "")
			if show(v4) != c.alone || show(v6) != c.alone || NotFound(v4.Err) {
				t.Errorf("%s, alone: %s and %s, want %s", c.name, show(v4), show(v6), c.alone)
			}
		})
		wait.Go(func() {
			r := asking(t, "", bad[1], good)
			for range 2 {
				v4, v6, _ := r.Addresses(t.Context(), "api.example", "")
				if got := show(v4) + " and " + show(v6); got != right {
					t.Errorf("%s, with another server: %s, want %s", c.name, got, right)
				}
			}
			if n := bad[1].Asked("api.example", "A"); n != 1 {
				t.Errorf("%s: asked %d times, want once: the server that answered last comes first", c.name, n)
			}
		})
	}
}

// Where no server listens, the error says so at once.
func TestNoServer(t *testing.T) {
	t.Parallel()
	o := files(t, "", "")
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.Servers = []netip.AddrPort{netip.MustParseAddrPort(c.LocalAddr().String())}
	c.Close()
	v4, v6, _ := New(o).Addresses(t.Context(), "api.example", "")
	if show(v4) != "connection refused" || show(v6) != "connection refused" || NotFound(v4.Err) {
		t.Errorf("%v and %v", v4.Err, v6.Err)
	}
}

// Answers that are correct in other ways than usual.
func TestServersThatAreOld(t *testing.T) {
	t.Parallel()
	for _, mode := range []dnstest.Mode{dnstest.NoEDNS, dnstest.BareEDNS, dnstest.CutEDNS, dnstest.OnlyTCP} {
		s := dnstest.New(t)
		s.Behave(mode)
		s.Set("api.example. 5 IN A 192.0.2.1")
		v4, v6, _ := asking(t, "options timeout:1 attempts:1", s).Addresses(t.Context(), "api.example", "")
		if show(v4) != "[192.0.2.1] for 5s" || show(v6) != "no record of type AAAA" {
			t.Errorf("mode %d: %s and %s", mode, show(v4), show(v6))
		}
	}
}

// An answer that is larger than was asked for counts.
func TestAnswerThatIsTooLarge(t *testing.T) {
	t.Parallel()
	s := dnstest.New(t)
	s.Behave(dnstest.TooLarge)
	var lines []string
	for i := range MaxRecords {
		lines = append(lines, fmt.Sprintf("api.example. 5 IN A 10.0.0.%d", i))
	}
	s.Set(lines...)
	v4, _, _ := asking(t, "options timeout:1 attempts:1", s).Addresses(t.Context(), "api.example", "")
	if len(v4.Addrs) != MaxRecords || s.OverTCP() != 0 {
		t.Errorf("%d addresses (%v), %d questions over TCP", len(v4.Addrs), v4.Err, s.OverTCP())
	}
}

// A server that does not answer questions for AAAA does not keep the addresses of A back.
func TestSilenceAboutOneFamily(t *testing.T) {
	t.Parallel()
	s := dnstest.New(t)
	s.Behave(dnstest.OnlyA)
	s.Set("api.example. 5 IN A 192.0.2.1")
	v4, v6, _ := asking(t, "", s).Addresses(t.Context(), "api.example", "")
	if show(v4) != "[192.0.2.1] for 5s" || show(v6) != "no answer in time" || NotFound(v6.Err) {
		t.Errorf("%s and %s", show(v4), show(v6))
	}
}

// More records than fit into a packet come over TCP, and more than MaxRecords are cut, always to
// the same ones.
func TestManyRecords(t *testing.T) {
	t.Parallel()
	s := dnstest.New(t)
	var lines []string
	for i := range 2 * MaxRecords {
		lines = append(lines, fmt.Sprintf("many.example. 5 IN A 10.0.%d.%d", i/256, i%256))
	}
	s.Set(lines...)
	r := asking(t, "", s)
	first, _, _ := r.Addresses(t.Context(), "many.example", "")
	if s.OverTCP() != 1 {
		t.Errorf("%d questions over TCP, want 1", s.OverTCP())
	}
	slices.Reverse(lines)
	s.Set(lines...)
	second, _, _ := r.Addresses(t.Context(), "many.example", "")
	if len(first.Addrs) != MaxRecords || !slices.Equal(first.Addrs, second.Addrs) {
		t.Errorf("%d and %d addresses, want the same %d", len(first.Addrs), len(second.Addrs), MaxRecords)
	}
}

func TestServices(t *testing.T) {
	t.Parallel()
	s := dnstest.New(t)
	s.Set(
		"_http._tcp.example. 30 IN SRV 20 0 80 b.example.", "_http._tcp.example. 20 IN SRV 10 5 8080 A.example.",
		"_http._tcp.example. 30 IN SRV 10 5 8080 a.example.", "_none._tcp.example. 30 IN SRV 0 0 0 .",
	)
	r := asking(t, "", s)
	list, f := r.Services(t.Context(), "_http._tcp.example")
	want := []Service{{"a.example", 8080, 10, 5}, {"b.example", 80, 20, 0}}
	if !slices.Equal(list, want) || f.Err != nil || f.TTL != 20*time.Second {
		t.Errorf("%v, %v; want %v for 20s", list, f, want)
	}
	for _, name := range []string{"_none._tcp.example", "_other._tcp.example"} {
		if list, f := r.Services(t.Context(), name); len(list) != 0 || !NotFound(f.Err) {
			t.Errorf("%s: %v, %v; want none", name, list, f)
		}
	}
}

// Targets that are no host names come into no field, log or metric.
func TestServicesHaveHostNames(t *testing.T) {
	t.Parallel()
	s := dnstest.New(t)
	for _, target := range []string{`a\013\010x-evil:\0321.example.`, `a\000.example.`, `\027[2J.example.`, `a\/b.example.`, `a\"b.example.`, `[::1]:80.`} {
		s.Set("_http._tcp.example. 30 IN SRV 10 5 8080 good_1-x.example.", "_http._tcp.example. 30 IN SRV 10 5 8080 "+target)
		list, f := asking(t, "", s).Services(t.Context(), "_http._tcp.example")
		if want := []Service{{"good_1-x.example", 8080, 10, 5}}; !slices.Equal(list, want) || f.Err != nil {
			t.Errorf("with %s: %v, %v; want %v", target, list, f.Err, want)
		}
	}
}

func TestSearchDomains(t *testing.T) {
	t.Parallel()
	s := dnstest.New(t)
	s.Set("api.a.example. 5 IN A 192.0.2.1", "api.b.example. 5 IN A 192.0.2.2", "x.y.a.example. 5 IN A 192.0.2.3", "x.y. 5 IN A 192.0.2.4", "api. 5 IN A 192.0.2.5")
	for _, c := range []struct{ conf, host, want, found string }{
		{"search a.example b.example", "api", "[192.0.2.1] for 5s", "api.a.example"},
		{"search c.example b.example.", "api", "[192.0.2.2] for 5s", "api.b.example"},
		{"domain b.example", "api", "[192.0.2.2] for 5s", "api.b.example"},
		{"search a.example", "api.", "[192.0.2.5] for 5s", "api"},
		{"search c.example", "api", "[192.0.2.5] for 5s", "api"},
		{"search a.example", "x.y", "[192.0.2.4] for 5s", "x.y"},
		{"search a.example\noptions ndots:2 # more", "x.y", "[192.0.2.3] for 5s", "x.y.a.example"},
		{"search a.example", "none", "no such host", ""},
	} {
		v4, _, found := asking(t, c.conf, s).Addresses(t.Context(), c.host, "")
		if show(v4) != c.want || found != c.found {
			t.Errorf("%q, %s: %s of %q, want %s of %q", c.conf, c.host, show(v4), found, c.want, c.found)
		}
	}
}

// While it is not known whether a name still has addresses, no other one of the search list takes
// its place.
func TestSearchStaysWithTheName(t *testing.T) {
	t.Parallel()
	s := dnstest.New(t)
	r := asking(t, "search a.example b.example\noptions attempts:1", s)
	s.Behave(dnstest.ServFail)
	_, _, _ = r.Addresses(t.Context(), "api", "api.a.example")
	if s.Asked("api.a.example", "A") == 0 || s.Asked("api.b.example", "A") != 0 {
		t.Error("the next domain was asked after a failure")
	}
	_, _, _ = r.Addresses(t.Context(), "api", "")
	if s.Asked("api.b.example", "A") == 0 {
		t.Error("for a name without earlier addresses the next domain was not asked")
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	s := dnstest.New(t)
	s.Set("api.example. 5 IN A 192.0.2.9")
	o := files(t, "", "192.0.2.1 API.example api # comment\n2001:db8::1\tapi.example\n#192.0.2.7 api.example\nnonsense\n0.0.0.0 blocked.example\n")
	o.Servers = []netip.AddrPort{s.Addr}
	r := New(o)
	for host, want := range map[string]string{
		"api.example": "[192.0.2.1] for 2s and [2001:db8::1] for 2s", "Api.Example.": "[192.0.2.1] for 2s and [2001:db8::1] for 2s",
		"api": "[192.0.2.1] for 2s and no such address in /etc/hosts", "localhost": "[127.0.0.1] for 2s and [::1] for 2s",
		"db.localhost": "[127.0.0.1] for 2s and [::1] for 2s",
	} {
		v4, v6, _ := r.Addresses(t.Context(), host, "")
		if got := show(v4) + " and " + show(v6); got != want {
			t.Errorf("%s: %s, want %s", host, got, want)
		}
	}
	if err := os.WriteFile(o.Hosts, []byte("192.0.2.100 api.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect := func(want string) {
		t.Helper()
		r.system.hosts.checked = time.Now().Add(-recheck)
		if v4, _, _ := r.Addresses(t.Context(), "api.example", ""); show(v4) != want {
			t.Errorf("after a change: %s, want %s", show(v4), want)
		}
	}
	expect("[192.0.2.100] for 2s")
	if err := os.Remove(o.Hosts); err != nil {
		t.Fatal(err)
	}
	expect("[192.0.2.9] for 5s")
	expect("[192.0.2.9] for 5s")
}

func TestResolvConf(t *testing.T) {
	t.Parallel()
	c := parseResolvConf([]byte(`; a comment
nameserver 192.0.2.53
nameserver fe80::53%eth0
nameserver name.example
search a.example. b.example
options timeout:30 attempts:9 ndots:99 rotate use-vc edns0
options timeout:x
`))
	got := fmt.Sprint(c.servers, c.domains, c.ndots, c.attempts, c.timeout, c.rotate, c.tcp)
	if want := "[192.0.2.53:53 [fe80::53%eth0]:53] [a.example b.example] 15 5 5s true true"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	c = parseResolvConf(nil)
	if got := fmt.Sprint(c.servers, c.domains, c.ndots, c.attempts, c.timeout, c.rotate, c.tcp); got != "[127.0.0.1:53] [] 1 3 5s false false" {
		t.Errorf("of an empty file: %s", got)
	}
}

// The end of the context ends a lookup, also one that waits for others.
func TestLookupEnds(t *testing.T) {
	t.Parallel()
	s := dnstest.New(t)
	s.Behave(dnstest.Silent)
	r := asking(t, "", s)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan Family)
	const lookups = maxLookups + 1
	for range lookups {
		go func() {
			v4, _, _ := r.Addresses(ctx, "api.example", "")
			ended <- v4
		}()
	}
	s.WaitAsked(t.Context().Done(), "api.example", "A", maxLookups-1)
	cancel()
	for range lookups {
		if f := <-ended; f.Err == nil || NotFound(f.Err) {
			t.Errorf("got %v", show(f))
		}
	}
	if n := s.Asked("api.example", "A"); n > maxLookups {
		t.Errorf("%d lookups at the same time, want at most %d", n, maxLookups)
	}
}

// FuzzAnswer: no message makes the parser fail in another way than by an error.
func FuzzAnswer(f *testing.F) {
	q := dnsmessage.Question{Name: dnsmessage.MustNewName("api.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	p, err := query(1, q, true)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p)
	f.Add([]byte("\x00\x01\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00\x03api\x07example\x00\x00\x01\x00\x01\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\xc0\x00\x02\x01"))
	f.Fuzz(func(t *testing.T, p []byte) {
		isAnswer(p, 1, q)
		a, err := parseAnswer(p, q)
		switch {
		case err != nil:
		case (a.err == nil) != (len(a.addrs) > 0) && len(a.services) == 0:
			t.Errorf("%v with %v", a.err, a.addrs)
		case a.ttl < MinTTL || a.ttl > MaxTTL:
			t.Errorf("TTL %v", a.ttl)
		}
	})
}
