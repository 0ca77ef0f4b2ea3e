package load

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"mpgate/bench/result"
)

// WrkScript makes wrk print its sums as exact numbers instead of "1.05GB"; it defines nothing that
// runs while wrk measures.
const WrkScript = `function done(s, l, r)
  io.write(string.format("MPGATE-BENCH requests=%d bytes=%d us=%d connect=%d read=%d write=%d status=%d timeout=%d p50=%d p90=%d p99=%d p999=%d max=%d\n",
    s.requests, s.bytes, s.duration, s.errors.connect, s.errors.read, s.errors.write, s.errors.status, s.errors.timeout,
    l:percentile(50), l:percentile(90), l:percentile(99), l:percentile(99.9), l.max))
end
`

// WrkPackage is what to install where wrk is missing.
const WrkPackage = "wrk (Debian and Ubuntu: apt install wrk)"

// WrkCommand is the command line for j; mptcpize is the path of that program and used when j is
// MPTCP.
func WrkCommand(wrk, mptcpize, script string, j Job) []string {
	var args []string
	if j.MPTCP {
		args = append(args, mptcpize, "run")
	}
	args = append(args, wrk, "-t", strconv.Itoa(j.Threads), "-c", strconv.Itoa(j.Connections),
		"-d", strconv.Itoa(int(j.Duration.Seconds()+0.5)), "--timeout", "10s", "-s", script)
	if j.Close {
		args = append(args, "-H", "Connection: close")
	}
	args = append(args, j.headerArgs()...)
	return append(args, j.url())
}

func (j Job) url() string {
	scheme := "http"
	if j.TLS {
		scheme = "https"
	}
	return scheme + "://" + j.Address + j.path()
}

func (j Job) path() string {
	if j.Path != "" {
		return j.Path
	}
	return fmt.Sprintf("/bytes/%d", j.Body)
}

// headerArgs are the fields as wrk and h2load want them.
func (j Job) headerArgs() (args []string) {
	for _, f := range j.Fields {
		args = append(args, "-H", f)
	}
	return args
}

// ParseWrk reads the line that WrkScript prints.
func ParseWrk(output string) (Outcome, error) {
	var line string
	for l := range strings.Lines(output) {
		if rest, ok := strings.CutPrefix(l, "MPGATE-BENCH "); ok {
			line = strings.TrimSpace(rest)
		}
	}
	if line == "" {
		return Outcome{}, fmt.Errorf("wrk's output (got %q): want a line that begins with MPGATE-BENCH", clip(output))
	}
	v := make(map[string]int64)
	for field := range strings.FieldsSeq(line) {
		name, number, _ := strings.Cut(field, "=")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return Outcome{}, fmt.Errorf("wrk's output: %s (got %q); want a number", name, number)
		}
		v[name] = n
	}
	for _, name := range []string{"requests", "bytes", "us", "connect", "read", "write", "status", "timeout", "p50", "p90", "p99", "p999", "max"} {
		if _, ok := v[name]; !ok {
			return Outcome{}, fmt.Errorf("wrk's output (got %q): %s is missing", line, name)
		}
	}
	if v["us"] <= 0 {
		return Outcome{}, fmt.Errorf("wrk's output: us (got %d); want more than 0", v["us"])
	}
	return Outcome{
		Requests: v["requests"],
		Bytes:    v["bytes"],
		Wall:     time.Duration(v["us"]) * time.Microsecond,
		Errors:   result.Errors{Connect: v["connect"], Read: v["read"], Write: v["write"], Status: v["status"], Timeout: v["timeout"]},
		Latency:  result.Latency{P50: v["p50"], P90: v["p90"], P99: v["p99"], P999: v["p999"], Max: v["max"]},
		MPTCP:    -1,
		Opened:   -1,
	}, nil
}

func clip(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}
