//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"mpgate/bench/peers"
	"mpgate/bench/result"
	"mpgate/internal/need"
)

func TestNearestLevel(t *testing.T) {
	for want, level := range map[int64]int{200: 1, 105: 2, 92: 3, 1: 4} {
		if got := nearestLevel([]int64{120, 100, 90, 80}, want); got != level {
			t.Errorf("for %d: level %d, want %d", want, got, level)
		}
	}
	if got := nearestLevel([]int64{1000, 905, 900, 899}, 850); got != 2 {
		t.Errorf("three levels within 1 %%: %d, want the fastest, 2", got)
	}
}

// mpgate accepts every variant, and what is measured is what the variant is for.
func TestFilters(t *testing.T) {
	dir := t.TempDir()
	mpgate := filepath.Join(dir, "mpgate")
	if out, err := exec.Command("go", "build", "-o", mpgate, "mpgate/cmd/mpgate").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	checkVariants(t, mpgate)
	raw := filepath.Join(dir, "raw.json")
	args := []string{"cpu", "--filters", "--only=mpgate", "--of=gzip", "--rounds=1", "--round=1s", "--warmup=1s", "--connections=4", "--mpgate", mpgate, "--json", raw}
	if _, err := exec.LookPath("wrk"); err != nil {
		if need.CI() {
			t.Fatal("CI must measure compression, which needs wrk (Debian: apt install wrk)")
		}
		t.Log("no wrk, which reads chunked answers: files instead")
		args[3] = "--of=files"
	}
	rep, text := measured(t, program(t, args...), raw)
	for _, c := range rep.Cases {
		e := c.Entries[0]
		if e.Failed != "" || len(e.Rounds) != 1 || e.Rounds[0].Invalid != "" {
			t.Fatalf("%s", text)
		}
		if c.Title == "gzip" && (e.Sent < c.Body/4 || e.Sent > c.Body/5*2) {
			t.Errorf("gzip: %d of %d bytes were sent", e.Sent, c.Body)
		}
		if r := e.Rounds[0]; c.Title == "files" && (e.Sent != 0 || r.Bytes < r.Requests*c.Body) {
			t.Errorf("files: %d bytes in %d answers, coded %d", r.Bytes, r.Requests, e.Sent)
		}
	}
}

func checkVariants(t *testing.T, mpgate string) {
	s, err := makeSecrets()
	if err != nil {
		t.Fatal(err)
	}
	p, err := peers.Mpgate(t.Context(), mpgate)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range append(filterCases(s), balanceCases()...) {
		for _, v := range k.variants {
			dir := t.TempDir()
			pl, err := peers.Vary(p, v).Plan(peers.Setup{Dir: dir, Listen: "127.0.0.1:1", Backend: "127.0.0.1:2", Transport: result.TCP, Connections: 1, Root: dir})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range pl.Files {
				if err := os.WriteFile(filepath.Join(dir, f.Name), []byte(f.Text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			out, err := exec.Command(pl.Check[0], pl.Check[1:]...).CombinedOutput()
			if err != nil {
				t.Errorf("%s, %s: %s", k.name, v.Name, out)
			}
		}
	}
}
