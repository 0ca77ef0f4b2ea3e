//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"mpgate/bench/result"
	"mpgate/internal/need"
)

// TestMain makes this test binary the benchmark as well: what it starts from its own binary, it
// starts from this one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "child" || os.Args[1] == "cpu" || os.Args[1] == "load" || os.Args[1] == "paths" || os.Args[1] == "growth" || os.Args[1] == "abuse") {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

func names(t *testing.T, o options) []string {
	t.Helper()
	cases, err := o.cases()
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for i := range cases {
		list = append(list, cases[i].Name())
	}
	return list
}

func TestCases(t *testing.T) {
	quick := names(t, options{Quick: true})
	want := []string{
		"h1, 1 KiB, tcp, keep-alive, no access log",
		"h1, 1 KiB, tcp, keep-alive, access log to a file",
		"h1, 1 KiB, mptcp both, keep-alive, no access log",
		"h1, 100 KiB, tcp, keep-alive, no access log",
	}
	if !slices.Equal(quick, want) {
		t.Errorf("--quick: %q", quick)
	}
	all := names(t, options{})
	if len(all) != 11 || !slices.Equal(all[:4], want) {
		t.Errorf("all: %q", all)
	}
	h2 := names(t, options{H2: []string{"off", "on"}, TLS: []string{"on"}})
	if !slices.Equal(h2, []string{"h1 tls, 1 KiB, tcp, keep-alive, no access log", "h2 tls, 1 KiB, tcp, 0 x 8 streams, no access log"}) {
		t.Errorf("h1 and h2 over TLS: %q", h2)
	}
	if bulk := names(t, options{H2: []string{"bulk"}, Body: []string{"1KiB"}}); !slices.Equal(bulk, []string{"h2 tls, 16 MiB, tcp, 0 x 1 streams, no access log"}) {
		t.Errorf("bulk: %q", bulk)
	}
	product := names(t, options{Body: []string{"1KiB", "10MiB"}, Log: []string{"off", "file"}, Transport: []string{"tcp", "mptcp-front", "mptcp-both"}, TLS: []string{"on"}})
	if len(product) != 12 || product[0] != "h1 tls, 1 KiB, tcp, keep-alive, no access log" ||
		product[11] != "h1 tls, 10 MiB, mptcp both, keep-alive, access log to a file" {
		t.Errorf("the product of two sizes, two logs and three transports: %q", product)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	good := options{Rounds: 5, Round: 3 * time.Second, Warmup: time.Second, Connections: 64}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*options){
		`--rounds (got 0); want 1 or more`:                                                             func(o *options) { o.Rounds = 0 },
		`--round (got 1.5s); want whole seconds, as wrk does`:                                          func(o *options) { o.Round = 1500 * time.Millisecond },
		`--warmup (got 0s); want whole seconds, as wrk does`:                                           func(o *options) { o.Warmup = 0 },
		`--connections (got 20000); want 1 to 10000`:                                                   func(o *options) { o.Connections = 20000 },
		`--proxy-cpus and --load-cpus go together`:                                                     func(o *options) { o.ProxyCPUs = []int{0} },
		`--tls (got "maybe"); want off or on`:                                                          func(o *options) { o.TLS = []string{"maybe"} },
		`--transport (got "udp"); want tcp, mptcp-front or mptcp-both`:                                 func(o *options) { o.Transport = []string{"tcp", "udp"} },
		`--h2 (got "x"); want off, on or bulk`:                                                         func(o *options) { o.H2 = []string{"x"} },
		`--close (got "x"); want keepalive or close`:                                                   func(o *options) { o.Close = []string{"x"} },
		`--log (got "x"); want off or file`:                                                            func(o *options) { o.Log = []string{"x"} },
		`--body (got "20MiB"); want at most 16MiB`:                                                     func(o *options) { o.Body = []string{"20MiB"} },
		`--only (got "apache"); want mpgate, against, nginx, haproxy, caddy, stdlib`:                   func(o *options) { o.Only = []string{"apache"} },
		`--body: size (got "1KB"); want a number of bytes such as 512, 1KiB or 10MiB, at most 1024MiB`: func(o *options) { o.Body = []string{"1KB"} },
		`--quick has cases of its own: leave out --body, --transport, --log, --close, --tls and --h2`:  func(o *options) { o.Quick, o.Body = true, []string{"1KiB"} },
	} {
		o := good
		change(&o)
		if err := o.check(); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

func TestReportRefusesWhatIsNone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.json")
	if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := run([]string{"report", file}); code != 2 {
		t.Errorf("it ends with %d, want 2", code)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{"cpu", "--rounds", "0"}, {"cpu", "--no-such-flag"}, {"selftest", "--share", "2"}, {"load", "--rate=-1"}, {},
		{"growth", "--of", "age"}, {"growth", "--body", "1KiB"}, {"growth", "--only", "nginx"}, {"growth", "--active", "0"},
		{"paths", "--scenario", "moon"}, {"paths", "--rounds", "0"}, {"paths", "--time", "1s"}, {"paths", "--side", "left"}, {"paths", "--congestion", "none"},
		{"paths", "--quick", "--side", "both"}, {"paths", "--rate", "0"}, {"paths", "--path", "rate=fast"}, {"paths", "--path", "rate=1", "--scenario", "equal"},
		{"abuse", "--attack", "poison"}, {"abuse", "--time", "1h"}, {"abuse", "--rate", "0"}, {"abuse", "--body", "1KiB"}, {"abuse", "--markdown", "x"}, {"abuse", "--print-config"},
		{"growth", "--markdown", "x"}, {"growth", "--print-config"},
		{"cpu", "--filters", "--body", "1KiB"}, {"cpu", "--filters", "--only", "haproxy"}, {"cpu", "--filters", "--of", "balance-10"},
		{"cpu", "--of", "gzip"}, {"cpu", "--balance", "--h2", "bulk"}, {"cpu", "--balance", "--of", "x"},
	} {
		if code := run(args); code != 2 {
			t.Errorf("bench %q ends with %d, want 2", args, code)
		}
	}
}

func TestHalfOfSlowest(t *testing.T) {
	rounds := func(n int64) []result.Round { return []result.Round{{Requests: n, Wall: time.Second}} }
	c := result.Case{Entries: []result.Entry{{Rounds: rounds(9001)}, {Failed: "x"}, {Rounds: rounds(301)}}}
	if got := halfOfSlowest(&c); got != 150 {
		t.Errorf("rate = %v, want half of 301", got)
	}
	if got := halfOfSlowest(&result.Case{}); got != 0 {
		t.Errorf("nobody answered: rate = %v", got)
	}
}

func judged(us ...int64) *result.Case {
	c := &result.Case{}
	for i, name := range []string{"stdlib", "stdlib again", "stdlib slowed"} {
		if i < len(us) {
			c.Entries = append(c.Entries, result.Entry{Proxy: name, Rounds: []result.Round{{Requests: 1000, Wall: time.Second, CPU: time.Duration(us[i]) * time.Millisecond}}})
		}
	}
	return c
}

func TestJudges(t *testing.T) {
	const burn = 200 * time.Microsecond
	if err := judgeSlowed(judged(100, 105, 310), burn); err != nil {
		t.Errorf("as it should be: %v", err)
	}
	for want, c := range map[string]*result.Case{
		"two equal proxies: ratio 1.40; want 0.75 to 1.25":                                              judged(100, 140, 310),
		"the slowed proxy costs 20.0 us a request more; want the 200 that it wastes, from -25 to +50 %": judged(100, 100, 120),
		"the slowed proxy costs 500 us a request more; want the 200 that it wastes, from -25 to +50 %":  judged(100, 100, 600),
	} {
		if err := judgeSlowed(c, burn); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	if err := judgeBeside(judged(100, 600), "stdlib", "stdlib again", 0.5); err != nil {
		t.Errorf("a burner of half a CPU at 1000 requests/s: %v", err)
	}
	want := "stdlib again costs 1.0 us a request more than stdlib (ratio 1.01); the burner alone is worth about 500"
	if err := judgeBeside(judged(100, 101), "stdlib", "stdlib again", 0.5); err == nil || err.Error() != want {
		t.Errorf("a burner that does not show: %v", err)
	}
}

// program makes the benchmark a program of its own.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	return cmd
}

// measured runs the benchmark, and gives what it wrote to raw.
func measured(t *testing.T, cmd *exec.Cmd, raw string) (rep result.Report, text string) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(raw)
	if err == nil {
		err = json.Unmarshal(b, &rep)
	}
	if err != nil {
		t.Fatal(err)
	}
	return rep, string(b)
}

// A whole run, small: net/http's proxy, the generator of our own, and everything in the raw data
// that should be there.
func TestWholeRun(t *testing.T) {
	dir := t.TempDir()
	raw, page := filepath.Join(dir, "raw.json"), filepath.Join(dir, "page.html")
	cmd := program(t, "cpu", "--only=stdlib", "--rounds=1", "--round=1s", "--warmup=1s", "--load=builtin", "--connections=4",
		"--body=1KiB", "--log=file", "--json", raw, "--html", page)
	rep, text := measured(t, cmd, raw)
	if len(rep.Cases) != 1 || len(rep.Cases[0].Entries) != 1 || len(rep.Cases[0].Entries[0].Rounds) != 1 {
		t.Fatalf("want one case, one proxy, one round:\n%s", text)
	}
	e := rep.Cases[0].Entries[0]
	r := e.Rounds[0]
	if r.Invalid != "" || r.Requests == 0 || r.CPU <= 0 || r.RSS <= 0 || r.Wall <= 0 || r.Bytes < r.Requests*1024 {
		t.Errorf("round: %+v", r)
	}
	if len(e.Command) == 0 || len(r.Command) == 0 || rep.Machine.Kernel == "" || len(rep.Machine.Sysctls) == 0 || len(rep.Method) == 0 {
		t.Errorf("the raw data do not say how they were made:\n%s", text)
	}
	if html, err := os.ReadFile(page); err != nil || !strings.Contains(string(html), "<svg ") {
		t.Errorf("page: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(strings.TrimPrefix(cmd.Env[len(cmd.Env)-1], "TMPDIR="), "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	// The same again from the raw data, with what was not asked for before.
	plot, table := filepath.Join(dir, "plot.svg"), filepath.Join(dir, "table.md")
	if code := run([]string{"report", raw, "--svg", plot, "--markdown", table}); code != 0 {
		t.Fatalf("report ends with %d", code)
	}
	if svg, err := os.ReadFile(plot); err != nil || !strings.Contains(string(svg), "access log to a file") {
		t.Errorf("plot: %s %v", svg, err)
	}
	if md, err := os.ReadFile(table); err != nil || !strings.Contains(string(md), "| 1 KiB, access log to a file | ") {
		t.Errorf("table: %s %v", md, err)
	}
}

// HTTP/2, with h2load: what is counted was spoken as h2.
func TestWholeRunH2(t *testing.T) {
	need.Program(t, "h2load", "nghttp2-client")
	raw := filepath.Join(t.TempDir(), "raw.json")
	cmd := program(t, "cpu", "--only=stdlib", "--rounds=1", "--round=1s", "--warmup=1s", "--connections=8", "--h2=on", "--json", raw)
	rep, text := measured(t, cmd, raw)
	c := rep.Cases[0]
	if c.Streams != 8 || c.Connections != 1 || c.Load != "h2load" {
		t.Errorf("%d connections x %d streams by %s; want 1 x 8 by h2load", c.Connections, c.Streams, c.Load)
	}
	e := c.Entries[0]
	if e.Failed != "" || len(e.Rounds) != 1 {
		t.Fatalf("%s", text)
	}
	if r := e.Rounds[0]; r.Invalid != "" || r.Requests == 0 || r.CPU <= 0 || r.Bytes < r.Requests*1024 || r.Latency.P50 <= 0 {
		t.Errorf("round: %+v", r)
	}
}

// Ctrl-C in the middle of a round ends everything and leaves nothing.
func TestInterrupt(t *testing.T) {
	cmd := program(t, "cpu", "--only=stdlib", "--rounds=1", "--round=60s", "--warmup=60s", "--load=builtin", "--connections=2", "--body=1KiB")
	tmp := strings.TrimPrefix(cmd.Env[len(cmd.Env)-1], "TMPDIR=")
	var out strings.Builder
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// The warm-up has begun when its processes are there.
	mine := func() (pids []int) {
		entries, _ := os.ReadDir("/proc")
		for _, e := range entries {
			line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
			env, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
			if err == nil && strings.HasPrefix(string(line), os.Args[0]) && strings.Contains(string(env), "TMPDIR="+tmp) {
				pids = append(pids, 1)
			}
		}
		return pids
	}
	deadline := time.Now().Add(30 * time.Second)
	for len(mine()) < 5 { // itself, guard, backend, proxy, load generator
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			t.Fatalf("%d processes after 30 s: %s", len(mine()), out.String())
		}
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(out.String(), "bench: ended by signal interrupt") {
		t.Errorf("%v: %s", err, out.String())
	}
	if n := len(mine()); n != 0 {
		t.Errorf("%d processes are left", n)
	}
	if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// What was measured before Ctrl-C is shown, and said to be not all.
func TestInterruptShowsWhatWasMeasured(t *testing.T) {
	file := filepath.Join(t.TempDir(), "part.json")
	cmd := program(t, "cpu", "--only=stdlib", "--rounds=2", "--round=1s", "--warmup=1s", "--load=builtin", "--connections=2", "--body=1KiB,2KiB", "--json="+file)
	var out strings.Builder
	cmd.Stdout = &out
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(said)
	for interrupted := false; lines.Scan(); {
		if strings.Contains(lines.Text(), "round 2") && !interrupted { // that of the first case
			interrupted = true
			_ = cmd.Process.Signal(syscall.SIGINT)
		}
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if !strings.Contains(out.String(), "NOT COMPLETE (ended by signal interrupt)") {
		t.Errorf("shown:\n%s", out.String())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var rep result.Report
	if err := json.Unmarshal(text, &rep); err != nil {
		t.Fatal(err)
	}
	if len(rep.Cases) != 1 || rep.Cases[0].Body != 1<<10 || len(rep.Cases[0].Entries[0].Rounds) != 2 {
		t.Errorf("written: %+v", rep.Cases)
	}
}
