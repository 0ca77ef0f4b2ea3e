package config

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkLoad loads 10,000 routes, as a reload of a large file does.
func BenchmarkLoad(b *testing.B) {
	var text strings.Builder
	text.WriteString(rest)
	for i := range 10_000 {
		fmt.Fprintf(&text, "[[route]]\nname = \"r%d\"\nmatch = { host = \"h%d.example.org\", path = \"/api/*\" }\nbackend = \"app\"\n", i, i)
	}
	b.SetBytes(int64(text.Len()))
	b.ReportAllocs()
	for b.Loop() {
		l := newLoader(Options{Lookup: noEnv})
		if c, faults := l.finish(l.parse(text.String(), l.place("main.toml", 0))); c == nil || len(c.Routes) != 10_001 {
			b.Fatal(Errors(faults))
		}
	}
}
