package target

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net/url"
	"path"
	"regexp"
	"strings"
	"testing"
)

func TestPath(t *testing.T) {
	tests := []struct {
		raw, want string
		flags     Flags
		err       error
	}{
		{raw: "/", want: "/"},
		{raw: "/a/b.html", want: "/a/b.html"},
		{raw: "/a-._~!$&'()*+,=:@", want: "/a-._~!$&'()*+,=:@"},
		{raw: "/a-._~!$&'()*+,;=:@", want: "/a-._~!$&'()*+,;=:@", flags: Parameters},

		// Case 13 of the security cases.
		{raw: "/admin%2F", want: "/admin%2F", flags: EncodedSlash},
		{raw: "/public/..%2fadmin", err: ErrPathHidden},
		{raw: "/api/./../admin", want: "/admin"},
		{raw: "//admin", want: "/admin", flags: RepeatedSlash},
		{raw: "/%61dmin", want: "/admin"},
		{raw: "/admin/%2e%2e/x", want: "/x"},
		{raw: "/@scope%2fpkg", want: "/@scope%2Fpkg", flags: EncodedSlash},

		// Dot segments.
		{raw: "/.", want: "/"},
		{raw: "/./", want: "/"},
		{raw: "/a/.", want: "/a/"},
		{raw: "/a/..", want: "/"},
		{raw: "/a/b/..", want: "/a/"},
		{raw: "/a/b/../", want: "/a/"},
		{raw: "/a/b/c/./../../g", want: "/a/g"},
		{raw: "/a//../b", want: "/b", flags: RepeatedSlash},
		{raw: "/a/%2E/b", want: "/a/b"},
		{raw: "/a/.%2e/b", want: "/b"},
		{raw: "/a/%2e./b", want: "/b"},
		{raw: "/...", want: "/..."},
		{raw: "/.well-known/acme-challenge/x", want: "/.well-known/acme-challenge/x"},
		{raw: "/..a/.b/c..", want: "/..a/.b/c.."},
		{raw: "/..", err: ErrPathAboveRoot},
		{raw: "/../x", err: ErrPathAboveRoot},
		{raw: "//../x", err: ErrPathAboveRoot},
		{raw: "/a/../../x", err: ErrPathAboveRoot},
		{raw: "/%2e%2e/x", err: ErrPathAboveRoot},

		// Slashes.
		{raw: "/a//", want: "/a/", flags: RepeatedSlash},
		{raw: "///a///b", want: "/a/b", flags: RepeatedSlash},
		{raw: "/a/./b/../c/", want: "/a/c/"},

		// Escapes.
		{raw: "/%7euser", want: "/~user"},
		{raw: "/caf%c3%a9", want: "/caf%C3%A9"},
		{raw: "/caf%C3%A9", want: "/caf%C3%A9"},
		{raw: "/café", want: "/caf%C3%A9"},
		{raw: "/a%20b%0a", want: "/a%20b%0A"},
		{raw: "/%252e%252e%252f", want: "/%252e%252e%252f"},
		{raw: "/a\"<>[]^`{|}", want: "/a%22%3C%3E%5B%5D%5E%60%7B%7C%7D"},
		{raw: "/a%3ab", want: "/a%3Ab", flags: EncodedReserved},
		{raw: "/%40scope/x", want: "/%40scope/x", flags: EncodedReserved},
		{raw: "/a%3f%23", want: "/a%3F%23"},
		{raw: "/a%5cb", want: "/a%5Cb", flags: EncodedSlash},
		{raw: "/a%5Cb%2c", want: "/a%5Cb%2C", flags: EncodedSlash | EncodedReserved},
		{raw: "/a%", err: ErrPathEscape},
		{raw: "/a%2", err: ErrPathEscape},
		{raw: "/a%2/b", err: ErrPathEscape},
		{raw: "/a%zz", err: ErrPathEscape},
		{raw: "/a%u0041", err: ErrPathEscape},
		{raw: "/a%00", err: ErrPathNUL},

		// Dot segments that only a server sees that decodes, or cuts parameters off.
		{raw: "/public/%2e%2e%2fadmin", err: ErrPathHidden},
		{raw: "/public/%2e%2e%5c", err: ErrPathHidden},
		{raw: "/public/..%5cadmin", err: ErrPathHidden},
		{raw: "/x%2f..%2fadmin", err: ErrPathHidden},
		{raw: "/x%2f..", err: ErrPathHidden},
		{raw: "/x%2f.", err: ErrPathHidden},
		{raw: "/.%2fx", err: ErrPathHidden},
		{raw: "/x%2fy/../admin", err: ErrPathHidden},
		{raw: "/public/..;/admin", err: ErrPathHidden},
		{raw: "/public/..;a=b/admin", err: ErrPathHidden},
		{raw: "/public/.;/admin", err: ErrPathHidden},
		{raw: "/public/..%3b/admin", err: ErrPathHidden},
		{raw: "/public%2f..;%2fadmin", err: ErrPathHidden},
		{raw: "/a%2f..b%2f...", want: "/a%2F..b%2F...", flags: EncodedSlash},
		{raw: "/..a%2fb", want: "/..a%2Fb", flags: EncodedSlash},
		{raw: "/a;v=1/b", want: "/a;v=1/b", flags: Parameters},
		{raw: "/a%3bv=1/b", want: "/a%3Bv=1/b", flags: Parameters | EncodedReserved},

		// What may not stand there as it is.
		{raw: "", err: ErrPathStart},
		{raw: "*", err: ErrPathStart},
		{raw: "a/b", err: ErrPathStart},
		{raw: "%2fadmin", err: ErrPathStart},
		{raw: "\\admin", err: ErrPathStart},
		{raw: "/a\\b", err: ErrPathBackslash},
		{raw: "/\\..\\admin", err: ErrPathBackslash},
		{raw: "/a b", err: ErrPathControl},
		{raw: "/a\tb", err: ErrPathControl},
		{raw: "/a\x00", err: ErrPathControl},
		{raw: "/a\r\nX: y", err: ErrPathControl},
		{raw: "/a\x7f", err: ErrPathControl},
		{raw: "/a#b", err: ErrPathControl},
		{raw: "/a?b", err: ErrPathControl},
	}
	for _, tt := range tests {
		t.Run(tt.raw, func(t *testing.T) {
			var scratch []byte
			got, flags, err := Path([]byte(tt.raw), &scratch)
			if string(got) != tt.want || flags != tt.flags || !errors.Is(err, tt.err) {
				t.Fatalf("Path(%q) = %q, %b, %v; want %q, %b, %v", tt.raw, got, flags, err, tt.want, tt.flags, tt.err)
			}
		})
	}
}

func TestPathErrorTexts(t *testing.T) {
	for raw, want := range map[string]string{
		"a":          `path: does not begin with a slash`,
		"/a b":       `path: a space, control character, "?" or "#" is not percent-encoded`,
		"/a\\":       `path: contains a backslash, which some servers read as a slash`,
		"/%g0":       `path: a percent sign is not followed by two hexadecimal digits`,
		"/%00":       `path: %00 ends the path for some servers`,
		"/..":        `path: its dot segments lead above the root`,
		"/a/..%2fb":  `path: an encoded slash, an encoded backslash or a semicolon hides a dot segment`,
		"/a/..;/adm": `path: an encoded slash, an encoded backslash or a semicolon hides a dot segment`,
	} {
		var scratch []byte
		if _, _, err := Path([]byte(raw), &scratch); err == nil || err.Error() != want {
			t.Errorf("Path(%q): got error %q, want %q", raw, err, want)
		}
	}
}

// The three results of one request share a scratch buffer; none may overwrite another, and
// appending to one must not either.
func TestScratchIsShared(t *testing.T) {
	var scratch []byte
	for range 3 {
		scratch = scratch[:0]
		host, _, err := Host([]byte("EXAMPLE.org"), &scratch)
		if err != nil {
			t.Fatal(err)
		}
		p, _, err := Path([]byte("/%61//b"), &scratch)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := Path([]byte("/long/long/long/../a b"), &scratch); err != ErrPathControl {
			t.Fatalf("got %v, want %v", err, ErrPathControl)
		}
		q, err := Query([]byte("a=<"), &scratch)
		if err != nil {
			t.Fatal(err)
		}
		_ = append(host, "overwritten"...)
		_ = append(p, "overwritten"...)
		if string(host) != "example.org" || string(p) != "/a/b" || string(q) != "a=%3C" {
			t.Fatalf("got %q, %q, %q", host, p, q)
		}
	}
}

func TestCanonicalIsNotCopied(t *testing.T) {
	for _, s := range []string{"/", "/a/b", "/.well-known/x", "/caf%C3%A9/%2F"} {
		raw := []byte(s)
		var scratch []byte
		got, _, err := Path(raw, &scratch)
		if err != nil || &got[0] != &raw[0] || len(scratch) != 0 {
			t.Errorf("Path(%q) was copied (%q, %v), scratch %q", s, got, err, scratch)
		}
	}
}

func TestDecoded(t *testing.T) {
	for raw, want := range map[string]string{
		"/a/b":            "/a/b",
		"/admin%2Fx":      "/admin/x",
		"/%2Fadmin":       "/admin",
		"/a%2F/b":         "/a/b",
		"/a%5Cb":          "/a/b",
		"/a%5C%2F%2Fb%2F": "/a/b/",
		"/a%3Ab%40":       "/a:b@",
		"/a%253A%20":      "/a%253A%20",
	} {
		var scratch []byte
		canonical, _, err := Path([]byte(raw), &scratch)
		if err != nil {
			t.Fatalf("Path(%q): %v", raw, err)
		}
		if got := Decoded(canonical, &scratch); string(got) != want {
			t.Errorf("Decoded(%q) = %q, want %q", raw, got, want)
		}
	}
}

// served is what a server finds that decodes a path, takes backslashes for slashes and cleans it:
// the oracle.
func served(t *testing.T, raw string) string {
	t.Helper()
	decoded, err := url.PathUnescape(raw)
	if err != nil {
		t.Fatalf("net/url refuses %q, which Path accepted: %v", raw, err)
	}
	slashed := strings.ReplaceAll(decoded, "\\", "/")
	clean := path.Clean(slashed)
	if last := slashed[strings.LastIndexByte(slashed, '/')+1:]; clean != "/" && (last == "" || last == "." || last == "..") {
		clean += "/"
	}
	return clean
}

func checkPath(t *testing.T, raw []byte) {
	t.Helper()
	before := bytes.Clone(raw)
	var scratch []byte
	got, flags, err := Path(raw, &scratch)
	if !bytes.Equal(raw, before) {
		t.Fatalf("Path changed its input %q to %q", before, raw)
	}
	if err != nil {
		if got != nil {
			t.Fatalf("Path(%q) = %q beside error %v", raw, got, err)
		}
		return
	}
	again, flagsAgain, err := Path(got, &scratch)
	if err != nil || !bytes.Equal(again, got) {
		t.Fatalf("Path(%q) = %q, and of that %q, %v", raw, got, again, err)
	}
	if flagsAgain&^flags != 0 {
		t.Fatalf("Path(%q): flags %b, then %b", raw, flags, flagsAgain)
	}
	for _, c := range got {
		if k := class[c]; k != plain && k != semicolon && k != slash && k != percent {
			t.Fatalf("Path(%q) = %q: byte %q is not in the grammar", raw, got, c)
		}
	}
	want := served(t, string(raw))
	if s := served(t, string(got)); s != want {
		t.Fatalf("a server finds %q for %q, but %q for its canonical form %q", want, raw, s, got)
	}
	// Nothing is left to clean: the route that was matched is the route of what is served.
	decoded, _ := url.PathUnescape(string(got))
	if flagsAgain&(EncodedSlash|EncodedReserved) == 0 && decoded != want {
		t.Fatalf("Path(%q) = %q without flags, but a server cleans it to %q", raw, got, want)
	}
	checkParameters(t, got, flagsAgain)
	checkSlashes(t, raw, got)
	if flagsAgain&EncodedSlash == 0 {
		return
	}
	plainReading, _ := url.PathUnescape(string(Decoded(got, &scratch)))
	if plainReading != want {
		t.Fatalf("Decoded of %q = %q, but a server finds %q", got, plainReading, want)
	}
}

var (
	parameters = regexp.MustCompile(`;[^/]*`)
	slashes    = regexp.MustCompile(`/+`)
)

// checkParameters holds that what a server finds that takes parameters off is canonical: no dot
// segment shows only then.
func checkParameters(t *testing.T, canonical []byte, flags Flags) {
	t.Helper()
	var scratch []byte
	for _, p := range [][]byte{canonical, Decoded(canonical, &scratch)} {
		got := string(WithoutParameters(p, &scratch))
		if want := slashes.ReplaceAllString(parameters.ReplaceAllString(string(p), ""), "/"); got != want {
			t.Fatalf("WithoutParameters(%q) = %q, want %q", p, got, want)
		}
		if clean := path.Clean(got); clean != got && clean+"/" != got {
			t.Fatalf("WithoutParameters(%q) = %q, which is cleaned to %q", p, got, clean)
		}
		if flags&Parameters == 0 && got != string(p) {
			t.Fatalf("Path did not flag the parameters in %q", canonical)
		}
	}
}

// checkSlashes holds that a path with its slashes kept is the canonical one but for them.
func checkSlashes(t *testing.T, raw, canonical []byte) {
	t.Helper()
	var scratch []byte
	kept, ok := KeepSlashes(raw, canonical, &scratch)
	if !ok {
		if !bytes.Contains(raw, []byte("//")) {
			t.Fatalf("KeepSlashes(%q) failed without slashes in a row", raw)
		}
		return
	}
	if merged := slashes.ReplaceAllString(string(kept), "/"); merged != string(canonical) {
		t.Fatalf("KeepSlashes(%q) = %q, whose canonical form is %q and not %q", raw, kept, merged, canonical)
	}
	if again, ok := KeepSlashes(kept, canonical, &scratch); !ok || !bytes.Equal(again, kept) {
		t.Fatalf("KeepSlashes(%q) = %q, and of that %q, %v", raw, kept, again, ok)
	}
}

func TestKeepSlashes(t *testing.T) {
	for raw, want := range map[string]string{
		"/a//b":                 "/a//b",
		"//x":                   "//x",
		"///":                   "///",
		"/a/b//":                "/a/b//",
		"/a///%7eb//é":          "/a///~b//%C3%A9",
		"/i/https://h/c.jpg":    "/i/https://h/c.jpg",
		"/a//./b":               "/a//b",
		"/a/.//b":               "/a//b",
		"/x/../a//b":            "/a//b",
		"/a//b/../c":            "/a//c",
		"/a//b%2F/c;d":          "/a//b%2F/c;d",
		"/a//../b":              "", // /a/b to a server that keeps them, /b to others
		"/pub//../admin":        "",
		"/a//%2e%2E/b":          "",
		"//..//admin":           "",
		"/a/b//../../../public": "",
	} {
		var scratch []byte
		canonical, _, err := Path([]byte(raw), &scratch)
		if err != nil {
			if want != "" {
				t.Errorf("%s: %v", raw, err)
			}
			continue
		}
		got, ok := KeepSlashes([]byte(raw), canonical, &scratch)
		if string(got) != want || ok != (want != "") {
			t.Errorf("KeepSlashes(%q) = %q, %v; want %q", raw, got, ok, want)
		}
	}
}

// Random paths made of the pieces that matter.
func TestPathProperties(t *testing.T) {
	pieces := []string{"/", "/", "/", ".", "..", "%2e", "%2E", "%2f", "%2F", "%5c", "a", "%61", "b", ";", "%3b", "%25", "é", "%c3", "|", "\\", "%00", "%"}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		raw := []byte("/")
		for range rng.IntN(9) {
			raw = append(raw, pieces[rng.IntN(len(pieces))]...)
		}
		checkPath(t, raw)
	}
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{"/", "/a/../b", "/%2e%2E/", "/a%2f..%5c.", "/a//b/./c", "/..;/x", "/é|%c3%A9", "/%"} {
		f.Add([]byte(s))
	}
	f.Fuzz(checkPath)
}

func FuzzQuery(f *testing.F) {
	for _, s := range []string{"", "a=b&c", "a=%", "a=[1]|\"", "a b", "x#y", "?/\\"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var scratch []byte
		got, err := Query(raw, &scratch)
		if err != nil {
			return
		}
		again, err := Query(got, &scratch)
		if err != nil || !bytes.Equal(again, got) {
			t.Fatalf("Query(%q) = %q, and of that %q, %v", raw, got, again, err)
		}
		want, errRaw := url.QueryUnescape(string(raw))
		s, errGot := url.QueryUnescape(string(got))
		if s != want || (errRaw == nil) != (errGot == nil) {
			t.Fatalf("a server decodes %q to %q (%v), but its canonical form %q to %q (%v)", raw, want, errRaw, got, s, errGot)
		}
	})
}

func TestQuery(t *testing.T) {
	for _, tt := range []struct {
		raw, want string
		err       error
	}{
		{raw: "", want: ""},
		{raw: "a=b&c=/d?e:@!$'()*+,;", want: "a=b&c=/d?e:@!$'()*+,;"},
		{raw: "a[]=1|2\\\"<>^`{}", want: "a%5B%5D=1%7C2%5C%22%3C%3E%5E%60%7B%7D"},
		{raw: "q=é", want: "q=%C3%A9"},
		{raw: "q=%zz%2f%c3%", want: "q=%zz%2f%c3%"},
		{raw: "q=a b", err: ErrQuery},
		{raw: "q=[a\x00", err: ErrQuery},
		{raw: "q=a\r\n", err: ErrQuery},
		{raw: "q=a\x7f", err: ErrQuery},
		{raw: "q=a#b", err: ErrQuery},
	} {
		var scratch []byte
		got, err := Query([]byte(tt.raw), &scratch)
		if string(got) != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("Query(%q) = %q, %v; want %q, %v", tt.raw, got, err, tt.want, tt.err)
		}
	}
	const text = `query: a space, control character or "#" is not percent-encoded`
	if ErrQuery.Error() != text {
		t.Errorf("got %q, want %q", ErrQuery, text)
	}
}
