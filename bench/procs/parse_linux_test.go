package procs

import (
	"strings"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	got, err := parseStat("42 (a) b) R) S 7 42 42 0 -1 4194560 100 0 0 0 12 34 5 6 20 0 1 0 100 0 0")
	want := procStat{'S', 7, 120 * time.Millisecond, 340 * time.Millisecond}
	if err != nil || got != want {
		t.Errorf("parseStat = %+v, %v; want %+v", got, err, want)
	}
	for in, want := range map[string]string{
		"":                                `proc stat (got ""): not of the form pid (name) state …`,
		"1 (x) S":                         `proc stat (got "1 (x) S"): not of the form pid (name) state …`,
		"1 (x) S a 1 1 1 1 1 1 1 1 1 1 1": `proc stat (got "1 (x) S a 1 1 1 1 1 1 1 1 1 1 1"): a field is not a number`,
	} {
		if _, err := parseStat(in); err == nil || err.Error() != want {
			t.Errorf("parseStat(%q): %v, want %s", in, err, want)
		}
	}
}

func TestParseMachine(t *testing.T) {
	got, err := parseMachine("cpu  1 2 3 4 5 6 7 8 9 10")
	want := Machine{Busy: (1 + 2 + 3 + 6 + 7) * 10 * time.Millisecond, Steal: 80 * time.Millisecond}
	if err != nil || got != want {
		t.Errorf("parseMachine = %+v, %v; want %+v: idle and iowait are not busy", got, err, want)
	}
	if _, err := parseMachine("cpu 1 2"); err == nil || err.Error() != `/proc/stat (got "cpu 1 2"): want a line cpu user nice system idle iowait irq softirq steal` {
		t.Errorf("short line: %v", err)
	}
}

func TestParseRollup(t *testing.T) {
	got, err := parseRollup("55d-7ff ---p 00000000 00:00 0   [rollup]\nRss:   1000 kB\nPss:    600 kB\nPss_Anon:  1 kB\n")
	if err != nil || got != (Memory{1000 << 10, 600 << 10}) {
		t.Errorf("parseRollup = %+v, %v", got, err)
	}
	if _, err := parseRollup("Rss: 1 kB\n"); err == nil || !strings.HasSuffix(err.Error(), "want lines with Rss and Pss") {
		t.Errorf("a rollup without Pss: %v", err)
	}
}

func TestCounters(t *testing.T) {
	before, err := parseCounters("TcpExt: a\nTcpExt: 1\nMPTcpExt: MPCapableSYNRX DSSCorruptionFallback Blackhole\nMPTcpExt: 5 1 0\n")
	if err != nil {
		t.Fatal(err)
	}
	after := Counters{"MPCapableSYNRX": 69, "DSSCorruptionFallback": 1, "Blackhole": 2}
	d := after.Since(before)
	if len(d) != 2 || d["MPCapableSYNRX"] != 64 || d.Fallbacks() != 2 {
		t.Errorf("since: %v with %d fallbacks; want 64 SYNs, 2 fallbacks and nothing that did not change", d, d.Fallbacks())
	}
	if _, err := parseCounters("MPTcpExt: a b\nMPTcpExt: 1\n"); err == nil || err.Error() != "/proc/net/netstat: MPTcpExt has 2 names and 1 values" {
		t.Errorf("names without values: %v", err)
	}
	if none, err := parseCounters("TcpExt: a\nTcpExt: 1\n"); err != nil || len(none) != 0 {
		t.Errorf("a kernel without MPTCP: %v, %v", none, err)
	}
}

func TestUsageNoticesALostProcess(t *testing.T) {
	_, err := Usage{CPU: 5, PIDs: []int{10}}.Sub(Usage{CPU: 3, PIDs: []int{10, 11}})
	if err == nil || err.Error() != "process 11 of the tree ended during the round: its CPU time is lost" {
		t.Errorf("err = %v", err)
	}
	u, err := Usage{CPU: 5, PIDs: []int{10, 12}}.Sub(Usage{CPU: 3, PIDs: []int{10}})
	if err != nil || u.CPU != 2 {
		t.Errorf("a process that came counts in full: %+v, %v", u, err)
	}
}
