//go:build linux

package main

import (
	"path/filepath"
	"testing"
)

// A whole run, small: every size is measured, and what must grow does.
func TestGrowth(t *testing.T) {
	raw := filepath.Join(t.TempDir(), "raw.json")
	rep, text := measured(t, program(t, "growth", "--rounds=1", "--round=1s", "--warmup=1s", "--of=servers,connections", "--json", raw), raw)
	if len(rep.Growth) != 2 || rep.Growth[0].Of != "open connections" || rep.Growth[1].Of != "servers of a backend" {
		t.Fatalf("%s", text)
	}
	raiseFiles()
	few := enoughFiles(10000) // then the largest crowd cannot be, and says so
	for _, g := range rep.Growth {
		if few != nil && g.Of == "open connections" {
			if got := g.Case.Entries[3].Failed; got != few.Error() {
				t.Errorf("10000 connections: %q, want %q", got, few)
			}
			continue
		}
		if len(g.Points) != 4 {
			t.Fatalf("%s: %d sizes, want 4", g.Of, len(g.Points))
		}
		for i, p := range g.Points {
			if e := g.Case.Entries[i]; e.Failed != "" || e.CPU().N != 1 || p.PSS == 0 || p.Ready == 0 {
				t.Errorf("%s, %d: %+v, %s %v", g.Of, p.N, p, e.Failed, e.Invalid())
			}
		}
		// Half a KiB for each connection or server is less than any could do with.
		if each := g.Each(3); each < 512 {
			t.Errorf("%s: one more costs %.0f bytes", g.Of, each)
		}
		if v := g.Verdict(); v == "not measured" {
			t.Errorf("%s: %s", g.Of, v)
		}
	}
	if open := rep.Growth[0].Points[3].Open; few == nil && open != 9990 {
		t.Errorf("%d idle connections were still open, want 9990", open)
	}
}
