package filter_test

import (
	"bytes"
	"strings"
	"testing"

	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/proxy/target"
)

func TestAccelFields(t *testing.T) {
	chain := filter.Compile(filter.Accel{})
	r := requestFor("/")
	header(&r.Header, "X-Accel-Mapping: /=/", "x-sendfile-type: X-Accel-Redirect", "X_Accel_Mapping: /=/", "x.sendfile_Type: x", "X-Sendfile-Types: 3", "X-Accelerate: 1", "X-Accel: 2")
	chain.Request(r)
	if got := lines(&r.Header); got != "X-Sendfile-Types: 3\nX-Accelerate: 1\nX-Accel: 2" {
		t.Errorf("the server gets %q", got)
	}
	var resp message.Response
	header(&resp.Header, "X-Accel-Redirect: /a", "x-accel-buffering: no", "X-Sendfile: /a")
	chain.Response(r, &resp)
	if got := lines(&resp.Header); got != "X-Sendfile: /a" {
		t.Errorf("the client gets %q", got)
	}
	if n := testing.AllocsPerRun(100, func() { chain.Request(r); chain.Response(r, &resp) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzAccelTarget finds no target that leads elsewhere than it says.
func FuzzAccelTarget(f *testing.F) {
	for _, s := range []string{"/a", "/a b?c=d", "/%61/é", "/a/../b", "/..%2f", "/a;x", "//a//b", "/?", "", "x", "/%", "/a?b\r\nc"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := requestFor("/before")
		if r.SetAccelTarget([]byte(s)) != nil {
			if string(r.Path) != "/before" {
				t.Errorf("the path is %q after an error", r.Path)
			}
			return
		}
		var scratch []byte
		path, _, err := target.Path(r.Path, &scratch)
		if err != nil || !bytes.Equal(path, r.Path) {
			t.Errorf("%q: the path %q is not canonical: %q, %v", s, r.Path, path, err)
		}
		query, err := target.Query(r.Query, &scratch)
		if err != nil || !bytes.Equal(query, r.Query) {
			t.Errorf("%q: the query %q is not canonical: %q, %v", s, r.Query, query, err)
		}
		for segment := range strings.SplitSeq(s, "/") {
			if before, _, _ := strings.Cut(segment, "?"); before == ".." && !strings.Contains(s[:strings.Index(s, segment)], "?") {
				t.Errorf("%q was accepted", s)
			}
		}
	})
}
