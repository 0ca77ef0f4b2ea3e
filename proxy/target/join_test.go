package target_test

import (
	"bytes"
	"testing"

	"mpgate/proxy/target"
)

func TestJoined(t *testing.T) {
	for _, tt := range []struct {
		path, merged, kept string // "" is not ok
	}{
		{"/a/b", "/a/b", "/a/b"},
		{"//a//b", "/a/b", "/a//b"},
		{"///", "/", "/"},
		{"/a/%2Fb", "/a/%2Fb", "/a/%2Fb"},
		{"/a;x/b", "/a;x/b", "/a;x/b"},
		{"/files/../x", "", ""},
		{"/files/..", "", ""},
		{"/files/./x", "", ""},
		{"/files/.//x", "", ""},
		{"/a%2", "", ""},
		{"/%41", "", ""},
		{"/%2e%2e/x", "", ""},
		{"/a/..;/x", "", ""},
		{"/a\\b", "", ""},
		{"/a b", "", ""},
		{"/a?b", "", ""},
		{"x", "", ""},
		{"", "", ""},
	} {
		for _, keep := range []bool{false, true} {
			want := tt.merged
			if keep {
				want = tt.kept
			}
			var scratch []byte
			got, _, ok := target.Joined([]byte(tt.path), keep, &scratch)
			if ok != (want != "") || string(got) != want {
				t.Errorf("Joined(%q, %v) is %q, %v, want %q", tt.path, keep, got, ok, want)
			}
		}
	}
}

func TestOffsetOf(t *testing.T) {
	for _, tt := range []struct {
		kept, merged string
		n            int
		rest         string
	}{
		{"/a/b", "/a/b", 3, "b"},
		{"/a//b//c", "/a/b/c", 3, "b//c"},
		{"//a/b", "/a/b", 3, "b"},
		{"/a///", "/a/", 3, ""},
		{"/a//b", "/a/b", 4, ""},
		{"//a", "/a", 0, "//a"},
	} {
		at := target.OffsetOf([]byte(tt.kept), []byte(tt.merged), tt.n)
		if rest := tt.kept[at:]; rest != tt.rest {
			t.Errorf("OffsetOf(%q, %q, %d): the rest is %q, want %q", tt.kept, tt.merged, tt.n, rest, tt.rest)
		}
	}
}

func TestAppendEscaped(t *testing.T) {
	if got := string(target.AppendEscaped(nil, []byte("a/b?c#d e%&=\xff~-._"))); got != "a%2Fb%3Fc%23d%20e%25%26%3D%FF~-._" {
		t.Error(got)
	}
}

// What Joined accepts is canonical: Path leaves it alone, apart from slashes in a row.
func FuzzJoined(f *testing.F) {
	for _, s := range []string{"/a/../b", "//a//b", "/a%2f", "/;/..", "/%2e"} {
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, keep bool) {
		var scratch []byte
		got, flags, ok := target.Joined(bytes.Clone(b), keep, &scratch)
		if !ok {
			return
		}
		again, f2, err := target.Path(got, &scratch)
		if err != nil {
			t.Fatalf("%q: Path(%q): %v", b, got, err)
		}
		if !keep && (!bytes.Equal(again, got) || flags != f2) {
			t.Errorf("%q: %q is canonical as %q, %v, %v", b, got, again, flags, f2)
		}
		if len(got) > 1 && got[1] == '/' {
			t.Errorf("%q: %q names a host for some clients", b, got)
		}
	})
}
