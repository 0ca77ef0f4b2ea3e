package route

import (
	"bytes"
	"net/url"
	"path"
	"regexp"
	"strings"
	"testing"

	"mpgate/proxy/target"
)

var parameters = regexp.MustCompile(`;[^/]*`)

// readings are what servers make of a path: parameters are taken off before it is decoded, or after
// that, or never.
var readings = map[string]func(string) string{
	"taken off, decoded": func(p string) string { return decoded(parameters.ReplaceAllString(p, "")) },
	"decoded, taken off": func(p string) string { return parameters.ReplaceAllString(decoded(p), "") },
	"taken off, decoded, taken off": func(p string) string {
		return parameters.ReplaceAllString(decoded(parameters.ReplaceAllString(p, "")), "")
	},
	"decoded": decoded,
}

func decoded(p string) string {
	d, err := url.PathUnescape(p)
	if err != nil {
		return p
	}
	return strings.ReplaceAll(d, `\`, "/")
}

// No path that passes is, to any of those servers, one of a rule that mpgate did not choose.
func FuzzMisread(f *testing.F) {
	table, err := Build([]rule{{Name: "all", Match: Match{}, Value: "all"}, {Name: "admin", Match: Match{Paths: []string{"/admin/*"}}, Value: "admin"}})
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"/;/admin", "/a/..;/admin", "/%3B/admin", "/a%2F..;x%2Fadmin", "/;a%2Fadmin%3Bb/y", "/a//..//admin", "/%61dmin;", "/a/;%2e%2e/"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var scratch []byte
		canonical, flags, err := target.Path(raw, &scratch)
		if err != nil {
			return
		}
		sent := [][]byte{canonical}
		if kept, ok := target.KeepSlashes(raw, canonical, &scratch); ok {
			sent = append(sent, kept)
		}
		if flags&^target.RepeatedSlash != 0 && table.Misread(ask("a", string(canonical), "web")) != AsRead {
			return
		}
		admin := bytes.Equal(canonical, []byte("/admin")) || bytes.HasPrefix(canonical, []byte("/admin/"))
		for _, p := range sent {
			for name, read := range readings {
				got := path.Clean(read(string(p)))
				if (got == "/admin" || strings.HasPrefix(got, "/admin/")) && !admin {
					t.Errorf("%q is sent as %q: %s, that is %q", raw, p, name, got)
				}
			}
		}
	})
}
