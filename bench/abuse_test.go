//go:build linux

package main

import (
	"path/filepath"
	"testing"

	"mpgate/bench/result"
)

// A whole run, small: mpgate ends floods, holds no one up for ever, and answers all that do nothing
// wrong.
func TestAbuse(t *testing.T) {
	dir := t.TempDir()
	raw := filepath.Join(dir, "raw.json")
	rep, text := measured(t, program(t, "abuse", "--only=mpgate", "--attack=rapid-reset,endless-head,half-handshake", "--time=1s", "--rate=50", "--json", raw,
		"--html", filepath.Join(dir, "page.html"), "--svg", filepath.Join(dir, "plot.svg")), raw)
	if len(rep.Abuse) != 3 {
		t.Fatalf("%d attacks, want 3:\n%s", len(rep.Abuse), text)
	}
	for _, a := range rep.Abuse {
		e := a.Entries[0]
		if e.Failed != "" || e.Opened == 0 || e.CPUAttacker <= 0 || e.CPUUnder <= 0 || e.Before <= 0 || e.Peak < e.Before {
			t.Errorf("%s: %+v", a.Attack, e)
			continue
		}
		for _, b := range []result.Bystanders{e.Calm, e.Under} {
			if b.Lost() > 0 || b.H1.Requests < 40 || b.H2.Requests < 40 || b.New.Requests < 3 || b.H2.Latency.P50 == 0 {
				t.Errorf("%s: bystanders %+v", a.Attack, b)
			}
		}
	}
	if ends := rep.Abuse[0].Entries[0].Ends; ends["GOAWAY ENHANCE_YOUR_CALM"] == 0 {
		t.Errorf("rapid reset ended by %v", ends)
	}
	if ends := rep.Abuse[1].Entries[0].Ends; ends["status 431"] == 0 {
		t.Errorf("a head without end ended by %v", ends)
	}
}
