package load

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const h2loadSaid = `TLS Protocol: TLSv1.3
Application protocol: h2

finished in 1.01s, 4000.00 req/s, 277.60KB/s
requests: 4015 total, 4022 started, 4015 done, 4000 succeeded, 15 failed, 5 errored, 3 timeout
status codes: 4000 2xx, 0 3xx, 3 4xx, 4 5xx
traffic: 277.60KB (284264) total, 187.50KB (192000) headers (space savings 51.02%), 19.53KB (20000) data
`

func TestH2load(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(log, []byte("1\t200\t100\n2\t200\t200\n3\t200\t5000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := ParseH2load(h2loadSaid, log, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if o.Requests != 4000 || o.Bytes != 284264 || o.Errors.Status != 7 || o.Errors.Timeout != 3 || o.Errors.Read != 5 || o.Errors.Total() != 15 {
		t.Errorf("%+v", o)
	}
	if o.Latency.Max != 5000 || o.Latency.P50 < 200 || o.Latency.P50 > 204 {
		t.Errorf("latency %+v", o.Latency)
	}
	for want, said := range map[string]string{
		`h2load spoke "http/1.1"; want h2`:                                                     strings.Replace(h2loadSaid, "protocol: h2", "protocol: http/1.1", 1),
		`h2load's output (got "requests: 1 total"); want seven counts`:                         "requests: 1 total\n",
		`h2load's output (got ""); want lines of protocol, requests, status codes and traffic`: "",
		`h2load's output (got "traffic: none"); want bytes in parentheses`:                     "traffic: none\n",
		`h2load's output (got "status codes: 1"); want four counts`:                            "status codes: 1\n",
	} {
		if _, err := ParseH2load(said, log, time.Second); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	if err := os.WriteFile(log, []byte("1 200 x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ParseH2load(h2loadSaid, log, time.Second); err == nil || err.Error() != `h2load's log (got "1 200 x"); want begin, status and microseconds` {
		t.Errorf("%v", err)
	}
}

func TestH2loadCommand(t *testing.T) {
	j := Job{Address: "127.0.0.1:1", TLS: true, Body: 7, Connections: 8, Streams: 4, Threads: 2, Duration: 3 * time.Second, MPTCP: true, Path: "/x", Fields: []string{"A: b c"}}
	got := strings.Join(H2loadCommand("/h2load", "/mptcpize", "/log", j), " ")
	want := "/mptcpize run /h2load -t 2 -c 8 -m 4 -D 3 --warm-up-time 0 -N 10s --npn-list h2 --log-file /log -H A: b c https://127.0.0.1:1/x"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
