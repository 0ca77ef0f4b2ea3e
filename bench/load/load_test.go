package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mpgate/bench/result"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const wrkOutput = `Running 2s test @ http://127.0.0.1:18999/
  1 threads and 4 connections
  185104 requests in 2.00s, 27.01MB read
MPGATE-BENCH requests=185104 bytes=28319992 us=2002752 connect=1 read=2 write=3 status=4 timeout=5 p50=35 p90=90 p99=1612 p999=2000 max=10140
`

func TestParseWrk(t *testing.T) {
	got, err := ParseWrk(wrkOutput)
	if err != nil {
		t.Fatal(err)
	}
	if got.Requests != 185104 || got.Bytes != 28319992 || got.Wall != 2002752*time.Microsecond {
		t.Errorf("sums: %+v", got)
	}
	if want := (result.Errors{Connect: 1, Read: 2, Write: 3, Status: 4, Timeout: 5}); got.Errors != want || want.Total() != 15 {
		t.Errorf("errors: %+v, want %+v", got.Errors, want)
	}
	if got.Latency.P50 != 35 || got.Latency.P99 != 1612 || got.Latency.Max != 10140 {
		t.Errorf("latency: %+v", got.Latency)
	}
	for in, want := range map[string]string{
		"unable to connect\n":                               `wrk's output (got "unable to connect\n"): want a line that begins with MPGATE-BENCH`,
		"MPGATE-BENCH requests=many":                        `wrk's output: requests (got "many"); want a number`,
		"MPGATE-BENCH requests=1":                           `wrk's output (got "requests=1"): bytes is missing`,
		strings.ReplaceAll(wrkOutput, "us=2002752", "us=0"): `wrk's output: us (got 0); want more than 0`,
	} {
		if _, err := ParseWrk(in); err == nil || err.Error() != want {
			t.Errorf("ParseWrk(%q): %v\nwant %s", in, err, want)
		}
	}
}

func TestWrkCommand(t *testing.T) {
	j := Job{Address: "127.0.0.1:80", TLS: true, Body: 1024, Connections: 64, Threads: 2, Duration: 3 * time.Second, Close: true, MPTCP: true}
	got := strings.Join(WrkCommand("wrk", "mptcpize", "s.lua", j), " ")
	want := "mptcpize run wrk -t 2 -c 64 -d 3 --timeout 10s -s s.lua -H Connection: close https://127.0.0.1:80/bytes/1024"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	j.Fields, j.Path = []string{"A: b c", "D: e"}, "/x"
	got = strings.Join(WrkCommand("wrk", "mptcpize", "s.lua", j), " ")
	if want := "-H Connection: close -H A: b c -H D: e https://127.0.0.1:80/x"; !strings.HasSuffix(got, want) {
		t.Errorf("got  %s\nwant …%s", got, want)
	}
}

// server answers /bytes/N and hands every request to look first.
func server(t *testing.T, https bool, look func(w http.ResponseWriter, r *http.Request) (done bool)) Job {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if look != nil && look(w, r) {
			return
		}
		var n int
		fmt.Sscanf(r.URL.Path, "/bytes/%d", &n)
		w.Header().Set("Content-Length", fmt.Sprint(n))
		_, _ = w.Write(make([]byte, n))
	})
	s := httptest.NewUnstartedServer(h)
	if https {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return Job{Address: s.Listener.Addr().String(), TLS: https, Body: 5000, Connections: 4, Duration: 100 * time.Millisecond}
}

func TestBuiltinCountsWholeAnswers(t *testing.T) {
	for _, https := range []bool{false, true} {
		for _, closes := range []bool{false, true} {
			var served atomic.Int64
			j := server(t, https, func(http.ResponseWriter, *http.Request) bool { served.Add(1); return false })
			j.Close = closes
			out, err := Builtin(t.Context(), j)
			if err != nil {
				t.Fatal(err)
			}
			if out.Requests != served.Load() || out.Requests == 0 || out.Errors.Total() != 0 {
				t.Errorf("tls %v close %v: counted %d of %d requests, errors %+v", https, closes, out.Requests, served.Load(), out.Errors)
			}
			if closes && out.Opened < out.Requests || !closes && out.Opened != 4 {
				t.Errorf("tls %v close %v: %d connections for %d requests", https, closes, out.Opened, out.Requests)
			}
			if out.Bytes < out.Requests*5000 || out.Latency.P50 <= 0 || out.Latency.Max < out.Latency.P99 {
				t.Errorf("bytes %d, latency %+v", out.Bytes, out.Latency)
			}
		}
	}
}

func TestBuiltinSendsPathAndFields(t *testing.T) {
	for _, paths := range []int{0, 3} {
		var right, wrong atomic.Int64
		j := server(t, false, func(_ http.ResponseWriter, r *http.Request) bool {
			prefix, rest, ok := strings.Cut(r.URL.Path, "/x")
			if !ok || rest != "" || (prefix != "") != (paths > 0) || r.Header.Get("A") != "b c" || r.Header.Get("D") != "e" {
				wrong.Add(1)
			} else {
				right.Add(1)
			}
			return false
		})
		j.Path, j.Paths, j.Fields, j.Body = "/x", paths, []string{"A: b c", "D: e"}, 0
		out, err := Builtin(t.Context(), j)
		if err != nil || out.Requests == 0 || out.Requests != right.Load() || wrong.Load() != 0 {
			t.Errorf("%d paths: %d requests, %d as they should be, %d others: %v", paths, out.Requests, right.Load(), wrong.Load(), err)
		}
	}
}

func TestBuiltinCountsErrors(t *testing.T) {
	for name, c := range map[string]struct {
		look func(http.ResponseWriter, *http.Request) bool
		got  func(result.Errors) int64
	}{
		"status": {func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Length", "0")
			w.WriteHeader(502)
			return true
		}, func(e result.Errors) int64 { return e.Status }},
		"length": {func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Length", "3")
			_, _ = io.WriteString(w, "abc")
			return true
		}, func(e result.Errors) int64 { return e.Length }},
		"read": {func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }, func(e result.Errors) int64 { return e.Read }},
	} {
		j := server(t, false, c.look)
		out, err := Builtin(t.Context(), j)
		if err != nil || c.got(out.Errors) == 0 || c.got(out.Errors) != out.Errors.Total() {
			t.Errorf("%s: errors %+v, %v", name, out.Errors, err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	out, err := Builtin(t.Context(), Job{Address: address, Connections: 1, Duration: time.Millisecond})
	if err != nil || out.Errors.Connect == 0 || out.Requests != 0 {
		t.Errorf("nobody listens: %+v, %v", out, err)
	}
}

// At a fixed rate one stall is charged to all requests that were due meanwhile, not only to the one
// that it met.
func TestRateChargesAStallToAllThatWereDue(t *testing.T) {
	var n atomic.Int64
	release := make(chan struct{})
	j := server(t, false, func(_ http.ResponseWriter, r *http.Request) bool {
		if n.Add(1) == 1 {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		return false
	})
	j.Connections, j.Rate, j.Duration = 1, 100, 400*time.Millisecond
	timer := time.AfterFunc(200*time.Millisecond, func() { close(release) })
	defer timer.Stop()
	out, err := Builtin(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	// 20 of the 40 requests were due during the stall, the half of them more than 100 ms before its
	// end.
	if out.Latency.P90 < 100_000 {
		t.Errorf("p90 = %d us; a stall of 200 ms in 400 must show in it (%d requests)", out.Latency.P90, out.Requests)
	}
	if len(out.Latency.Curve) == 0 {
		t.Error("no latency curve at a fixed rate")
	}
}

func TestBuiltinEndsWithItsContext(t *testing.T) {
	j := server(t, false, nil)
	j.Duration = time.Hour
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("interrupted"))
	if _, err := Builtin(ctx, j); err == nil || err.Error() != "interrupted" {
		t.Errorf("err = %v", err)
	}
	if _, err := Builtin(t.Context(), Job{Address: "localhost:80"}); err == nil || err.Error() != `address (got "localhost:80"); want IP:PORT` {
		t.Errorf("a name: %v", err)
	}
}

func TestReadAnswer(t *testing.T) {
	for in, want := range map[string]string{
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc":   "",
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd":  "response: 1 bytes behind a body of 3",
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab":    "EOF",
		"HTTP/1.1 200 OK\r\nX: y\r\n\r\n":                   "response: status 200 without Content-Length",
		"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n":      `response: Content-Length (got "x")`,
		"SSH-2.0-OpenSSH_9.2\r\n\r\n":                       `response: status line (got "SSH-2.0-OpenSSH_9.2")`,
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 100): "response: its head is longer than 64 bytes",
	} {
		var r io.Reader = strings.NewReader(in)
		// Data after the body is only seen if it arrives together with it.
		if !strings.HasSuffix(in, "abcd") {
			r = twoBytes{r}
		}
		a, err := ReadAnswer(r, make([]byte, 64))
		if got := fmt.Sprint(err); got != want && !(want == "" && err == nil) {
			t.Errorf("%q: %v, want %s", in, err, want)
		}
		if want == "" && (a != Answer{Status: 200, Body: 3, Wire: int64(len(in))}) {
			t.Errorf("%q: %+v", in, a)
		}
	}
}

// twoBytes hands out two bytes at a time, as a slow network may.
type twoBytes struct{ r io.Reader }

func (r twoBytes) Read(p []byte) (int, error) {
	if len(p) > 2 {
		p = p[:2]
	}
	return r.r.Read(p)
}

func TestIdle(t *testing.T) {
	j := server(t, false, nil)
	j.Connections, j.Body = 50, 10
	hold, release := io.Pipe()
	readied := false
	open, err := Idle(t.Context(), j, func() error { readied = true; return release.Close() }, hold)
	if open != 50 || err != nil || !readied {
		t.Errorf("open = %d, %v, ready %v", open, err, readied)
	}

	// A server that lets its idle connections go is noticed.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		c, err := l.Accept()
		if err != nil {
			return
		}
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789")
		}
		c.Close()
	}()
	j.Address, j.Connections = l.Addr().String(), 1
	hold, release = io.Pipe()
	open, err = Idle(t.Context(), j, func() error { <-closed; return release.Close() }, hold)
	if err != nil || open != 0 {
		t.Errorf("open = %d, %v; want 0: the server closed", open, err)
	}
}
