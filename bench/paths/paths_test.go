//go:build linux

package paths

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mpgate/bench/procs"
	"mpgate/bench/result"
	"mpgate/internal/lab"
)

// TestMain makes this test binary the guard of its own processes as well.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "guard" {
		procs.RunGuard(os.Stdin)
		return
	}
	os.Exit(m.Run())
}

func TestArrivals(t *testing.T) {
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	a := &arrivals{}
	for ms := 0; ms < 1000; ms += 10 {
		if ms >= 400 && ms < 650 {
			continue // nothing came
		}
		a.at, a.size = append(a.at, at(ms)), append(a.size, 1000)
	}
	if n := a.bytes(start, at(1000)); n != 75000 {
		t.Errorf("%d bytes, want 75000", n)
	}
	if g := a.goodput(at(100), at(300)); g != 800_000 {
		t.Errorf("goodput %v, want 20000 bytes in 200 ms", g)
	}
	if g := a.gap(at(0), at(1000)); g != 260*time.Millisecond {
		t.Errorf("gap %v, want 260 ms", g)
	}
	if g := a.gap(at(0), at(1500)); g != 510*time.Millisecond {
		t.Errorf("gap %v, want 510 ms: that at the end counts", g)
	}
	if g := (&arrivals{}).gap(at(0), at(70)); g != 70*time.Millisecond {
		t.Errorf("gap of nothing %v, want all of it", g)
	}
	want := []float64{800_000, 800_000, 800_000, 800_000, 0, 0, 400_000, 800_000, 800_000, 800_000}
	if s := a.series(start, at(1000)); !slices.Equal(s, want) {
		t.Errorf("series %v, want %v", s, want)
	}
	if d := a.low(at(0), at(1000), 500_000); d != 300*time.Millisecond {
		t.Errorf("low for %v, want 300 ms", d)
	}
}

func TestReceiveNoticesWrongContent(t *testing.T) {
	good := bytes.Repeat(content[:patternSize], 5)
	a, err := receive(bytes.NewReader(good))
	if err != nil || a.bytes(time.Time{}, time.Now().Add(time.Hour)) != int64(len(good)) {
		t.Errorf("what was sent is refused: %v", err)
	}
	for name, bad := range map[string][]byte{
		"lost":    slices.Concat(good[:70000], good[70001:]),
		"doubled": slices.Concat(good[:70000], good[69000:]),
	} {
		if _, err := receive(bytes.NewReader(bad)); err == nil || err.Error() != "what arrived is not what was sent" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestScenariosAreComplete(t *testing.T) {
	for _, sc := range Scenarios() {
		for _, side := range sc.sides {
			spec := sc.Spec(side, "reno")
			n := 2 + (len(sc.Paths)-1)*map[Side]int{Front: 1, Back: 1, Both: 2}[side]
			if len(spec.Links) != n || spec.Congestion != "reno" {
				t.Errorf("%s, %s: %d links, want %d", sc.Name, side, len(spec.Links), n)
			}
		}
		if sc.Event != Nothing && sc.Paths[1].Rate == 0 {
			t.Errorf("%s: nothing says what the path that is left carries", sc.Name)
		}
	}
	_, err := Find([]string{"equal", "moon"})
	want := `scenario (got "moon"); want equal, rates, delays, lossy, four, linkdown, silence, return, plain-client, plain-backend, strip`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestVariants(t *testing.T) {
	names := func(scenario string, w Workload) (list []string) {
		sc, err := Find([]string{scenario})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range sc[0].variants(w) {
			list = append(list, v.name)
		}
		return list
	}
	// Each path alone where a sum is wanted; the better one elsewhere.
	if got := names("four", Download); !slices.Equal(got, []string{"TCP, path 1", "TCP, path 2", "TCP, path 3", "TCP, path 4", "MPTCP, path 1", "MPTCP, all paths"}) {
		t.Errorf("four: %q", got)
	}
	if got := names("four", Small); !slices.Equal(got, []string{"TCP, path 1", "MPTCP, path 1", "MPTCP, all paths"}) {
		t.Errorf("four, small: %q", got)
	}
	if got := names("silence", Download); !slices.Equal(got, []string{"TCP, path 1", "MPTCP, path 1", "MPTCP, all paths", "MPTCP, fail-over"}) {
		t.Errorf("silence: %q", got)
	}
}

func TestChoice(t *testing.T) {
	all := Scenarios()
	for want, c := range map[string]Choice{
		`side (got "left"); want front, back or both`:                  {Scenarios: all, Congestion: []string{""}, Sides: []Side{"left"}},
		`workload (got "x"); want small, download, upload or parallel`: {Scenarios: all, Congestion: []string{""}, Workloads: []Workload{"x"}},
		`nothing of what was chosen goes together`:                     {Scenarios: all[5:6], Congestion: []string{""}, Workloads: []Workload{Parallel}},
	} {
		if err := c.Check(); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	c := Choice{Scenarios: all[:1], Congestion: []string{"a", "b"}, Sides: []Side{Both}}
	// Four workloads: three with two paths alone, one with one; twice for the congestion controls,
	// three rounds.
	if runs, seconds := c.Runs(&Options{Rounds: 3, Time: 2 * time.Second}); runs != (4*3+3)*2*3 || seconds != 180 {
		t.Errorf("%d runs, %v s; want 90 and 180", runs, seconds)
	}
}

// What a run spoke decides whether it counts.
func TestJudge(t *testing.T) {
	mptcp, tcp := result.PathSpoken{MPTCP: 1}, result.PathSpoken{Plain: 1}
	joined := map[string]map[string]int64{"gateway": {"MPJoinAckRx": 1}, "backend": {"MPJoinAckRx": 1}}
	all := variant{mptcp: true, all: true}
	for _, c := range []struct {
		scenario string
		v        variant
		round    result.PathRound
		want     string
	}{
		{"equal", variant{}, result.PathRound{Front: tcp, Back: tcp}, ""},
		{"equal", all, result.PathRound{Front: mptcp, Back: mptcp, Counters: joined}, ""},
		{"equal", all, result.PathRound{Front: mptcp, Back: mptcp}, "no further subflow was made between client and mpgate"},
		{"equal", variant{mptcp: true}, result.PathRound{Front: mptcp, Back: tcp}, "between mpgate and the backend: 0 connections with MPTCP, 1 without, 0 fell back; want MPTCP alone"},
		{"equal", all, result.PathRound{Front: result.PathSpoken{MPTCP: 1, FellBack: 1}, Back: mptcp}, "between client and mpgate: 1 connections with MPTCP, 0 without, 1 fell back; want MPTCP alone"},
		{"equal", all, result.PathRound{Front: mptcp, Back: mptcp, Counters: joined, Fallbacks: 2}, "MPTCP fell back to TCP 2 times"},
		{"equal", variant{}, result.PathRound{Front: mptcp, Back: tcp}, "between client and mpgate: 1 connections with MPTCP, 0 without; want TCP"},
		{"strip", all, result.PathRound{Front: tcp, Back: tcp, Fallbacks: 2}, ""},
		{"strip", all, result.PathRound{Front: tcp, Back: tcp}, "no fallback was counted, which is what this scenario is about"},
		{"strip", all, result.PathRound{Front: mptcp, Back: tcp, Fallbacks: 1}, "between client and mpgate: 1 connections with MPTCP, 0 without; want TCP after MPTCP was asked for"},
		{"plain-client", all, result.PathRound{Front: tcp, Back: mptcp, Counters: joined}, ""},
		{"plain-backend", all, result.PathRound{Front: mptcp, Back: tcp, Counters: joined, Fallbacks: 1}, ""},
	} {
		sc, err := Find([]string{c.scenario})
		if err != nil {
			t.Fatal(err)
		}
		s := site{scenario: &sc[0], side: Both}
		if err := s.judge(c.v, &c.round); (err == nil) != (c.want == "") || err != nil && err.Error() != c.want {
			t.Errorf("%s, %+v: got %v, want %q", c.scenario, c.round, err, c.want)
		}
	}
}

func TestReadHead(t *testing.T) {
	buf := make([]byte, 100)
	rest, err := readHead(io.MultiReader(strings.NewReader("HTTP/1.1 200 OK\r\nA: b\r\n\r"), strings.NewReader("\nbody")), buf)
	if err != nil || string(rest) != "body" {
		t.Errorf("%q, %v", rest, err)
	}
	for in, want := range map[string]string{
		"HTTP/1.1 503 x\r\n\r\n": `status line (got "HTTP/1.1 503 x"); want 200`,
		strings.Repeat("x", 200): "the response's head does not end",
		"HTTP/1.1 200":           "EOF",
	} {
		if _, err := readHead(strings.NewReader(in), buf); err == nil || err.Error() != want {
			t.Errorf("%.20q: %v, want %s", in, err, want)
		}
	}
}

// Whole measurements, small: two paths carry more than one, and a path that dies ends TCP's
// transfer and not MPTCP's.
func TestRun(t *testing.T) {
	lab.NeedRoot(t)
	mpgate := filepath.Join(t.TempDir(), "mpgate")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", mpgate, "mpgate/cmd/mpgate").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	group, err := procs.NewGroup([]string{os.Args[0], "guard"})
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	o := &Options{Mpgate: mpgate, Scratch: t.TempDir(), Group: group, Rounds: 1, Time: 2 * time.Second, Rate: 50, Say: t.Logf}
	scenarios, err := Find([]string{"equal", "silence", "plain-backend"})
	if err != nil {
		t.Fatal(err)
	}
	// Slow paths, so that a busy machine carries them. The runs are short: what stood in queues
	// before goodput is counted weighs much.
	for i := range scenarios {
		scenarios[i].Paths = times(2, path(20, 2*time.Millisecond))
		scenarios[i].workloads = [][]Workload{{Download, Upload, Small}, {Download, Small}, {Upload}}[i]
	}
	var kept string
	held := errors.New("held")
	cases, err := Run(t.Context(), o, &Choice{Scenarios: scenarios, Sides: []Side{Both}, Congestion: []string{"reno"}},
		func(c []result.PathCase, k *Kept) (err error) {
			if len(c) != 6 {
				t.Errorf("%d cases before the lab is held, want 6", len(c))
			}
			if kept, err = k.Text(); err != nil {
				return err
			}
			if _, err := os.Stat("/run/netns/mpgate-client"); err != nil {
				t.Errorf("the client has no name: %v", err)
			}
			return held
		})
	if err != held || len(cases) != 6 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	for _, want := range []string{"-client bash", "-gateway bash    # 10.77.1.2 10.77.2.2 10.77.3.1 10.77.4.1", "/mptcp/stream"} {
		if !strings.Contains(kept, want) {
			t.Errorf("%q is missing in\n%s", want, kept)
		}
	}
	if left, _ := filepath.Glob("/run/netns/mpgate*-client"); len(left) > 0 {
		t.Errorf("names are left: %v", left)
	}
	for _, c := range cases {
		check(t, &c)
	}
}

func check(t *testing.T, c *result.PathCase) {
	for _, e := range c.Entries {
		r := e.Rounds[0]
		if r.Invalid != "" {
			t.Errorf("%s, %s: %s", c.Name(), e.Variant, r.Invalid)
			continue
		}
		if len(r.Links) != 4 || r.CPU <= 0 || r.Bytes == 0 || (c.Workload == "small") != (r.Latency.P999 > 0) || (c.Workload != "small") != (len(r.Series) > 0) {
			t.Errorf("%s, %s: figures are missing: %+v", c.Name(), e.Variant, r)
		}
		single := !e.All && c.Workload != "small"
		if dead := c.Event != "" && single; dead != (r.Failed > 0) && c.Workload != "small" {
			t.Errorf("%s, %s: %d failed", c.Name(), e.Variant, r.Failed)
		}
		if c.Event != "" && (r.Cut < 900*time.Millisecond || single && r.Gap < time.Second) {
			t.Errorf("%s, %s: cut after %v of 3 s, gap %v", c.Name(), e.Variant, r.Cut, r.Gap)
		}
		if c.Event != "" && e.All && r.Failed > 0 {
			t.Errorf("%s, %s: %d requests failed", c.Name(), e.Variant, r.Failed)
		}
	}
	all := &c.Entries[len(c.Entries)-1]
	if share := c.Share(all); c.Scenario == "equal" && c.Workload != "small" && (share.Median < 0.6 || share.Median > 1.5) {
		t.Errorf("%s: all paths carry %.2f of the sum", c.Name(), share.Median)
	}
	if split := all.Split("front", c.Workload == "upload"); c.Scenario == "equal" && c.Workload != "small" && (len(split) != 2 || split[0] < 0.3 || split[1] < 0.3) {
		t.Errorf("%s: bytes by path %v", c.Name(), split)
	}
}

func TestOwn(t *testing.T) {
	s, err := Own([]string{"rate=100,delay=10ms", "rate=0.5,delay=1ms,loss=1.5%,queue=64KiB"})
	if err != nil {
		t.Fatal(err)
	}
	want := []lab.Path{{Rate: 100 * lab.Mbit, Delay: 10 * time.Millisecond}, {Rate: lab.Mbit / 2, Delay: time.Millisecond, Loss: 0.015, Queue: 64 << 10}}
	if !slices.Equal(s.Paths, want) {
		t.Errorf("got %+v, want %+v", s.Paths, want)
	}
	if c := (Choice{Scenarios: []Scenario{s}, Congestion: []string{"reno"}}); c.Check() != nil || len(c.plan()) != 3 {
		t.Errorf("%v, %d labs, want 3", c.Check(), len(c.plan()))
	}
	for spec, want := range map[string]string{
		"rate=x":           `(got "rate=x"): "rate=x": strconv.ParseFloat: parsing "x": invalid syntax; want rate=100,delay=10ms,loss=1%,queue=64KiB`,
		"rate=10,color=5":  `(got "rate=10,color=5"): "color=5": no such part; want rate=100,delay=10ms,loss=1%,queue=64KiB`,
		"delay=10ms":       `(got "delay=10ms"): want a rate of 0.1 to 2000 Mbit/s, a delay of at most 2s, and a loss of at most 50%`,
		"rate=10,loss=NaN": `(got "rate=10,loss=NaN"): want a rate of 0.1 to 2000 Mbit/s, a delay of at most 2s, and a loss of at most 50%`,
		"rate=10,loss=60%": `(got "rate=10,loss=60%"): want a rate of 0.1 to 2000 Mbit/s, a delay of at most 2s, and a loss of at most 50%`,
	} {
		if _, err := Own([]string{spec}); err == nil || err.Error() != want {
			t.Errorf("%s:\ngot  %v\nwant %s", spec, err, want)
		}
	}
	if _, err := Own(nil); err == nil || err.Error() != "(got 0 of them); want 1 to 8" {
		t.Errorf("none: %v", err)
	}
}

func TestQuickIsShort(t *testing.T) {
	c := Choice{Scenarios: Quick(), Congestion: []string{"reno"}}
	if runs, seconds := c.Runs(&Options{Rounds: 1, Time: 4 * time.Second}); runs != 11 || seconds > 60 {
		t.Errorf("%d runs of %v s; want 11 in a minute", runs, seconds)
	}
}
