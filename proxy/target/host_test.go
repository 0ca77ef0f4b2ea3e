package target

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
)

func TestHost(t *testing.T) {
	long := strings.Repeat("a.", 126) + "a" // 253 bytes
	for _, tt := range []struct{ raw, host, port, err string }{
		{raw: "example.com", host: "example.com"},
		{raw: "example.com:8080", host: "example.com", port: "8080"},
		{raw: "example.com:", host: "example.com"},
		// Case 14 of the security cases.
		{raw: "ADMIN.example.com", host: "admin.example.com"},
		{raw: "ADMIN.example.com:443", host: "admin.example.com", port: "443"},
		{raw: "ADMIN.example.com.", host: "admin.example.com"},
		{raw: "admin.example.com.", host: "admin.example.com"},
		{raw: "admin.example.com.:80", host: "admin.example.com", port: "80"},
		{raw: "a_b.internal", host: "a_b.internal"},
		{raw: "_dmarc", host: "_dmarc"},
		{raw: "xn--bcher-kva.example", host: "xn--bcher-kva.example"},
		{raw: "192.0.2.1:80", host: "192.0.2.1", port: "80"},
		{raw: "a:0", host: "a", port: "0"},
		{raw: "a:65535", host: "a", port: "65535"},
		{raw: "a:00080", host: "a", port: "80"},
		{raw: "a:00000", host: "a", port: "0"},
		{raw: long, host: long},
		{raw: long + ".:1", host: long, port: "1"},
		{raw: "[::1]", host: "[::1]"},
		{raw: "[::1]:8443", host: "[::1]", port: "8443"},
		{raw: "[::1]:", host: "[::1]"},
		{raw: "[2001:DB8:0:0:0:0:0:1]", host: "[2001:db8::1]"},
		{raw: "[::ffff:192.0.2.1]", host: "[::ffff:192.0.2.1]"},
		{raw: "[0:0:0:0:0:0:192.0.2.1]", host: "[::c000:201]"},
		{raw: "[0000:0000:0000:0000:0000:ffff:192.168.100.228]:1", host: "[::ffff:192.168.100.228]", port: "1"},

		{raw: "", err: "host: empty"},
		{raw: ".", err: "host: empty"},
		{raw: ":80", err: "host: empty"},
		{raw: long + "b", err: "host: longer than 253 bytes"},
		{raw: "a..b", err: "host: a label is empty"},
		{raw: ".a", err: "host: a label is empty"},
		{raw: "a..", err: "host: a label is empty"},
		{raw: "a b", err: `host: has characters other than letters, digits, "-", "." and "_"`},
		{raw: "user@a", err: `host: has characters other than letters, digits, "-", "." and "_"`},
		{raw: "a/b", err: `host: has characters other than letters, digits, "-", "." and "_"`},
		{raw: "a\\b", err: `host: has characters other than letters, digits, "-", "." and "_"`},
		{raw: "a,b", err: `host: has characters other than letters, digits, "-", "." and "_"`},
		{raw: "a;b", err: `host: has characters other than letters, digits, "-", "." and "_"`},
		{raw: "%61", err: `host: has characters other than letters, digits, "-", "." and "_"`},
		{raw: "bücher", err: `host: has characters other than letters, digits, "-", "." and "_"`},
		{raw: "a\x00", err: `host: has characters other than letters, digits, "-", "." and "_"`},
		{raw: "*.a", err: `host: has characters other than letters, digits, "-", "." and "_"`},
		{raw: "a:65536", err: "host: the port is not a number up to 65535"},
		{raw: "a:000080", err: "host: the port is not a number up to 65535"},
		{raw: "a:-1", err: "host: the port is not a number up to 65535"},
		{raw: "a:80:80", err: "host: the port is not a number up to 65535"},
		{raw: "::1", err: "host: the port is not a number up to 65535"},
		{raw: "a:b@c", err: "host: the port is not a number up to 65535"},
		{raw: "[::1]x", err: "host: the port is not a number up to 65535"},
		{raw: "[::1].", err: "host: the port is not a number up to 65535"},
		{raw: "[::1", err: "host: the text in brackets is not an IPv6 address without a zone"},
		{raw: "[]", err: "host: the text in brackets is not an IPv6 address without a zone"},
		{raw: "[192.0.2.1]", err: "host: the text in brackets is not an IPv6 address without a zone"},
		{raw: "[fe80::1%25eth0]", err: "host: the text in brackets is not an IPv6 address without a zone"},
		{raw: "[v1.x]", err: "host: the text in brackets is not an IPv6 address without a zone"},
		{raw: "[" + strings.Repeat("0", 60) + "::1]", err: "host: the text in brackets is not an IPv6 address without a zone"},
	} {
		var scratch []byte
		host, port, err := Host([]byte(tt.raw), &scratch)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if string(host) != tt.host || string(port) != tt.port || text != tt.err {
			t.Errorf("Host(%q) = %q, %q, %q; want %q, %q, %q", tt.raw, host, port, text, tt.host, tt.port, tt.err)
		}
	}
}

func FuzzHost(f *testing.F) {
	for _, s := range []string{"a", "A.b.:80", "[::1]:1", "[::ffff:1.2.3.4]", "a..b", "a:99999", "[fe80::1%a]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var scratch []byte
		host, port, err := Host(raw, &scratch)
		if err != nil {
			return
		}
		again, none, err := Host(host, &scratch)
		if err != nil || !bytes.Equal(again, host) || none != nil {
			t.Fatalf("Host(%q) = %q, and of that %q, %q, %v", raw, host, again, none, err)
		}
		if !strings.EqualFold(string(raw[:min(len(raw), len(host))]), string(host)) && host[0] != '[' {
			t.Fatalf("Host(%q) = %q", raw, host)
		}
		if host[0] == '[' {
			inner, _, _ := strings.Cut(string(raw[1:]), "]")
			if want := "[" + netip.MustParseAddr(inner).String() + "]"; string(host) != want {
				t.Fatalf("Host(%q) = %q, want %q", raw, host, want)
			}
		}
		if len(port) > 0 {
			if _, err := netip.ParseAddrPort("192.0.2.1:" + string(port)); err != nil {
				t.Fatalf("Host(%q): port %q: %v", raw, port, err)
			}
		}
	})
}

// Two authorities are the same one if their text is, with the default port written or not.
func FuzzSameAuthority(f *testing.F) {
	f.Add("a", "A:80")
	f.Add("[::1]:443", "[0::1]")
	f.Add("a:", "a:080")
	f.Fuzz(func(t *testing.T, one, two string) {
		var scratch []byte
		h1, p1, err1 := Host([]byte(one), &scratch)
		h2, p2, err2 := Host([]byte(two), &scratch)
		if err1 != nil || err2 != nil {
			return
		}
		for scheme, port := range map[string]string{"http": "80", "https": "443"} {
			full := func(h, p []byte) string {
				if len(p) == 0 {
					return string(h) + ":" + port
				}
				return string(h) + ":" + string(p)
			}
			want := full(h1, p1) == full(h2, p2)
			if SameAuthority(scheme, h1, p1, h2, p2) != want || SameAuthority(scheme, h2, p2, h1, p1) != want {
				t.Errorf("%s: %q and %q: want %v", scheme, one, two, want)
			}
		}
	})
}
