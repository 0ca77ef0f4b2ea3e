package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// full gives a pipe that nobody reads and that is full but for nothing, and its other end.
func full(t *testing.T) (r, w *os.File) {
	t.Helper()
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	r, w = os.NewFile(uintptr(fds[0]), "r"), os.NewFile(uintptr(fds[1]), "w")
	t.Cleanup(func() { r.Close(); w.Close() })
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
		t.Fatal(err)
	}
	line := []byte("the pipe is full\n")
	for { // whole lines
		if _, err := syscall.Write(fds[1], line); err != nil {
			break
		}
	}
	if err := syscall.SetNonblock(fds[1], false); err != nil { // as programs are given it
		t.Fatal(err)
	}
	return r, w
}

// TestNobodyReadsStandardError: the gateway starts, serves at its limit of connections, reloads, refuses a reload, is upgraded and
// ends, though nobody reads its log, nor the access log on the same pipe; once somebody does, the log says that it lacks lines.
func TestNobodyReadsStandardError(t *testing.T) {
	needsLinux(t)
	for _, access := range []string{"access.log", "stderr", "stdout"} {
		t.Run("access log to "+access, func(t *testing.T) { nobodyReads(t, access) })
	}
}

func nobodyReads(t *testing.T, access string) {
	server := newSlowServer(t)
	for range cap(server.free) {
		server.free <- struct{}{}
	}
	address := freePort(t)
	config := strings.Replace(plainConfig(server.URL), `"127.0.0.1:0"`, strconv.Quote(address), 1)
	config = "[log]\nlevel = \"debug\"\naccess = " + strconv.Quote(access) + "\n[limits]\nconnections = 3\n" + config
	file := write(t, "mpgate.toml", config)
	r, w := full(t)
	cmd := exec.Command(binary, "run", "-c", file)
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL); _ = cmd.Process.Kill() })
	do := func(want string, args ...string) string {
		t.Helper()
		out := within(t, args, file)
		if !strings.Contains(out, want) {
			t.Fatalf("mpgate %s prints %q, want %q", args, out, want)
		}
		return out
	}
	awaitReady(t, file)
	do("reloaded", "reload")
	if err := os.WriteFile(file, []byte(config+"colour = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// It finds the admin address in the file all the same: the key is the server's.
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var idle []net.Conn
	for range 5 { // beyond the limit: accepting pauses
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
	}
	for _, c := range idle {
		c.Close()
	}
	for range 3 {
		if a := <-get("http://" + address + "/"); a.err != nil || a.body != "done" {
			t.Fatalf("answer %+v", a)
		}
	}
	do("another process has taken over", "upgrade")
	awaitEnd(t, ended)
	status := do("ready", "status")
	_, rest, _ := strings.Cut(status, "pid ")
	next, _, _ := strings.Cut(rest, ",")
	var err error
	if pid, err = strconv.Atoi(next); err != nil {
		t.Fatalf("status %q", status)
	}
	if got := metric(t, file, "mpgate_program_log_dropped_total"); access == "stderr" && got == "" {
		t.Errorf("no metric of lines that were dropped")
	}
	read := bufio.NewReader(r)
	for logged := false; !logged; {
		if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		line, err := read.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		logged = strings.Contains(line, `"msg":"ready"`)
	}
	go func() { _, _ = io.Copy(io.Discard, read) }()
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	gone(t, filepath.Join(filepath.Dir(file), "admin.sock"))
}

// within runs a verb of the binary, which must not hang.
func within(t *testing.T, args []string, file string) string {
	t.Helper()
	cmd := exec.Command(binary, append(args, "-c", file)...)
	cmd.WaitDelay = patience
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	out, _ := cmd.CombinedOutput()
	return string(out)
}

func awaitReady(t *testing.T, file string) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if exec.Command(binary, "health", "-c", file).Run() == nil {
			return
		}
	}
	t.Fatal("it does not get ready")
}

func awaitEnd(t *testing.T, ended <-chan error) {
	t.Helper()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ends with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
}

func gone(t *testing.T, path string) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if _, err := os.Lstat(path); os.IsNotExist(err) {
			return
		}
	}
	t.Fatalf("%s is still there", path)
}

func metric(t *testing.T, file, name string) string {
	t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{Dial: func(string, string) (net.Conn, error) {
		return net.Dial("unix", filepath.Join(filepath.Dir(file), "admin.sock"))
	}, DisableKeepAlives: true}}
	resp, err := client.Get("http://admin/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
