package telemetry

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/internal/need"
)

// descriptor is a blocking file descriptor that is shared, such as stdout.
type descriptor int

func (d descriptor) Fd() uintptr { return uintptr(d) }

func (d descriptor) close() { unix.Close(int(d)) }

// blockedLog logs until lines are dropped, and checks how long traffic waited for that.
func blockedLog(t *testing.T, l *AccessLog, dropped *Counter, wait time.Duration) (logged int) {
	t.Helper()
	r := sample()
	var longest time.Duration
	for dropped.Value() == 0 && logged < 100000 {
		start := time.Now()
		numbered(l, r, 0, logged)
		longest = max(longest, time.Since(start))
		logged++
	}
	// The machine may be busy: what is held here is the order of magnitude.
	if longest < wait || longest > wait+5*time.Second {
		t.Errorf("the line that found no room waited %v, want about %v", longest, wait)
	}
	start := time.Now()
	for range 1000 {
		numbered(l, r, 0, logged)
		logged++
	}
	if took := time.Since(start); took > 100*wait {
		t.Errorf("1000 lines after it waited %v: traffic waits once, not with each line", took)
	}
	if dropped.Value() != 1001 {
		t.Errorf("dropped %d lines, want 1001", dropped.Value())
	}
	return logged
}

// drain reads until all lines that were logged are there or dropped.
func drainLog(t *testing.T, from io.Reader, l *AccessLog, logged int, dropped *Counter) {
	t.Helper()
	type outcome struct {
		text []byte
		err  error
	}
	read := make(chan outcome)
	want := logged - int(dropped.Value())
	go func() {
		var o outcome
		in := bufio.NewReader(from)
		for range want {
			line, err := in.ReadBytes('\n')
			o.text = append(o.text, line...)
			if o.err = err; err != nil {
				break
			}
		}
		read <- o
	}()
	closeLog(t, l)
	o := <-read
	if o.err != nil {
		t.Fatal(o.err)
	}
	seen := map[string]int{}
	readLines(t, o.text, seen)
	if len(seen) != want {
		t.Errorf("%d lines arrived, %d dropped, of %d", len(seen), dropped.Value(), logged)
	}
}

func TestFIFOThatNobodyReads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	var dropped Counter
	told := new(logBuffer)
	const wait = 100 * time.Millisecond
	l := openLog(t, AccessLogOptions{SpoolOptions: SpoolOptions{Destination: path, Dropped: &dropped,
		Logger: NewLogger(nil, FormatText, told), ReportEvery: time.Hour}})
	logged := blockedLog(t, l, &dropped, wait)
	waitFor(t, "a report", func() bool { return strings.Contains(told.String(), "dropped=") })
	reader, err := os.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	drainLog(t, reader, l, logged, &dropped)
	if n := strings.Count(told.String(), "\n"); n > 2 { // the first, and what was left at the end
		t.Errorf("%d reports:\n%s", n, told)
	}
	if !strings.Contains(told.String(), `level=WARN msg="cannot write the access log: its destination blocks or fails" destination=`+path+" dropped=") {
		t.Errorf("the report says: %s", told)
	}
}

// A pipe and a socket that block, as stdout may be one. Their flags stay as they are.
func TestInheritedSinkThatBlocks(t *testing.T) {
	for name, pair := range map[string]func(fds *[2]int) error{
		"pipe": func(fds *[2]int) error { return unix.Pipe2(fds[:], unix.O_CLOEXEC) },
		"socket": func(fds *[2]int) (err error) {
			*fds, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			var fds [2]int
			if err := pair(&fds); err != nil {
				t.Fatal(err)
			}
			reader, out := os.NewFile(uintptr(fds[0]), name), descriptor(fds[1])
			defer reader.Close()
			defer out.close()
			var dropped Counter
			l := openLog(t, AccessLogOptions{SpoolOptions: SpoolOptions{Output: out, Dropped: &dropped, Wait: 50 * time.Millisecond}})
			logged := blockedLog(t, l, &dropped, 50*time.Millisecond)
			if flags, err := unix.FcntlInt(out.Fd(), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
				t.Errorf("flags %#x, %v", flags, err)
			}
			drainLog(t, reader, l, logged, &dropped)
		})
	}
}

func TestCloseGivesUpAtItsDeadline(t *testing.T) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	var dropped Counter
	l := openLog(t, AccessLogOptions{SpoolOptions: SpoolOptions{Output: descriptor(fds[1]), Dropped: &dropped, Wait: time.Millisecond}})
	blockedLogUntilDropped(l, &dropped)
	before := dropped.Value()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	err := l.Close(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "lines could not be written") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("Close took %v", took)
	}
	if dropped.Value() <= before {
		t.Error("what was given up is not counted")
	}
}

func blockedLogUntilDropped(l *AccessLog, dropped *Counter) {
	r := sample()
	for n := 0; dropped.Value() == 0; n++ {
		numbered(l, r, 0, n)
	}
}

// A FIFO that blocks is replaced by a file, and the log reopened: it continues, and nothing is
// torn.
func TestReopenFromASinkThatBlocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	var dropped Counter
	l := openLog(t, AccessLogOptions{SpoolOptions: SpoolOptions{Destination: path, Dropped: &dropped, Wait: time.Millisecond}})
	blockedLogUntilDropped(l, &dropped)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "lines in the new file", func() bool { st, err := os.Stat(path); return err == nil && st.Size() > 0 })
	closeLog(t, l)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	readLines(t, text, map[string]int{})
}

// A broken stdout must not end the program (os.File.Write would), and is told once a minute.
func TestSinkThatIsGone(t *testing.T) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	unix.Close(fds[0])
	var dropped, failures Counter
	told := new(logBuffer)
	l := openLog(t, AccessLogOptions{SpoolOptions: SpoolOptions{Output: descriptor(fds[1]), Dropped: &dropped, Errors: &failures,
		FlushEvery: time.Millisecond, ReportEvery: time.Hour, Logger: NewLogger(nil, FormatText, told)}})
	for n := range 5 {
		numbered(l, sample(), 0, n)
		waitFor(t, "the line to be dropped", func() bool { return dropped.Value() == uint64(n+1) })
	}
	closeLog(t, l)
	// at once, and the rest at the end
	if failures.Value() == 0 || strings.Count(told.String(), "broken pipe") != 2 {
		t.Errorf("%d failures; told:\n%s", failures.Value(), told)
	}
}

// The report that was held back comes when its time has come, not with the next line.
func TestReportComesByItself(t *testing.T) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	unix.Close(fds[0])
	told := new(logBuffer)
	l := openLog(t, AccessLogOptions{SpoolOptions: SpoolOptions{Output: descriptor(fds[1]), FlushEvery: time.Millisecond,
		ReportEvery: 50 * time.Millisecond, Logger: NewLogger(nil, FormatText, told)}})
	numbered(l, sample(), 0, 0)
	waitFor(t, "the first report", func() bool { return strings.Count(told.String(), "\n") == 1 })
	numbered(l, sample(), 0, 1)
	waitFor(t, "the second report", func() bool { return strings.Count(told.String(), "\n") == 2 })
}

// A line is at most a second late, also when none follows it.
func TestLineIsNotLate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, AccessLogOptions{SpoolOptions: SpoolOptions{Destination: path}})
	reader, err := os.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	in := bufio.NewReader(reader)
	least := time.Hour // of several: the machine may be busy
	for n := range 4 {
		start := time.Now()
		numbered(l, sample(), 0, n)
		if _, err := in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		least = min(least, time.Since(start))
	}
	if least > time.Second {
		t.Errorf("no line came within %v", least)
	}
}

// A disk that is full for a while: nothing is torn, and what was held is written when there is
// room.
func TestFullDisk(t *testing.T) {
	log, filler := fullDisk(t)
	defer log.Close()
	defer filler.Close()
	var dropped, failures Counter
	l := openLog(t, AccessLogOptions{SpoolOptions: SpoolOptions{Output: log, Dropped: &dropped, Errors: &failures, FlushEvery: time.Millisecond}})
	const lines = 50
	for n := range lines {
		numbered(l, sample(), 0, n)
	}
	waitFor(t, "a failed write", func() bool { return failures.Value() > 0 })
	if err := filler.Truncate(0); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the lines", func() bool { st, err := log.Stat(); return err == nil && st.Size() > 10000 })
	closeLog(t, l)
	text, err := io.ReadAll(io.NewSectionReader(log, 0, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	if readLines(t, text, seen); len(seen)+int(dropped.Value()) != lines {
		t.Errorf("%d lines are there, %d dropped, of %d", len(seen), dropped.Value(), lines)
	}
	if dropped.Value() != 0 {
		t.Errorf("dropped %d lines although there was room to hold them", dropped.Value())
	}
}

// fullDisk mounts a small tmpfs in a mount namespace that only one thread sees and that ends with
// it, opens a log there, and fills it but for a page, so that a write stops in the middle of a
// line.
func fullDisk(t *testing.T) (log, filler *os.File) {
	t.Helper()
	need.Root(t, "mounting a small tmpfs")
	dir := t.TempDir()
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		failed <- func() (err error) {
			if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
				return err
			}
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				return err
			}
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
				return err
			}
			if log, err = os.OpenFile(filepath.Join(dir, "log"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
				return err
			}
			if filler, err = os.Create(filepath.Join(dir, "filler")); err != nil {
				return err
			}
			_, err = filler.Write(make([]byte, 63*4096))
			return err
		}()
	}()
	if err := <-failed; err != nil {
		t.Fatalf("a small tmpfs: %v", err)
	}
	return log, filler
}
