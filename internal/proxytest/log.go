package proxytest

import (
	"bufio"
	"encoding/json"
	"os"
	"sync"
	"testing"
	"time"
)

// Line is one line of the access log.
type Line struct {
	Time      string   `json:"time"`
	ID        string   `json:"id"`
	Listener  string   `json:"listener"`
	Route     string   `json:"route"`
	Backend   string   `json:"backend"`
	Server    string   `json:"server"`
	Peer      string   `json:"peer"`
	Client    string   `json:"client"`
	Method    string   `json:"method"`
	Scheme    string   `json:"scheme"`
	Host      string   `json:"host"`
	Path      string   `json:"path"`
	Proto     string   `json:"proto"`
	Status    int      `json:"status"`
	BytesIn   int64    `json:"bytes_in"`
	BytesOut  int64    `json:"bytes_out"`
	Duration  float64  `json:"duration_ms"`
	BackendMS *float64 `json:"backend_ms"`
	QueueMS   *float64 `json:"queue_ms"`
	Tries     int      `json:"tries"`
	Hedged    string   `json:"hedged"`
	End       string   `json:"end"`

	ClientTransport string `json:"client_transport"`
	ServerTransport string `json:"server_transport"`
	ClientSubflows  int    `json:"client_subflows"`
	ServerSubflows  int    `json:"server_subflows"`

	TLSVersion string `json:"tls_version"`
	TLSCipher  string `json:"tls_cipher"`
	TLSGroup   string `json:"tls_group"`
	TLSResumed *bool  `json:"tls_resumed"`
	SNI        string `json:"sni"`

	GRPCStatus *int `json:"grpc_status"`

	DroppedFields int    `json:"dropped_fields"`
	Reason        string `json:"reason"`
	Filter        string `json:"filter"`
	InternalRoute string `json:"internal_route"`
	DryRun        string `json:"dry_run"`
}

// Log reads an access log as it is written, at the other end of a pipe.
type Log struct {
	t    testing.TB
	w    *os.File
	more chan struct{} // there are lines
	done chan struct{}

	mu    sync.Mutex
	lines []Line
}

// mostLines is more than anybody looks at.
const mostLines = 1 << 16

// NewLog makes a pipe for an access log to be written to, in JSON. The test must call End.
func NewLog(t testing.TB) *Log {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	l := &Log{t: t, w: w, more: make(chan struct{}, 1), done: make(chan struct{})}
	go l.read(r)
	return l
}

func (l *Log) read(r *os.File) {
	defer close(l.done)
	defer r.Close()
	for s := bufio.NewScanner(r); s.Scan(); {
		var line Line
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			l.t.Errorf("access log: %v in %q", err, s.Text())
			continue
		}
		l.mu.Lock()
		if len(l.lines) < mostLines {
			l.lines = append(l.lines, line)
		}
		l.mu.Unlock()
		l.tell()
	}
}

func (l *Log) tell() {
	select {
	case l.more <- struct{}{}:
	default:
	}
}

func (l *Log) take() (line Line, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) == 0 {
		return Line{}, false
	}
	line, l.lines = l.lines[0], l.lines[1:]
	if len(l.lines) > 0 {
		l.tell() // another goroutine may wait
	}
	return line, true
}

// Output is where the log is to be written.
func (l *Log) Output() *os.File { return l.w }

// Next waits for the next line.
func (l *Log) Next() Line {
	l.t.Helper()
	late := time.NewTimer(Patience)
	defer late.Stop()
	for {
		if line, ok := l.take(); ok {
			return line
		}
		select {
		case <-l.more:
		case <-l.done:
			if line, ok := l.take(); ok {
				return line
			}
			l.t.Fatal("the access log has ended")
		case <-late.C:
			l.t.Fatal("no further line in the access log")
		}
	}
}

// End ends the log, whose writer must be closed, and gives the lines that Next was not called for.
func (l *Log) End() (rest []Line) {
	_ = l.w.Close()
	<-l.done
	rest, l.lines = l.lines, nil
	return rest
}
