//go:build linux

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"mpgate/bench/result"
)

// A whole run, small: mpgate ends floods, holds no one up for ever, and answers all that do nothing wrong.
func TestAbuse(t *testing.T) {
	dir := t.TempDir()
	mpgate, raw := filepath.Join(dir, "mpgate"), filepath.Join(dir, "raw.json")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", mpgate, "mpgate/cmd/mpgate").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := program(t, "abuse", "--mpgate", mpgate, "--only=mpgate", "--attack=rapid-reset,endless-head,half-handshake", "--time=1s", "--rate=50", "--json", raw,
		"--html", filepath.Join(dir, "page.html"), "--svg", filepath.Join(dir, "plot.svg")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	var rep result.Report
	if err := json.Unmarshal(text, &rep); err != nil {
		t.Fatal(err)
	}
	if len(rep.Abuse) != 3 {
		t.Fatalf("%d attacks, want 3:\n%s", len(rep.Abuse), out)
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
