package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mpgate/bench/result"
	"mpgate/internal/need"
)

// sample is a run with all that a report may meet: a proxy that failed, a round that does not
// count, text that HTML must escape.
func sample() *result.Report {
	rounds := func(curve bool, us ...int64) (r []result.Round) {
		for i, u := range us {
			one := result.Round{
				N: i, Requests: 1000, Wall: time.Second, CPU: time.Duration(u*1000) * time.Microsecond, RSS: 20 << 20,
				Latency: result.Latency{P50: 900 + u, P99: 9000 + u, P999: 20000},
			}
			if curve {
				one.Latency.Curve = [][2]float64{{0, 200}, {50, float64(800 + u)}, {90, float64(1500 + u)}, {99, float64(9000 + u)}, {100, float64(42000 + 10*u)}}
			}
			r = append(r, one)
		}
		return r
	}
	k := func(rate float64) result.Case {
		c := result.Case{Protocol: "h1", Body: 1024, Transport: result.TCP, Rate: rate, Entries: []result.Entry{
			{Proxy: "mpgate", Rounds: rounds(rate > 0, 20, 22, 24), Command: []string{"mpgate", "run"}, Files: map[string]string{"mpgate.toml": "[log]\n"}},
			{Proxy: "nginx", Rounds: rounds(rate > 0, 25, 30, 26), Notes: []string{"access log: <its own>"}},
			{Proxy: "haproxy", Rounds: rounds(rate > 0, 21, 20, 30)},
			{Proxy: "caddy", Failed: "it ended at once: <boom>"},
			{Proxy: "stdlib", Rounds: rounds(rate > 0, 100, 90, 1)},
		}}
		c.Entries[4].Rounds[2].Invalid = "3 errors"
		c.Entries[4].Rounds[2].Errors.Status = 3
		return c
	}
	return &result.Report{
		Verb: "cpu", Started: time.Date(2026, 11, 24, 6, 0, 0, 0, time.UTC), Seconds: 61, Argv: []string{"bench", "cpu"}, Baseline: "mpgate",
		Machine: result.Machine{CPU: "Some CPU", CPUs: 2, Memory: 8 << 30, Kernel: "6.18", OS: "Some Linux", Go: "go1.26.8", Load: "0.00",
			Sysctls: map[string]string{"net.ipv4.tcp_congestion_control": "bbr"}, Tools: map[string]string{"wrk": "4.1.0"}},
		Method:  []string{"carefully"},
		Proxies: []result.Proxy{{Name: "mpgate", Version: "devel"}, {Name: "nginx", Version: "1.22.1"}},
		Skipped: []result.Skip{{Name: "traefik", Why: "not found"}},
		Cases:   []result.Case{k(0), k(500)},
		Idle: []result.Idle{
			{Proxy: "mpgate", Connections: 1000, PSSBefore: 10 << 20, PSSAfter: 15 << 20, PerConn: 5243, Open: 1000},
			{Proxy: "stdlib", Connections: 1000, Failed: "12 of 1000 connections were closed before memory was read"},
		},
		Growth:  []result.Growth{growth()},
		Paths:   []result.PathCase{pathCase("download", "silent drop"), pathCase("download", ""), pathCase("small", "")},
		Startup: []result.Startup{{Proxy: "mpgate", Times: []time.Duration{5 * time.Millisecond, 7 * time.Millisecond}}, {Proxy: "nginx", Failed: "gone"}},
	}
}

// growth is a cost that grows with the root of its size, of which the largest could not be
// measured.
func growth() result.Growth {
	g := result.Growth{Of: "widgets", About: "all of them turn", Points: []result.GrowthPoint{{N: 10, PSS: 1 << 20, Ready: time.Second}, {N: 1000, PSS: 1<<20 + 990<<10}, {N: 1e5}}}
	for i, us := range []int64{20, 200, 0} {
		e := result.Entry{Proxy: fmt.Sprint(g.Points[i].N), Rounds: []result.Round{{Requests: 1000, Wall: time.Second, CPU: time.Duration(us) * time.Millisecond}}}
		if us == 0 {
			e = result.Entry{Proxy: "100000", Failed: "too many"}
		}
		g.Case.Entries = append(g.Case.Entries, e)
	}
	return g
}

func TestGrowthText(t *testing.T) {
	var b strings.Builder
	g := growth()
	growthTable(&g).text(&b)
	want := `  widgets  CPU us/request   min   max  of the first      PSS     each  ready ms  requests/s  rounds  errors
  10                 20.0  20.0  20.0             -  1.0 MiB        -      1000        1000     1/1       0
  1000                200   200   200       10.00 x  2.0 MiB  1.0 KiB         -        1000     1/1       0
  100000                -                         -        -        -         -           -     0/0       0
  * 100000: too many
  * all of them turn
  * CPU a request grows about as the square root: 10.00 times from 10 to 1000 (exponent 0.50)
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	flat := growth()
	flat.Case.Entries[1].Rounds[0].CPU = 21 * time.Millisecond
	if v := flat.Verdict(); v != "CPU a request does not grow: 1.05 times from 10 to 1000 (exponent 0.01)" {
		t.Errorf("%q", v)
	}
	none := result.Growth{Points: g.Points[:1], Case: result.Case{Entries: g.Case.Entries[:1]}}
	if v := none.Verdict(); v != "not measured" {
		t.Errorf("%q", v)
	}
}

// pathCase is a workload over two paths, in which MPTCP carries nine tenths of the sum, and one run
// does not count.
func pathCase(workload, event string) result.PathCase {
	c := result.PathCase{
		Scenario: "x", About: "two <equal> paths", Side: "both", Workload: workload, Congestion: "bbr", CongestionBy: "route", Event: event, Realtime: true,
		Paths:   []result.PathSpec{{Name: "front1", About: "fast"}, {Name: "front2", About: "fast"}, {Name: "back1", About: "slow"}},
		Configs: map[string]string{"mpgate.toml": "[log]\n"},
	}
	for i, v := range []string{"TCP, path 1", "TCP, path 2", "MPTCP, all paths"} {
		e := result.PathEntry{Variant: v, Alone: i < 2, All: i == 2}
		for n := range 3 {
			rate := 1e8 * float64(1+n)
			if i == 2 {
				rate *= 1.8
			}
			r := result.PathRound{
				N: n, Bytes: 1e8, Goodput: rate, Requests: 1, CPU: 300 * time.Millisecond, TTFB: []time.Duration{40 * time.Millisecond}, Gap: 70 * time.Millisecond,
				Low: 200 * time.Millisecond, Step: 100 * time.Millisecond, Links: []result.PathLink{{Name: "front1", Back: 600}, {Name: "front2", Back: 400}, {Name: "back1", Back: 5}},
				Counters: map[string]map[string]int64{"client": {"MPJoinSynTx": 1}},
			}
			for k := range 30 {
				r.Series = append(r.Series, rate*float64(5+k%3)/6)
			}
			if event != "" {
				r.Cut, r.Return, r.Failed = time.Second, 2*time.Second, 1
			}
			if workload == "small" {
				r.Goodput, r.Series, r.Requests = 0, nil, 900
				r.Latency = result.Latency{P50: 40000, P99: 80000, P999: 90000, Max: 1234567, Curve: [][2]float64{{0, 40000}, {50, 41000}, {99, 80000}, {100, 1234567}}}
			}
			e.Rounds = append(e.Rounds, r)
		}
		c.Entries = append(c.Entries, e)
	}
	c.Entries[0].Rounds[2].Invalid, c.Entries[0].Rounds[2].Fallbacks = "MPTCP fell back to TCP 2 times", 2
	return c
}

func TestPathsText(t *testing.T) {
	var b strings.Builder
	c := pathCase("download", "")
	pathTable(&c).text(&b)
	// The third round of path 1 does not count: neither do its goodput nor the sum of that round.
	want := `  way               Mbit/s      min-max  of the sum  first byte ms  failed  bytes front  bytes back  CPU ms/100 MB  fallbacks  runs
  TCP, path 1        150.0  100.0-200.0      50.0 %           40.0       0        60/40         100            300          2   2/3
  TCP, path 2        200.0  100.0-300.0      50.0 %           40.0       0        60/40         100            300          0   3/3
  MPTCP, all paths   360.0  180.0-540.0      90.0 %           40.0       0        60/40         100            300          0   3/3
  * front1 to front2: fast; back1: slow; congestion control bbr (set by route)
  * TCP, path 1, round 3, not counted: MPTCP fell back to TCP 2 times
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	b.Reset()
	c = pathCase("download", "silent drop")
	pathTable(&c).text(&b)
	if row := "  TCP, path 2        200.0  100.0-300.0      70    70-70      200           40.0       3        60/40         100            300          0   3/3\n"; !strings.Contains(b.String(), row) {
		t.Errorf("got\n%s\nwant a row\n%s", b.String(), row)
	}
	if line := pathSection(&c).Charts[0]; strings.Count(line, "event") != 2 || !strings.Contains(line, "path 1: silent drop") || !strings.Contains(line, "it returns") {
		t.Errorf("the moments of the cut and of the return are not marked: %s", line)
	}
}

func TestText(t *testing.T) {
	var b strings.Builder
	Text(&b, sample())
	want := `bench cpu, 2026-11-24 06:00 UTC
2 x Some CPU, 8.0 GiB, Linux 6.18, Some Linux, go1.26.8
this host's own congestion control bbr, load before the run 0.00
  mpgate     devel
  nginx      1.22.1
  traefik    skipped: not found

h1, 1 KiB, tcp, keep-alive, no access log
  proxy    CPU us/request   min   max  mpgate costs   min   max  requests/s  cores  p50 ms  p99 ms  p99.9 ms       RSS  rounds  errors
  mpgate             22.0  20.0  24.0             -                    1000   0.02    0.92    9.02      20.0  20.0 MiB     3/3       0
  nginx              26.0  25.0  30.0        0.80 x  0.73  0.92        1000   0.03    0.93    9.03      20.0  20.0 MiB     3/3       0
  haproxy            21.0  20.0  30.0        0.95 x  0.80  1.10        1000   0.02    0.92    9.02      20.0  20.0 MiB     3/3       0
  caddy                 -
  stdlib             95.0  90.0   100        0.22 x  0.20  0.24        1000   0.10    0.99    9.10      20.0  20.0 MiB     2/3       3
  * nginx: access log: <its own>
  * caddy: not measured: it ended at once: <boom>
  * stdlib, round 3: 3 errors
`
	if got := b.String(); !strings.HasPrefix(got, want) {
		t.Errorf("got\n%s\nwant it to begin with\n%s", got, want)
	}
	for _, want := range []string{"stdlib, 1000 connections: 12 of 1000 connections were closed", "mpgate                     6.0  5.0  7.0       2", "- carefully\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "under attack") {
		t.Error("attacks that were not made have a table")
	}
}

func TestJSONHoldsEveryRound(t *testing.T) {
	in := sample()
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out result.Report
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	again, _ := json.Marshal(&out)
	if !bytes.Equal(text, again) || len(out.Cases[0].Entries[4].Rounds) != 3 || out.Cases[0].Entries[4].Rounds[2].Invalid == "" {
		t.Errorf("the raw data lost something on its way: %s", again)
	}
}

func TestHTMLStandsAlone(t *testing.T) {
	var b bytes.Buffer
	if err := HTML(&b, sample()); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for _, never := range []string{"<script", "src=", "href=", "@import", "url(", "<boom>", "ZgotmplZ"} {
		if strings.Contains(text, never) {
			t.Errorf("the page contains %q", never)
		}
	}
	if got := strings.Count(text, "<svg "); got != 10 {
		t.Errorf("%d drawings, want 10: two cases, one latency, one idle memory, two of growth, two for a download, one with a cut, one for small requests", got)
	}
	rest := text
	for {
		_, after, ok := strings.Cut(rest, "<svg ")
		if !ok {
			break
		}
		drawing, after, _ := strings.Cut(after, "</svg>")
		rest = after
		d := xml.NewDecoder(strings.NewReader("<svg " + drawing + "</svg>"))
		for {
			_, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("a drawing is not well-formed: %v", err)
			}
		}
	}
}

// An empty report, or one in which nobody was measured, still makes a page.
func TestHTMLOfNothing(t *testing.T) {
	for _, rep := range []*result.Report{{}, {Cases: []result.Case{{Entries: []result.Entry{{Proxy: "x", Failed: "y"}}}}}} {
		var b bytes.Buffer
		if err := HTML(&b, rep); err != nil || !strings.HasSuffix(b.String(), "</html>\n") {
			t.Errorf("%v: ends with %q", err, b.String()[max(0, b.Len()-20):])
		}
		Text(io.Discard, rep)
	}
}

// probe looks at the page as it is laid out: is anything cut off, does anything cover anything
// else?
const probe = `<script>
const faults = [];
if (document.documentElement.scrollWidth > innerWidth) faults.push("the page is " + document.documentElement.scrollWidth + " wide in a window of " + innerWidth);
let texts = 0;
for (const svg of document.querySelectorAll("svg")) {
  const view = svg.viewBox.baseVal, boxes = [];
  for (const t of svg.querySelectorAll("text")) {
    const b = t.getBBox();
    texts++;
    if (b.x < 0 || b.y < -1 || b.x + b.width > view.width || b.y + b.height > view.height + 1) faults.push("cut off: " + t.textContent);
    for (const o of boxes)
      if (b.x < o.b.x + o.b.width && o.b.x < b.x + b.width && b.y + 2 < o.b.y + o.b.height && o.b.y + 2 < b.y + b.height) faults.push(t.textContent + " covers " + o.t);
    boxes.push({ b, t: t.textContent });
  }
}
document.title = JSON.stringify({ faults, texts, drawings: document.querySelectorAll("svg").length, back: getComputedStyle(document.body).backgroundColor, bar: getComputedStyle(document.querySelector(".own")).fill });
</script>`

// TestHTMLInABrowser lays the page out in Chromium, wide and narrow, light and dark.
func TestHTMLInABrowser(t *testing.T) {
	chromium := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			chromium = p
			break
		}
	}
	if chromium == "" {
		need.Missing(t, "no browser is installed (Debian: apt install chromium)")
	}
	var b bytes.Buffer
	if err := HTML(&b, sample()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "page.html")
	text := strings.Replace(b.String(), "</body>", probe+"</body>", 1)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ size, scheme, back string }{
		{"1200,900", "1", "rgb(251, 251, 250)"},
		{"500,900", "0", "rgb(21, 24, 28)"},
	} {
		cmd := exec.CommandContext(t.Context(), chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
			"--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir="+t.TempDir(),
			"--window-size="+c.size, "--blink-settings=preferredColorScheme="+c.scheme, "--dump-dom", "file://"+file)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", chromium, err)
		}
		_, title, _ := strings.Cut(string(out), "<title>")
		title, _, _ = strings.Cut(title, "</title>")
		var seen struct {
			Faults          []string
			Texts, Drawings int
			Back, Bar       string
		}
		if err := json.Unmarshal([]byte(strings.ReplaceAll(title, "&quot;", `"`)), &seen); err != nil {
			t.Fatalf("the page did not run its probe: title %q, %v", title, err)
		}
		if len(seen.Faults) > 0 || seen.Drawings != 10 || seen.Texts < 60 {
			t.Errorf("window %s: %d drawings, %d texts, faults %q", c.size, seen.Drawings, seen.Texts, seen.Faults)
		}
		if seen.Back != c.back || seen.Bar == "rgb(0, 0, 0)" {
			t.Errorf("colour scheme %s: background %s, want %s; bar %s", c.scheme, seen.Back, c.back, seen.Bar)
		}
	}
}

// The plots stand alone: XML, with a style of their own, the command without this machine's files,
// the day and the machine.
func TestPlot(t *testing.T) {
	all := sample()
	all.Argv = []string{"bench", "cpu", "--json", "/tmp/x.json", "--rounds=3", "--svg=/tmp/p.svg"}
	paths := *all
	paths.Cases, paths.Argv = nil, []string{"bench", "paths"}
	for want, rep := range map[string]*result.Report{
		"go run ./bench cpu --rounds=3, 2026-11-24, 2 x Some CPU, Linux 6.18": all,
		"go run ./bench paths, 2026-11-24, 2 x Some CPU, Linux 6.18":          &paths,
	} {
		var b bytes.Buffer
		if err := Plot(&b, rep); err != nil {
			t.Fatal(err)
		}
		text := b.String()
		for _, w := range []string{want + "</text>", "<style>", `xmlns="http://www.w3.org/2000/svg"`} {
			if !strings.Contains(text, w) {
				t.Errorf("%q is missing in\n%s", w, text)
			}
		}
		for d := xml.NewDecoder(&b); ; {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%v in\n%s", err, text)
			}
		}
	}
	if err := Plot(io.Discard, &result.Report{}); err == nil || err.Error() != "plot: nothing was measured that could be drawn" {
		t.Errorf("nothing: %v", err)
	}
}

func TestMarkdown(t *testing.T) {
	rep := sample()
	rep.Cases[0].Body = 16 << 20
	for i := range rep.Cases[0].Entries {
		for j := range rep.Cases[0].Entries[i].Rounds {
			rep.Cases[0].Entries[i].Rounds[j].Bytes = 1 << 30
		}
	}
	var b strings.Builder
	if err := Markdown(&b, rep); err != nil {
		t.Fatal(err)
	}
	want := "CPU time of the proxy's processes a request, and a GiB for large answers: medians of 3 interleaved rounds (go run ./bench cpu, 2026-11-24, 2 x Some CPU, Linux 6.18)\n\n" +
		"|  | mpgate | nginx 1.22.1 |\n|---|---:|---:|\n| 16 MiB | 22 ms/GiB | 26 ms/GiB |\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	rep.Cases = nil
	b.Reset()
	if err := Markdown(&b, rep); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "| two <equal> paths, paths on both sides, one large download | 150.0 | 360.0 | 90.0 % | - | - | 0 |\n") {
		t.Errorf("got\n%s", b.String())
	}
	if err := Markdown(io.Discard, &result.Report{Verb: "growth"}); err == nil || err.Error() != "markdown: there is no table for growth" {
		t.Errorf("growth: %v", err)
	}
}

// compared is a case of variants, one of which has compressed its answers.
func compared() *result.Report {
	rep := sample()
	c := rep.Cases[0]
	c.Title, c.Baseline, c.Body, c.Entries = "zip", "nginx", 100<<10, c.Entries[:4]
	c.Entries[0].Sent, c.Entries[1].Sent = 25<<10, 50<<10
	rep.Cases = []result.Case{c}
	return rep
}

func TestComparison(t *testing.T) {
	var b strings.Builder
	Text(&b, compared())
	want := []string{
		"  proxy    CPU us/request   min   max  of nginx   min   max  requests/s  cores  p50 ms  p99 ms  p99.9 ms       RSS  rounds  errors  CPU ms/MiB  body sent   of it\n",
		"  mpgate             22.0  20.0  24.0    0.80 x  0.73  0.92        1000   0.02    0.92    9.02      20.0  20.0 MiB     3/3       0         0.2     25 KiB  25.0 %\n",
		"  nginx              26.0  25.0  30.0         -                    1000",
		"  haproxy            21.0  20.0  30.0    0.84 x  0.67  1.15        1000   0.02    0.92    9.02      20.0  20.0 MiB     3/3       0         0.2          -       -\n",
	}
	for _, want := range want {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
	b.Reset()
	if err := Markdown(&b, compared()); err != nil {
		t.Fatal(err)
	}
	table := "| zip: mpgate | 0.2 ms/MiB | 0.80 | 0.73 | 0.92 | 25.0 % |\n| zip: nginx | 0.3 ms/MiB | 1 |  |  | 50.0 % |\n| zip: haproxy | 21.0 µs | 0.84 | 0.67 | 1.15 |  |\n"
	if !strings.Contains(b.String(), table) {
		t.Errorf("got\n%s\nwant\n%s", b.String(), table)
	}
	b.Reset()
	if err := Plot(&b, compared()); err != nil || !strings.Contains(b.String(), ">zip, 100 KiB<") {
		t.Errorf("%v: %s", err, b.String())
	}
}

// What an attack did is told by proxy, with the bars that are missed.
func TestAbuseText(t *testing.T) {
	kind := func(p99 int64) result.Bystander {
		return result.Bystander{Requests: 100, Latency: result.Latency{P50: 500, P99: p99}}
	}
	e := result.AbuseEntry{
		Proxy: "mpgate", Calm: result.Bystanders{H1: kind(1000), H2: kind(1000), New: kind(2000)}, Under: result.Bystanders{H1: kind(1500), H2: kind(2500), New: kind(2000)},
		CPUCalm: 100 * time.Millisecond, CPUUnder: 700 * time.Millisecond, CPUAttacker: 300 * time.Millisecond, Before: 10 << 20, Peak: 12 << 20, After: 10 << 20,
		Opened: 5, Sent: 1000, Ends: map[string]int64{"GOAWAY ENHANCE_YOUR_CALM": 4, "held": 1},
	}
	e.Under.New.Errors.Timeout = 2
	rep := &result.Report{Verb: "abuse", Proxies: []result.Proxy{{Name: "mpgate"}}, Abuse: []result.Abuse{{Attack: "poke", About: "pokes", Flood: true, Entries: []result.AbuseEntry{e}}}}
	var b strings.Builder
	Text(&b, rep)
	row := ""
	for line := range strings.Lines(b.String()) {
		if strings.HasPrefix(line, "  poke") {
			row = strings.Join(strings.Fields(line), " ")
		}
	}
	want := "poke 0.50 > 0.50 1.00 > 1.50 0.50 > 0.50 1.00 > 2.50 2.00 > 2.00 2.5 300 2 600 300 2.00 2.0 MiB 0 B 5 1000 MISSED: 2 lost, p99, CPU GOAWAY ENHANCE_YOUR_CALM 4, held 1"
	if row != want {
		t.Errorf("got\n%s\nwant\n%s", row, want)
	}
}
