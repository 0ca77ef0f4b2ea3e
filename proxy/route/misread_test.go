package route

import (
	"testing"

	"mpgate/proxy/target"
)

func TestMisread(t *testing.T) {
	table, err := Build([]rule{
		{Name: "all", Match: Match{}, Value: "all"},
		{Name: "admin", Match: Match{Paths: []string{"/admin/*"}}, Value: "admin"},
		{Name: "exact", Match: Match{Paths: []string{"/exact"}}, Value: "exact"},
		{Name: "deep", Match: Match{Paths: []string{"/admin/open/*"}}, Value: "deep"},
		{Name: "web", Match: Match{Paths: []string{"/web/*"}, Listener: "web"}, Value: "web"},
		{Name: "host", Match: Match{Hosts: []string{"b.example"}, Paths: []string{"/b/*"}}, Value: "host"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []struct {
		raw  string
		want Reading
	}{
		{"/", AsRead}, {"/a;b/c;d", AsRead}, {"/a%3Bb", AsRead}, {"/admin/x;y", AsRead}, {"/a%40b", AsRead},
		{"/admin%2Fx", Decoded}, {"/x%2F..;y", AsRead}, // Path refuses it
		{"/;/admin", WithoutParameters}, {"/;/admin/x", WithoutParameters}, {"/;a=b/admin;c/x", WithoutParameters},
		{"/admin;", WithoutParameters}, {"/admin;x/y", WithoutParameters}, {"/%3B/admin", WithoutParameters}, {"/admin%3bx", WithoutParameters},
		{"/exact;jsessionid=1", WithoutParameters}, {"/exact;/", AsRead}, {"/exact/;", AsRead},
		{"/admin/;/open", WithoutParameters}, {"/admin/open;x", WithoutParameters}, {"/admin/open/;x", AsRead}, {"/admin/shut;/open", AsRead},
		{"/web;x", WithoutParameters}, {"/b;x", AsRead},
		{"/;x%2Fadmin", WithoutParameters},  // decoded first: /;x/admin
		{"/x;%2Fadmin/y", AsRead},           // decoded first: /x;/admin/y
		{"/;%2Fadmin/y", WithoutParameters}, // decoded first: /;/admin/y
		{"/;a%2Fadmin%3Bb/y", WithoutParameters},
		{"/%3B%2F;/admin", WithoutParameters},
		{"/;q/%61dmin%3B", WithoutParameters}, // taken off, decoded, taken off
	} {
		var scratch []byte
		path, _, err := target.Path([]byte(e.raw), &scratch)
		if err != nil {
			continue
		}
		if got := table.Misread(ask("a.example", string(path), "web")); got != e.want {
			t.Errorf("Misread(%q) = %d, want %d", e.raw, got, e.want)
		}
		if got := e.want.Fault(); (got == "") != (e.want == AsRead) {
			t.Errorf("the fault is %q", got)
		}
	}
}
