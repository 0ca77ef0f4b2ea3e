package preread

import (
	"errors"
	"strings"
	"testing"
)

// checkPieces gives a parser ever more of b: it may change its mind from ErrMore only, and then for
// good. It returns after how many bytes it had decided.
func checkPieces(t *testing.T, b []byte, parse func([]byte) (any, int, error)) int {
	t.Helper()
	want, wantN, wantErr := parse(b)
	decided := len(b) + 1
	for i := len(b); i >= 0; i-- {
		got, n, err := parse(b[:i:i])
		if errors.Is(err, ErrMore) {
			// Then so it was for all that is shorter.
			for j := range i {
				if _, _, err := parse(b[:j:j]); !errors.Is(err, ErrMore) {
					t.Fatalf("%q: %d bytes give %v, %d bytes want more", b, j, err, i)
				}
			}
			break
		}
		decided = i
		if n > i || n != wantN || (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: %d bytes give length %d, error %v; all of them %d, %v", b, i, n, err, wantN, wantErr)
		}
		if err == nil && got != want {
			t.Fatalf("%q: %d bytes give %v; all of them %v", b, i, got, want)
		}
	}
	return decided
}

func detect(b []byte) (any, int, error) {
	p, err := Detect(b)
	return p, 0, err
}

func TestDetect(t *testing.T) {
	for _, tt := range []struct {
		in      string
		want    Protocol
		decided int // after so many bytes
	}{
		{"\x16\x03\x01", TLS, 1},
		{"GET / HTTP/1.1\r\n", HTTP1, 1},
		{"get / HTTP/1.1\r\n", HTTP1, 1},
		{"\r\nGET / HTTP/1.1\r\n", HTTP1, 1},
		{"POST / HTTP/1.1\r\n", HTTP1, 2},
		{"PUT / HTTP/1.1\r\n", HTTP1, 2},
		{"PROPFIND / HTTP/1.1\r\n", HTTP1, 3},
		{"P / HTTP/1.1\r\n", HTTP1, 2},
		{"PRI / HTTP/1.1\r\n", HTTP1, 5},
		{"PRI * HTTP/1.1\r\n", HTTP1, 12},
		{"PRI * HTTP/2.0\r\n\r\nXX", HTTP1, 19},
		{Preface, HTTP2, 24},
		{Preface + "\x00\x00\x12", HTTP2, 24},
		{"\x80\x2e\x01\x00\x02", Unknown, 1},
		{"\x15\x03\x01", Unknown, 1},
		{"\x00", Unknown, 1},
		{"\xff\xf4", Unknown, 1},
		{" GET", Unknown, 1},
		{"\"", Unknown, 1},
	} {
		got, err := Detect([]byte(tt.in))
		if got != tt.want || err != nil {
			t.Errorf("Detect(%q) = %v, %v; want %v", tt.in, got, err, tt.want)
		}
		if decided := checkPieces(t, []byte(tt.in), detect); decided != tt.decided {
			t.Errorf("Detect(%q) decided after %d bytes, want %d", tt.in, decided, tt.decided)
		}
	}
	for i := range len(Preface) {
		if got, err := Detect([]byte(Preface[:i])); err != ErrMore || got != Unknown {
			t.Errorf("Detect(%q) = %v, %v; want %v", Preface[:i], got, err, ErrMore)
		}
	}
	if ErrMore.Error() != "more bytes are needed" {
		t.Errorf("got %q", ErrMore)
	}
}

func TestDetectDoesNotAllocate(t *testing.T) {
	for _, s := range []string{"GET / HTTP/1.1\r\n", Preface, "PRI"} {
		b := []byte(s)
		if n := testing.AllocsPerRun(100, func() { _, _ = Detect(b) }); n != 0 {
			t.Errorf("%q: %v allocations", s, n)
		}
	}
}

func FuzzDetect(f *testing.F) {
	for _, s := range []string{Preface, "GET /", "PRI * HTTP/1.1\r\n", "\x16\x03\x01", " * 1\rHTTP/"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 64 {
			b = b[:64]
		}
		checkPieces(t, b, detect)
		got, err := Detect(b)
		if (got == HTTP2) != strings.HasPrefix(string(b), Preface) {
			t.Fatalf("Detect(%q) = %v, %v", b, got, err)
		}
		if line := strings.IndexByte(string(b), '\n'); err != nil && line >= 0 && len(b) > len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") {
			t.Fatalf("Detect(%q) wants more than a request line", b)
		}
		line, _, _ := strings.Cut(string(b), "\r\n")
		if words := strings.Split(line, " "); BadPreface(b) && len(words) == 3 && strings.HasPrefix(words[2], "HTTP/") && line != "PRI * HTTP/2.0" {
			t.Fatalf("%q is a request line", line)
		}
	})
}

func TestBadPreface(t *testing.T) {
	for in, want := range map[string]bool{
		"INVALID CONNECTION PREFACE\r\n\r\n":         true,
		"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n":           true,
		"PRI * HTTP/2.0\r\nHost: x\r\n":              true,
		"PRI * HTTP/1.1\r\n":                         false,
		"GET / HTTP/1.1\r\n":                         false,
		"GET / JUNK\r\n":                             false,
		"GET http://a/ JUNK\r\n":                     false,
		"GET /\r\n":                                  false,
		"OPTIONS * HTTP/1.0\r\n":                     false,
		"INVALID CONNECTION PREFACE":                 false, // the line is not whole
		"INVALID  PREFACE\r\n":                       false,
		"INVALID CONNECTION LONGER PREFACE\r\n":      false,
		"\r\n":                                       false,
		"INVALID CONNECTION HTTP/1.1\r\nHost: x\r\n": false,
	} {
		if got := BadPreface([]byte(in)); got != want {
			t.Errorf("BadPreface(%q) = %v, want %v", in, got, want)
		}
	}
}
