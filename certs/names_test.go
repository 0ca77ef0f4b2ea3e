package certs

import "testing"

func TestCanonicalName(t *testing.T) {
	for _, c := range []struct{ in, out, err string }{
		{"Example.ORG", "example.org", ""},
		{"example.org.", "example.org", ""},
		{"*.example.org", "*.example.org", ""},
		{"bücher.example", "xn--bcher-kva.example", ""},
		{"localhost", "localhost", ""},
		{"192.0.2.1", "", `must be a DNS name, not an address (got "192.0.2.1"); TLS clients send no name for an address, so the listener's own keys apply to it`},
		{"[::1]", "", `must be a DNS name, not an address (got "[::1]"); TLS clients send no name for an address, so the listener's own keys apply to it`},
		{"a.*.org", "", `not a DNS name (got "a.*.org"); write "example.org", or "*.example.org" for one label`},
		{"example.org:443", "", `not a DNS name (got "example.org:443"); write "example.org", or "*.example.org" for one label`},
		{"", "", `not a DNS name (got ""); write "example.org", or "*.example.org" for one label`},
		{"*.", "", `not a DNS name (got "*."); write "example.org", or "*.example.org" for one label`},
	} {
		got, err := canonicalName(c.in)
		if got != c.out || errText(err) != c.err {
			t.Errorf("canonicalName(%q) = %q, %v; want %q, %s", c.in, got, err, c.out, c.err)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestFoldHost(t *testing.T) {
	for in, want := range map[string]string{
		"Example.ORG:8443": "example.org", "example.org.": "example.org", "EXAMPLE.org.:1": "example.org",
		"[::1]:443": "::1", "[2001:DB8::1]": "2001:db8::1", "2001:DB8::1": "2001:db8::1",
		"127.0.0.1:80": "127.0.0.1", "": "", ".": ".", ":80": "",
	} {
		if got := string(foldHost(nil, []byte(in))); got != want {
			t.Errorf("foldHost(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestNameTable(t *testing.T) {
	var nt nameTable[string]
	for _, n := range []string{"a.example.org", "*.example.org", "*.b.example.org"} {
		m, k := nt.slot(n)
		m[k] = n
	}
	for in, want := range map[string]string{
		"a.example.org": "a.example.org", "x.example.org": "*.example.org", "x.b.example.org": "*.b.example.org",
		"example.org": "", "x.y.example.org": "", ".example.org": "", "": "", "org": "",
	} {
		if got, ok := nt.get([]byte(in)); got != want || ok != (want != "") {
			t.Errorf("get(%q) = %q, %v; want %q", in, got, ok, want)
		}
	}
}
