package coding_test

import (
	"strings"
	"testing"

	"mpgate/proxy/coding"
	"mpgate/proxy/message"
)

func header(values ...string) *message.Header {
	h := new(message.Header)
	for _, v := range values {
		h.AddString(message.AcceptEncoding, v)
	}
	return h
}

func TestBest(t *testing.T) {
	both := []coding.Coding{coding.Zstd, coding.Gzip}
	for _, tt := range []struct {
		values  string // fields, separated by "|"; "-" is none
		offered []coding.Coding
		want    coding.Coding
	}{
		{"-", both, coding.Identity},
		{"", both, coding.Identity},
		{"gzip", both, coding.Gzip},
		{"GZip", both, coding.Gzip},
		{"x-gzip", both, coding.Gzip},
		{"gzip, deflate, br, zstd", both, coding.Zstd},
		{"gzip, deflate, br, zstd", []coding.Coding{coding.Gzip, coding.Zstd}, coding.Gzip},
		{"br", both, coding.Identity},
		{"br", []coding.Coding{coding.Zstd, coding.Brotli}, coding.Brotli},
		{"gzip;q=1.0, zstd;q=0.9", both, coding.Gzip},
		{"gzip;q=0", both, coding.Identity},
		{"gzip;q=0.000, zstd", both, coding.Zstd},
		{"gzip;q=0.001", both, coding.Gzip},
		{"gzip\t; \tQ=0.5 ,zstd;q=0.499", both, coding.Gzip},
		{"*", both, coding.Zstd},
		{"*;q=0", both, coding.Identity},
		{"zstd;q=0, *", both, coding.Gzip},
		{"gzip, *;q=0", both, coding.Gzip},
		{"identity", both, coding.Identity},
		{"identity;q=1, gzip;q=0.5", both, coding.Identity},
		{"identity;q=0.5, gzip;q=1", both, coding.Gzip},
		{"gzip, identity", both, coding.Gzip},
		{"identity;q=0", both, coding.Identity},
		{"identity;q=0, gzip;q=0.1", both, coding.Gzip},
		{"gzip|zstd", both, coding.Zstd},
		{"gzip|gzip;q=0", both, coding.Identity},
		{",,gzip,,", both, coding.Gzip},
		// Invalid weights are not acceptable.
		{"gzip;q=1.001", both, coding.Identity},
		{"gzip;q=2", both, coding.Identity},
		{"gzip;q=-1", both, coding.Identity},
		{"gzip;q=0.0001", both, coding.Identity},
		{"gzip;q=1.0000", both, coding.Identity},
		{"gzip;q=", both, coding.Identity},
		{"gzip;q", both, coding.Identity},
		{"gzip;level=9", both, coding.Identity},
		{"gzip;q=0,5", both, coding.Identity},
		{"gzip;q=.5", both, coding.Identity},
		{"gzip;q=1.", both, coding.Gzip},
		{"gz ip", both, coding.Identity},
		{"gzipx", both, coding.Identity},
	} {
		h := header(strings.Split(tt.values, "|")...)
		if tt.values == "-" {
			h = header()
		}
		a := coding.Accept(h)
		if got := a.Best(tt.offered); got != tt.want {
			t.Errorf("%q with %v gives %v, want %v", tt.values, tt.offered, got, tt.want)
		}
	}
}

func TestAcceptAllocatesNothing(t *testing.T) {
	h := header("gzip, deflate, br;q=0.5, zstd", "*;q=0.1")
	offered := []coding.Coding{coding.Zstd, coding.Gzip}
	if n := testing.AllocsPerRun(100, func() {
		a := coding.Accept(h)
		if a.Best(offered) != coding.Zstd {
			t.Error("not zstd")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func TestVary(t *testing.T) {
	for in, want := range map[string]string{
		"":                        "Accept-Encoding",
		"Origin":                  "Origin|Accept-Encoding",
		"*":                       "*",
		"Origin, accept-encoding": "Origin, accept-encoding",
		"Accept-Encodings":        "Accept-Encodings|Accept-Encoding",
	} {
		h := new(message.Header)
		if in != "" {
			h.AddString(message.Vary, in)
		}
		coding.Vary(h)
		coding.Vary(h)
		var got []string
		for i := h.Index(message.Vary, 0); i >= 0; i = h.Index(message.Vary, i+1) {
			_, _, v, _ := h.At(i)
			got = append(got, string(v))
		}
		if g := strings.Join(got, "|"); g != want {
			t.Errorf("%q becomes %q, want %q", in, g, want)
		}
	}
}

func TestWeakenETag(t *testing.T) {
	for in, want := range map[string]string{`"a"`: `W/"a"`, `W/"a"`: `W/"a"`, "": "", "a": "a"} {
		h := new(message.Header)
		if in != "" {
			h.AddString(message.ETag, in)
		}
		coding.WeakenETag(h)
		if got := string(h.Get(message.ETag)); got != want {
			t.Errorf("%s becomes %s, want %s", in, got, want)
		}
	}
}

// FuzzAccept looks for what no grammar allows: a coding that the client did not name, with no "*".
func FuzzAccept(f *testing.F) {
	for _, s := range []string{"gzip", "gzip;q=0.5, *;q=0", "identity;q=0", ";;;q=", "zstd;q=1.000,br", "*;q=0.1, gzip;q=0"} {
		f.Add(s)
	}
	offered := []coding.Coding{coding.Zstd, coding.Brotli, coding.Gzip}
	f.Fuzz(func(t *testing.T, s string) {
		a := coding.Accept(header(s))
		best := a.Best(offered)
		if best == coding.Identity {
			return
		}
		if !a.Accepts(best) {
			t.Errorf("%q: %v is best and not acceptable", s, best)
		}
		if l := strings.ToLower(s); !strings.Contains(l, "*") && !strings.Contains(l, best.String()) {
			t.Errorf("%q gives %v", s, best)
		}
	})
}
