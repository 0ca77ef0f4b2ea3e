package target_test

import (
	"strings"
	"testing"

	"mpgate/proxy/target"
)

func TestParseURL(t *testing.T) {
	for in, want := range map[string]string{
		"http://A.example:9091/verify?a=b": "http://a.example:9091 a.example:9091 /verify a=b",
		"HTTPS://[::1]":                    "https://[::1] [::1]:443 / ",
		"http://a.example?x":               "http://a.example a.example:80 / x",
		"http://a.example/a/../b":          "http://a.example a.example:80 /b ",
	} {
		got, err := target.ParseURL(in)
		if s := strings.Join([]string{got.Origin(), got.Address(), got.Path, got.Query}, " "); err != nil || s != want {
			t.Errorf("%s: %q, %v, want %q", in, s, err, want)
		}
	}
	for in, want := range map[string]string{
		"a.example/verify": "want http://HOST/PATH", "ftp://a.example/": "want http://HOST/PATH", "http://u:p@a.example/": "a user, a password",
		"http://a.example/#f": "a fragment", "http:///x": "invalid host", "http://a b/": "invalid host", "http://a.example/\r\n": "invalid path",
		"http://a.example/?a\r\n": "invalid query", "http://a.example/%zz": "invalid path",
	} {
		if _, err := target.ParseURL(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", in, err, want)
		}
	}
	if _, err := target.ParsePath("verify"); err == nil || !strings.Contains(err.Error(), "want one that begins with /") {
		t.Error(err)
	}
}

func FuzzParseURL(f *testing.F) {
	f.Add("http://a.example:80/a?b")
	f.Add("https://[::1]/%2e%2e/")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := target.ParseURL(s)
		if err == nil && (got.Host == "" || !strings.HasPrefix(got.Path, "/") || strings.ContainsFunc(got.String(), func(r rune) bool { return r < ' ' || r == 0x7f })) {
			t.Errorf("%q is %+v", s, got)
		}
	})
}
