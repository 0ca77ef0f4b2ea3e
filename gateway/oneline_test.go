package gateway

import (
	"strings"
	"testing"
)

func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"":                           "",
		"dial tcp: refused":          "dial tcp: refused",
		"valid for a\x1b[2J, not\nb": "valid for a?[2J, not?b",
		"bad \xff, bidi \u202e, é":   "bad ?, bidi ?, é",
		strings.Repeat("é", 301):     strings.Repeat("é", 300) + "…",
	} {
		if got := oneLine(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
