package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/internal/proxytest"
)

// full returns a full pipe without a reader, and its other end.
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

// TestStandardErrorWithoutReader: the gateway starts, serves at its limit of connections, reloads,
// refuses a reload, is upgraded and ends, although neither its log nor the access log on the same
// pipe has a reader; when it gets one, the log reports the dropped lines.
func TestStandardErrorWithoutReader(t *testing.T) {
	t.Parallel()
	needsLinux(t)
	for _, access := range []string{"access.log", "stderr", "stdout"} {
		t.Run("access log to "+access, func(t *testing.T) {
			t.Parallel()
			withoutReader(t, access)
		})
	}
}

func withoutReader(t *testing.T, access string) {
	server := newSlowServer(t)
	address := proxytest.FreeAddress(t)
	config := strings.Replace(plainConfig(server.URL), `"127.0.0.1:0"`, strconv.Quote(address), 1)
	config = "[log]\nlevel = \"debug\"\naccess = " + strconv.Quote(access) + "\n[limits]\nconnections = 3\n" + config
	file := write(t, "mpgate.toml", config)
	r, w := full(t)
	cmd := exec.Command(binary, "run", "-c", file)
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	soon(t, "it is ready", func() bool { return exec.Command(binary, "health", "-c", file).Run() == nil })
	verb(t, "reloaded", "reload", file)
	if err := os.WriteFile(file, []byte(strings.Replace(config, `backend = "app"`, `backend = "none"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	verb(t, "none", "reload", file)
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
		server.free <- struct{}{}
		if a := <-get("http://" + address + "/"); a.err != nil || a.body != "done" {
			t.Fatalf("answer %+v", a)
		}
	}
	verb(t, "upgraded: another process has taken over", "upgrade", file)
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ends with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the process that was replaced does not end")
	}
	pid, err := strconv.Atoi(regexp.MustCompile(`pid (\d+),`).FindStringSubmatch(verb(t, "ready", "status", file) + " pid 0,")[1])
	if err != nil || pid == 0 {
		t.Fatal("mpgate status does not say which process it is")
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	read := bufio.NewReader(r)
	for line := ""; !strings.Contains(line, `"msg":"ready"`); {
		_ = r.SetReadDeadline(time.Now().Add(patience))
		if line, err = read.ReadString('\n'); err != nil {
			t.Fatalf("what was logged meanwhile is not there: %v", err)
		}
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	soon(t, "the other process ends", func() bool { return syscall.Kill(pid, 0) != nil || zombie(pid) })
}

// verb runs one of the binary, which must not hang, and wants something in what it prints.
func verb(t *testing.T, want, verb, file string) string {
	t.Helper()
	cmd := exec.Command(binary, verb, "-c", file)
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	out, _ := cmd.CombinedOutput()
	if !strings.Contains(string(out), want) {
		t.Fatalf("mpgate %s prints %q, want %q", verb, out, want)
	}
	return string(out)
}

func soon(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !is(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("timed out waiting for: %s", what)
		}
	}
}

// zombie says whether a process has ended and its parent, which is none of ours, has not taken
// notice.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}
