package files

import (
	"strings"
	"testing"
)

func TestName(t *testing.T) {
	for path, want := range map[string]string{ // "-": none
		"/":                             "/",
		"/a":                            "a",
		"/a/":                           "a/",
		"/a/b.html":                     "a/b.html",
		"/a%20b":                        "a b",
		"/%C3%A4":                       "ä",
		"/a%5Cb":                        `a\b`,
		"/..a":                          "-",
		"/a..b":                         "a..b",
		"/.well-known/x":                ".well-known/x",
		"/.well-known/":                 ".well-known/",
		"/a/.well-known/x":              "-",
		"/.well-known/.x":               "-",
		"/.well-knownx":                 "-",
		"/.git/config":                  "-",
		"/a/.htpasswd":                  "-",
		"/%2Egit":                       "-",
		"/..":                           "-",
		"/a/../b":                       "-",
		"/%2E%2E/b":                     "-",
		"/.":                            "-",
		"/a//b":                         "-",
		"//a":                           "-",
		"/a%2Fb":                        "-",
		"/a%2f..%2fb":                   "-",
		"/a%00":                         "-",
		"/a%":                           "-",
		"/a%2":                          "-",
		"/a%zz":                         "-",
		"a":                             "-",
		"":                              "-",
		"*":                             "-",
		"/" + strings.Repeat("a/", 500): strings.Repeat("a/", 500),
	} {
		name, dir, ok := appendName(nil, []byte(path))
		got := string(name)
		if dir {
			got += "/"
		}
		if !ok {
			got = "-"
		}
		if got != want {
			t.Errorf("%q becomes %q, want %q", path, got, want)
		}
	}
}

// FuzzName: no name has a segment that leads elsewhere or is hidden.
func FuzzName(f *testing.F) {
	for _, s := range []string{"/", "/a/%2e%2e/b", "/%2E", "/.well-known/a", "/a//", "/%C3%28/", "/a%2fb", "/%00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		name, dir, ok := appendName(nil, []byte(path))
		if !ok {
			return
		}
		s := string(name)
		if strings.Contains(s, "\x00") || strings.HasPrefix(s, "/") || strings.Contains(s, "//") || strings.HasSuffix(s, "/") || s == "" && !dir {
			t.Fatalf("%q becomes %q", path, s)
		}
		for i, segment := range strings.Split(s, "/") {
			if strings.HasPrefix(segment, ".") && !(i == 0 && segment == ".well-known") {
				t.Fatalf("%q becomes %q", path, s)
			}
		}
	})
}
