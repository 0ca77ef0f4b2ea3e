package load

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"mpgate/bench/figures"
)

// H2loadPackage is what to install where h2load is missing.
const H2loadPackage = "h2load (Debian and Ubuntu: apt install nghttp2-client)"

// H2loadCommand is the command line for j, whose Streams each connection has under way at once.
// Each request is logged to a file: h2load itself prints no percentiles.
func H2loadCommand(h2load, mptcpize, logFile string, j Job) []string {
	var args []string
	if j.MPTCP {
		args = append(args, mptcpize, "run")
	}
	args = append(args, h2load, "-t", strconv.Itoa(min(j.Threads, j.Connections)), "-c", strconv.Itoa(j.Connections), "-m", strconv.Itoa(j.Streams),
		"-D", strconv.Itoa(int(j.Duration.Seconds()+0.5)), "--warm-up-time", "0", "-N", "10s", "--npn-list", "h2", "--log-file", logFile)
	return append(append(args, j.headerArgs()...), j.url())
}

// ParseH2load reads what h2load printed, and the log file that it wrote. Another protocol than
// HTTP/2 is an error.
func ParseH2load(output, logFile string, duration time.Duration) (Outcome, error) {
	o := Outcome{Wall: duration, MPTCP: -1, Opened: -1}
	found := 0
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		var counts []int64
		switch {
		case strings.HasPrefix(line, "Application protocol: "):
			if line != "Application protocol: h2" {
				return o, fmt.Errorf("h2load spoke %q; want h2", strings.TrimPrefix(line, "Application protocol: "))
			}
			found |= 1
		case strings.HasPrefix(line, "requests: "):
			// total, started, done, succeeded, failed, errored, timeout; those errored and out of
			// time are among the failed
			if counts = numbers(line); len(counts) != 7 {
				return o, fmt.Errorf("h2load's output (got %q); want seven counts", line)
			}
			o.Requests = counts[3]
			o.Errors.Timeout = counts[6]
			o.Errors.Read = counts[4] - counts[6]
			found |= 2
		case strings.HasPrefix(line, "status codes: "):
			if counts = numbers(line); len(counts) != 8 {
				return o, fmt.Errorf("h2load's output (got %q); want four counts", line)
			}
			// The sum of 3xx, 4xx and 5xx; each count follows its digit.
			o.Errors.Status = counts[2] + counts[4] + counts[6]
			found |= 4
		case strings.HasPrefix(line, "traffic: "):
			_, rest, _ := strings.Cut(line, "(")
			bytes, _, _ := strings.Cut(rest, ")")
			n, err := strconv.ParseInt(bytes, 10, 64)
			if err != nil {
				return o, fmt.Errorf("h2load's output (got %q); want bytes in parentheses", line)
			}
			o.Bytes = n
			found |= 8
		}
	}
	if found != 15 {
		return o, fmt.Errorf("h2load's output (got %q); want lines of protocol, requests, status codes and traffic", clip(output))
	}
	// A failed status is failed for h2load, too.
	o.Errors.Read = max(0, o.Errors.Read-o.Errors.Status)
	h, err := readRequestLog(logFile)
	o.Latency = latency(h, false)
	return o, err
}

// numbers are the runs of digits of a line.
func numbers(line string) (list []int64) {
	for _, f := range strings.FieldsFunc(line, func(r rune) bool { return r < '0' || r > '9' }) {
		if n, err := strconv.ParseInt(f, 10, 64); err == nil {
			list = append(list, n)
		}
	}
	return list
}

// readRequestLog reads lines of begin, status and microseconds, with tabs between them.
func readRequestLog(file string) (*figures.Histogram, error) {
	var h figures.Histogram
	f, err := os.Open(file)
	if err != nil {
		return &h, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), "\t")
		us, err := strconv.ParseInt(fields[len(fields)-1], 10, 64)
		if err != nil || len(fields) != 3 {
			return &h, fmt.Errorf("h2load's log (got %q); want begin, status and microseconds", lines.Text())
		}
		h.Record(time.Duration(us) * time.Microsecond)
	}
	return &h, lines.Err()
}
