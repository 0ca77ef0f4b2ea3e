package config

import (
	"testing"
	"time"
)

func TestPathProblem(t *testing.T) {
	for _, ok := range []string{"/", "/*", "/a", "/a/", "/a/*", "/a/b.c/d-e_f~g", "/a:b@c!$&'()+,;=d", "/%20", "/%C3%BC/*", "/...", "/.a", "/%25", "/%22"} {
		if problem := pathProblem(ok); problem != "" {
			t.Errorf("%q: %s", ok, problem)
		}
	}
	for _, bad := range []string{
		"", "*", "a", "/a*", "/*/a", "/**", "/a/**", "//", "//*", "/a//*", "/a//b", "/.", "/..", "/./a", "/a/..", "/a/../*", "/..;x", "/a/.;",
		"/a?b", "/a#b", "/a b", "/\\", "/ü", "/%", "/%2", "/%zz", "/%c3", "/%41", "/%7E", "/%2F", "/%5C", "/%3A", "/%2A", "/%00", "/\x00", "/a\n", "/\"",
	} {
		if problem := pathProblem(bad); problem == "" {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestHostName(t *testing.T) {
	for in, want := range map[string]string{
		"example.org": "example.org", "EXAMPLE.Org": "example.org", "a": "a", "a_b.c": "a_b.c", "xn--bcher-kva.example": "xn--bcher-kva.example",
		"*.example.org": "*.example.org", "1a.2b": "1a.2b",
	} {
		if got, problem := hostName(in, true); got != want {
			t.Errorf("hostName(%q) = %q, %s", in, got, problem)
		}
	}
	for _, bad := range []string{
		"", ".", "a..b", ".a", "a.", "-a", "a-", "a.-b", "*", "*a.org", "a.*", "*.*.org", "a b", "a:80", "a/b", "bücher.de", "\xff", "1.2.3", "1.2.3.4.5", "a\x00",
		"0123456789012345678901234567890123456789012345678901234567890123.org",
	} {
		if got, problem := hostName(bad, true); problem == "" {
			t.Errorf("hostName(%q) = %q", bad, got)
		}
	}
	if _, problem := hostName("*.a.org", false); problem == "" {
		t.Error("a wildcard is taken where none may be")
	}
}

func TestParseAddress(t *testing.T) {
	for _, tt := range []struct {
		in   string
		use  use
		want Address
		text string
	}{
		{":80", listenAddress, Address{Port: 80}, ":80"},
		{"0.0.0.0:0", listenAddress, Address{Host: "0.0.0.0"}, "0.0.0.0:0"},
		{"[::]:80", listenAddress, Address{Host: "::", Port: 80}, "[::]:80"},
		{"[2001:DB8:0::1]:80", listenAddress, Address{Host: "2001:db8::1", Port: 80}, "[2001:db8::1]:80"},
		{"[fe80::1%eth0]:80", listenAddress, Address{Host: "fe80::1%eth0", Port: 80}, "[fe80::1%eth0]:80"},
		{"[::ffff:192.0.2.1]:80", dialAddress, Address{Host: "192.0.2.1", Port: 80}, "192.0.2.1:80"},
		{"Api.Internal:8080", dialAddress, Address{Host: "api.internal", Port: 8080}, "api.internal:8080"},
		{"api.internal.:8080", dialAddress, Address{Host: "api.internal.", Port: 8080}, "api.internal.:8080"},
		{"unix:/run/../run/x", dialAddress, Address{Path: "/run/x"}, "unix:/run/x"},
		{"unix:x.sock", dialAddress, Address{Path: "/dir/x.sock"}, "unix:/dir/x.sock"},
		{"unix:@x", dialAddress, Address{Path: "@x"}, "unix:@x"},
	} {
		got, problem := parseAddress(tt.in, "/dir", tt.use)
		if problem != "" || got != tt.want || got.String() != tt.text {
			t.Errorf("parseAddress(%q) = %+v (%s), %s", tt.in, got, got, problem)
		}
		if again, _ := parseAddress(got.String(), "/", tt.use); again != got {
			t.Errorf("%q is %+v, and %+v when read again", tt.in, got, again)
		}
	}
	if u, tcp := (Address{Path: "/x"}), (Address{Host: "10.0.0.1", Port: 1}); u.Network() != "unix" || !u.IsUnix() || tcp.Network() != "tcp" || tcp.IP().String() != "10.0.0.1" || u.IP().IsValid() {
		t.Error("Network, IsUnix or IP")
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "0B": 0, "256B": 256, "32KiB": 32 << 10, "1 MiB": 1 << 20, "3GiB": 3 << 30} {
		if got, ok := parseSize(in); !ok || got != want {
			t.Errorf("parseSize(%q) = %d, %v", in, got, ok)
		}
	}
	for _, bad := range []string{"", "1", "00", "-1B", "+1B", "1.5KiB", "KiB", "B", "1KB", "1k", "1kib", "99999999999999999999B", "1KiBB"} {
		if got, ok := parseSize(bad); ok {
			t.Errorf("parseSize(%q) = %d", bad, got)
		}
	}
	for n, want := range map[int64]string{0: "0", 1: "1B", 1024: "1KiB", 1025: "1025B", 3 << 20: "3MiB", 2 << 30: "2GiB"} {
		got := formatSize(n)
		if again, _ := parseSize(got); got != want || again != n {
			t.Errorf("formatSize(%d) = %q", n, got)
		}
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", time.Second: "1s", time.Minute: "1m", 90 * time.Second: "1m30s", time.Hour: "1h", 90 * time.Minute: "1h30m", time.Hour + time.Second: "1h0m1s",
		10 * time.Minute: "10m", 20 * time.Hour: "20h", 1500 * time.Millisecond: "1.5s",
	} {
		got := duration(d)
		if again, err := time.ParseDuration(got); got != want || err != nil || again != d {
			t.Errorf("duration(%v) = %q", d, got)
		}
	}
}

func TestIsName(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "web-1_x": true, "0": true, "": false, "-a": false, "_a": false, "A": false, "a.b": false, "a b": false, "ä": false,
		"012345678901234567890123456789012345678901234567890123456789012":  true,
		"0123456789012345678901234567890123456789012345678901234567890123": false,
	} {
		if got := isName(name); got != want {
			t.Errorf("isName(%q) = %v", name, got)
		}
	}
}

func TestHSTS(t *testing.T) {
	for s, want := range map[string]bool{
		"": true, "max-age=0": true, `max-age="31536000"; includeSubDomains; preload`: true, "Max-Age=1": true,
		"max-age": false, "max-age=x": false, "includeSubDomains": false, "max-age=1\r\nX: y": false,
	} {
		if got := hstsProblem(s) == ""; got != want {
			t.Errorf("hstsProblem(%q) = %q", s, hstsProblem(s))
		}
	}
}

func TestMatchHost(t *testing.T) {
	for _, tt := range []struct{ in, want, fault string }{
		{"Example.org", "example.org", ""},
		{"192.0.2.1", "192.0.2.1", ""},
		{"2001:DB8::1", "[2001:db8::1]", ""},
		{"[2001:DB8:0::1]", "[2001:db8::1]", ""},
		{"[192.0.2.1]", "", `has "[" in it (got "[192.0.2.1]")`},
		{"::1]", "", `has a port (got "::1]"); write ":"`},
		{"[fe80::1%eth0]", "", `has a zone (got "[fe80::1%eth0]"); write the address without it`},
		{"[::1]:80", "", `has a port (got "[::1]:80"); write "[::1]"`},
		{"a:80", "", `has a port (got "a:80"); write "a"`},
		{"\xff.org", "", `has invalid non-ASCII bytes (got "\xff.org"); write an international name as punycode (xn--…)`},
	} {
		l := newLoader(Options{Lookup: noEnv})
		got, problem := matchHost(tt.in, true)
		msg := ""
		if problem != "" {
			l.wrong(&node{at: l.place("", 0), leaf: tt.in}, problem)
			msg = l.faults[0].Msg
		}
		if got != tt.want || msg != tt.fault {
			t.Errorf("matchHost(%q) = %q, %s", tt.in, got, msg)
		}
	}
}
