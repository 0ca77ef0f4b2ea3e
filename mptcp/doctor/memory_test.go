package doctor

import (
	"strings"
	"testing"
)

func TestMemory(t *testing.T) {
	const stat = "sockets: used 35\nTCP: inuse 13 orphan 6 tw 3634 alloc 39 mem 400\nUDP: inuse 0 mem 900\n"
	for _, c := range []struct {
		stat, mem string
		want      string // "" where nothing is wrong
	}{
		{stat, "100\t401\t500", ""},
		{stat, "100\t400\t500", `use 400 pages; above 400`},
		{stat, "", ""},
		{stat, "1 x 3", ""},
		{"UDP: inuse 0 mem 900\n", "100 400 500", ""},
		{"TCP: inuse 13 mem x\n", "100 400 500", ""},
	} {
		var e examination
		e.checkMemory(c.stat, c.mem)
		switch {
		case c.want == "" && len(e.findings) > 0:
			t.Errorf("%q, %q: %v", c.stat, c.mem, e.findings)
		case c.want != "" && (len(e.findings) != 1 || !strings.Contains(e.findings[0].What, c.want) || !strings.Contains(e.findings[0].Remedy, `tcp_mem="400 800 1200"`)):
			t.Errorf("%q, %q: %v, want %q", c.stat, c.mem, e.findings, c.want)
		}
	}
}
