package result

import (
	"testing"
	"time"
)

func entry(name string, cpuPerRequest ...int64) Entry {
	e := Entry{Proxy: name}
	for i, us := range cpuPerRequest {
		e.Rounds = append(e.Rounds, Round{N: i, Requests: 1000, Wall: 500 * time.Millisecond, CPU: time.Duration(us*1000) * time.Microsecond})
	}
	return e
}

func TestInvalidRoundsAreShownAndNotAveraged(t *testing.T) {
	a, b := entry("a", 20, 30, 40), entry("b", 40, 60, 1)
	b.Rounds[2].Invalid = "12 answers were not 2xx"
	b.Rounds[2].Errors.Status = 12
	if s := b.CPU(); s.N != 2 || s.Median != 50 {
		t.Errorf("CPU of b = %+v, want the median 50 of two rounds", s)
	}
	if s := a.CPURatio(&b); s.N != 2 || s.Median != 0.5 {
		t.Errorf("ratio = %+v, want 0.5 from the two rounds in which both are valid", s)
	}
	if got := b.Invalid(); len(got) != 1 || got[0] != "b, round 3: 12 answers were not 2xx" {
		t.Errorf("Invalid() = %q", got)
	}
	if b.Errors() != 12 {
		t.Errorf("errors = %d, want 12: those of an invalid round count too", b.Errors())
	}
	if r := a.Rate(); r.Median != 2000 {
		t.Errorf("rate = %+v, want 2000/s", r)
	}
}

func TestCaseName(t *testing.T) {
	c := Case{Protocol: "h1 tls", Body: 1024, Transport: MPTCPBoth, Log: true, Close: true, Rate: 500}
	want := "h1 tls, 1 KiB, mptcp both, one connection a request, access log to a file, 500 requests/s"
	if got := c.Name(); got != want {
		t.Errorf("Name() = %q, want %q", got, want)
	}
	c.Title = "zip"
	if got := c.Name(); got != "zip, "+want {
		t.Errorf("Name() = %q, want the title before it", got)
	}
	if !MPTCPFront.Front() || MPTCPFront.Back() || TCP.Front() || !MPTCPBoth.Back() {
		t.Error("Front and Back do not say what the names say")
	}
}
