package main

import (
	"strings"
	"testing"
	"time"

	"mpgate/gateway"
)

func TestSize(t *testing.T) {
	for n, want := range map[float64]string{
		0: "0 B", 999: "999 B", 999.7: "1.00 KB", 1000: "1.00 KB", 9994: "9.99 KB", 9996: "10.0 KB", 99949: "99.9 KB", 99951: "100 KB", 12.3e6: "12.3 MB", 5e15: "5000 TB",
	} {
		if got := size(n); got != want {
			t.Errorf("%v: %q, want %q", n, got, want)
		}
	}
}

func TestFit(t *testing.T) {
	got := fit([]string{"one", "zwölf!", "three", "four"}, 3, 5)
	if strings.Join(got, "|") != "one|zwölf|… 2 m" {
		t.Errorf("%q", got)
	}
	if got := fit([]string{"a", "b"}, 2, 5); len(got) != 2 || got[1] != "b" {
		t.Errorf("%q", got)
	}
}

// report has a connection with a subflow on each of two paths, and what they sent.
func report(second int, token uint32, dsl, lte uint64) *gateway.PathsReport {
	subflow := func(id uint32, path string, sent uint64) gateway.PathSubflow {
		return gateway.PathSubflow{ID: id, Path: path, State: "established", BytesSent: sent}
	}
	return &gateway.PathsReport{
		Time: time.Unix(int64(second), 0), Totals: gateway.TotalsOpen,
		Paths:       []gateway.PathReport{{Name: "dsl", BytesSent: 1000 + dsl}, {Name: "lte", BytesSent: 2000 + lte}},
		Connections: []gateway.PathConnection{{Side: "listener", Token: token, Subflows: []gateway.PathSubflow{subflow(1, "dsl", dsl), subflow(2, "lte", lte)}}},
	}
}

// TestRates: what is carried a second is told by subflow and by path, also where connections come
// and go, and never made up.
func TestRates(t *testing.T) {
	var h history
	if got := h.add(report(1, 7, 100, 100)); got != nil {
		t.Errorf("a rate from one report: %+v", got)
	}
	got := h.add(report(3, 7, 700, 100))
	if got.paths["dsl"].sent != 300 || got.paths["lte"].sent != 0 || got.subflows[subflowKey{7, 1}].sent != 300 || got.most != 300 {
		t.Errorf("%+v", got)
	}
	text := newPicture(report(3, 7, 700, 100), got).text()
	for _, want := range []string{
		"\ndsl  ██████████████████████████████  out 300 B/s  in 0 B/s\n", "\nlte  ······························  out 0 B/s    in 0 B/s\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	// A new connection in place of the old one: all that it carried came since.
	if got = h.add(report(4, 8, 150, 30)); got.paths["dsl"].sent != 150 || got.most != 300 {
		t.Errorf("%+v", got)
	}
	if text = newPicture(report(4, 8, 150, 30), got).text(); !strings.Contains(text, "\ndsl  ███████████████···············  out 150 B/s") {
		t.Errorf("half of the most is no half bar:\n%s", text)
	}
	// More than are listed: one that was not listed before may be old. Without a manager nothing is
	// known.
	many := report(5, 9, 5000, 5000)
	many.More = 3
	if got = h.add(many); len(got.paths) != 0 {
		t.Errorf("%+v", got)
	}
	if text = newPicture(many, got).text(); !strings.Contains(text, "unknown: more connections than are listed") || !strings.Contains(text, "\nand 3 more connections\n") {
		t.Errorf("%s", text)
	}
	// With one, its sums over the seconds that are kept.
	h = history{}
	for second := range 10 {
		r := report(second, uint32(second), 500*uint64(second/5), 0)
		r.More, r.Totals = 3, gateway.TotalsSinceStart
		got = h.add(r)
	}
	if rate := got.paths["dsl"].sent; rate < 500.0/6-0.1 || rate > 500.0/6+0.1 || len(h.reports) != historyLength {
		t.Errorf("%v a second, of %d reports", rate, len(h.reports))
	}
}
