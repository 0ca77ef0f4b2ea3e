package telemetry

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// waitFor waits for something that only looking can tell.
func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited 20 s for %s", what)
		}
	}
}

// numbered logs a record that can be found again.
func numbered(l *AccessLog, r *Record, writer, n int) {
	r.Path = fmt.Appendf(r.Path[:0], "/%d/%d", writer, n)
	l.Log(r)
}

// readLines checks that every line is whole, and adds its path to seen.
func readLines(t *testing.T, text []byte, seen map[string]int) {
	t.Helper()
	if len(text) > 0 && text[len(text)-1] != '\n' {
		t.Errorf("the last line is torn: %q", text[bytes.LastIndexByte(text, '\n')+1:])
	}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		var line struct{ Path, End string }
		if err := json.Unmarshal(s.Bytes(), &line); err != nil || line.End != "ok" {
			t.Fatalf("%v: %q", err, s.Text())
		}
		seen[line.Path]++
	}
}

// logBuffer is where a logger writes that a test reads meanwhile.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func closeLog(t *testing.T, l *AccessLog) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := l.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

// Rotation as logrotate does it: rename, then SIGHUP, while everybody logs.
func TestReopenUnderLoad(t *testing.T) {
	const writers, each, rotations = 4, 4000, 40
	dir := t.TempDir()
	path := filepath.Join(dir, "access.log")
	var dropped Counter
	l := openLog(t, AccessLogOptions{SpoolOptions: SpoolOptions{Destination: path, Dropped: &dropped, FlushEvery: time.Millisecond, Wait: 10 * time.Second}})
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			r := sample()
			for n := range each {
				numbered(l, r, w, n)
			}
		})
	}
	for i := range rotations {
		if err := os.Rename(path, fmt.Sprintf("%s.%d", path, i)); err != nil {
			t.Fatal(err)
		}
		if err := l.Reopen(); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	closeLog(t, l)
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) != rotations+1 {
		t.Fatalf("files: %v (%v)", files, err)
	}
	seen := map[string]int{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		readLines(t, text, seen)
	}
	for path, n := range seen {
		if n != 1 {
			t.Errorf("%s was logged %d times", path, n)
		}
	}
	if len(seen) != writers*each || dropped.Value() != 0 {
		t.Errorf("%d lines of %d are there, %d dropped", len(seen), writers*each, dropped.Value())
	}
}

func TestReopenThatFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "access.log")
	var failures Counter
	l := openLog(t, AccessLogOptions{SpoolOptions: SpoolOptions{Destination: path, Errors: &failures}})
	moved := dir + ".1"
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	want := "log: reopen: open " + path + ": no such file or directory; the file that was open stays in use"
	if err := l.Reopen(); err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	numbered(l, sample(), 0, 0)
	closeLog(t, l)
	text, err := os.ReadFile(filepath.Join(moved, "access.log"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	if readLines(t, text, seen); len(seen) != 1 || failures.Value() != 1 {
		t.Errorf("the old file has %v, %d failures counted", seen, failures.Value())
	}
}

func TestOpenThatFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "no", "access.log")
	_, err := OpenAccessLog(AccessLogOptions{SpoolOptions: SpoolOptions{Destination: path}})
	if want := "log: open " + path + ": no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	l, err := OpenAccessLog(AccessLogOptions{SpoolOptions: SpoolOptions{Destination: "off"}})
	if l != nil || err != nil {
		t.Errorf("off: got %v, %v", l, err)
	}
}

// What was there stays, and who may read is the owner and the group.
func TestFileIsAppendedTo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	for i := range 2 {
		l := openLog(t, AccessLogOptions{SpoolOptions: SpoolOptions{Destination: path}})
		numbered(l, sample(), i, 0)
		closeLog(t, l)
		numbered(l, sample(), i, 1) // too late: dropped, without harm
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode()&^0o640 != 0 || st.Mode()&0o600 != 0o600 {
		t.Errorf("mode %v, want %v or less", st.Mode(), fs.FileMode(0o640))
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	if readLines(t, text, seen); len(seen) != 2 {
		t.Errorf("got %v", seen)
	}
}

// A log that is never run is written by Close.
func TestCloseWithoutRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	l, err := OpenAccessLog(AccessLogOptions{SpoolOptions: SpoolOptions{Destination: path}})
	if err != nil {
		t.Fatal(err)
	}
	numbered(l, sample(), 0, 0)
	closeLog(t, l)
	closeLog(t, l)
	if text, err := os.ReadFile(path); err != nil || bytes.Count(text, newline) != 1 {
		t.Errorf("%q, %v", text, err)
	}
	if err := l.Run(t.Context()); err != nil {
		t.Errorf("Run after Close: got %v", err)
	}
}

// After a write that broke off for good, the next line does not continue the torn one.
func TestLineAfterATornOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	if err := os.WriteFile(path, []byte(`{"time":"20`), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := OpenSpool(SpoolOptions{Destination: path})
	if err != nil {
		t.Fatal(err)
	}
	s.torn = true
	s.add([]byte("whole\n"))
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "{\"time\":\"20\nwhole\n" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	l, err := OpenAccessLog(AccessLogOptions{SpoolOptions: SpoolOptions{Destination: path}})
	if err != nil {
		t.Fatal(err)
	}
	numbered(l, sample(), 0, 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || bytes.Count(text, newline) != 1 {
		t.Errorf("%q, %v", text, err)
	}
	closeLog(t, l)
}

// Lines larger than a buffer, and many buffers, arrive whole and in order.
func TestLargeLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	s, err := OpenSpool(SpoolOptions{Destination: path, Wait: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(context.Background()) }()
	var want strings.Builder
	for i := range 50 {
		line := strings.Repeat(string(rune('a'+i%26)), 1+i*i*100) + "\n"
		want.WriteString(line)
		if n, err := s.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatalf("wrote %d, %v", n, err)
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != want.String() {
		t.Errorf("%d bytes arrived of %d, or not in order (%v)", len(got), want.Len(), err)
	}
}

func TestLogger(t *testing.T) {
	var b bytes.Buffer
	level := new(slog.LevelVar)
	log := NewLogger(level, FormatText, &b)
	log.Debug("unseen")
	log.Info("seen", "a", "b c")
	if got := b.String(); !strings.Contains(got, `level=INFO msg=seen a="b c"`) || strings.Contains(got, "unseen") {
		t.Errorf("got %q", got)
	}
	b.Reset()
	level.Set(slog.LevelDebug)
	NewLogger(level, FormatJSON, &b).Debug("seen", "took", 11*time.Millisecond)
	if got := b.String(); !json.Valid(b.Bytes()) || !strings.Contains(got, `"took":"11ms"`) {
		t.Errorf("got %q", got)
	}
}
