package systemd

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

//go:embed init.sh
var initScript string

const (
	bootTime = 60 * time.Second
	// commandTime bounds a command inside.
	commandTime = 60 * time.Second
)

// Machine is a Debian 13 that runs.
type Machine struct {
	t      testing.TB
	pid    int // of its init, in our namespace
	outer  *exec.Cmd
	ended  chan struct{}
	log    *tail
	cgroup string
}

// Boot boots a machine, which is gone at the end of the test.
func Boot(t testing.TB) *Machine {
	t.Helper()
	root := Root(t)
	m := &Machine{t: t, ended: make(chan struct{}), log: &tail{}}
	m.outer = exec.Command("unshare", "--mount", "--pid", "--fork", "--net", "--uts", "--ipc", "--cgroup", "--kill-child",
		"sh", "-c", initScript, "init.sh", root, t.TempDir())
	m.outer.Stdout, m.outer.Stderr = m.log, m.log
	m.outer.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	group := m.ownGroup()
	if group != nil {
		defer group.Close()
		m.outer.SysProcAttr.UseCgroupFD, m.outer.SysProcAttr.CgroupFD = true, int(group.Fd())
	}
	started := make(chan error, 1)
	go func() {
		// The parent whose death kills is the thread.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := m.outer.Start()
		started <- err
		if err == nil {
			_ = m.outer.Wait()
		}
		close(m.ended)
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.stop)
	m.awaitBoot()
	return m
}

// awaitBoot waits until all units of the boot are there.
func (m *Machine) awaitBoot() {
	m.t.Helper()
	state := ""
	booted := m.within(bootTime, func() bool {
		if m.pid == 0 {
			m.pid = childOf(m.outer.Process.Pid)
		}
		if m.pid == 0 {
			return false
		}
		out, _ := m.command(context.Background(), "systemctl", "is-system-running").Output()
		state = strings.TrimSpace(string(out))
		return state == "running" || state == "degraded" // both mean: booted
	})
	if !booted {
		m.t.Fatalf("systemd does not come up (%s):\n%s", state, m.log)
	}
}

// within looks at a pace that suits processes.
func (m *Machine) within(d time.Duration, true_ func() bool) bool {
	end := time.NewTimer(d)
	defer end.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !true_() {
		select {
		case <-tick.C:
		case <-m.ended:
			return false
		case <-end.C:
			return false
		}
	}
	return true
}

// childOf is the first child of a process, 0 before there is one.
func childOf(pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b) + " 0")
	n, _ := strconv.Atoi(f[0])
	return n
}

// ownGroup makes a control group for the machine, so that its units are apart from those of others;
// nil where that cannot be, which is fine for one machine at a time.
func (m *Machine) ownGroup() *os.File {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	for _, line := range strings.Split(string(mounts), "\n") {
		f := strings.Fields(line)
		if !strings.Contains(line, " - cgroup2 ") || len(f) < 5 {
			continue
		}
		for _, g := range strings.Split(string(own), "\n") {
			if dir, ok := strings.CutPrefix(g, "0::"); ok {
				m.cgroup = filepath.Join(f[4], dir, fmt.Sprintf("mpgate-test-%d-%d", os.Getpid(), time.Now().UnixNano()))
			}
		}
		if os.Mkdir(m.cgroup, 0o755) == nil {
			if f, err := os.Open(m.cgroup); err == nil {
				return f
			}
		}
	}
	m.cgroup = ""
	return nil
}

// stop ends the machine and all that runs in it.
func (m *Machine) stop() {
	if m.pid != 0 {
		_ = syscall.Kill(m.pid, syscall.SIGKILL)
	}
	_ = m.outer.Process.Kill()
	<-m.ended
	if m.cgroup == "" {
		return
	}
	m.ended = make(chan struct{}) // within is asked once more
	m.within(10*time.Second, func() bool {
		var dirs []string
		_ = filepath.WalkDir(m.cgroup, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for i := len(dirs) - 1; i >= 0; i-- { // the inner ones first
			_ = os.Remove(dirs[i])
		}
		_, err := os.Stat(m.cgroup)
		return errors.Is(err, fs.ErrNotExist)
	})
}

func (m *Machine) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	all := append([]string{"-t", strconv.Itoa(m.pid), "-a", "--", name}, args...)
	cmd := exec.CommandContext(ctx, "nsenter", all...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=", "DEBIAN_FRONTEND=noninteractive"}
	return cmd
}

// Try runs a command inside and gives its output, both streams, and its exit code.
func (m *Machine) Try(name string, args ...string) (out string, code int) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	b, err := m.command(ctx, name, args...).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit) && ctx.Err() == nil:
		return string(b), exit.ExitCode()
	default:
		m.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, b)
	}
	return string(b), 0
}

// Run is Try of a command that must succeed.
func (m *Machine) Run(name string, args ...string) string {
	m.t.Helper()
	out, code := m.Try(name, args...)
	if code != 0 {
		m.t.Fatalf("%s %s: exit code %d\n%s\n%s", name, strings.Join(args, " "), code, out, m.log)
	}
	return out
}

// Property is one of a unit.
func (m *Machine) Property(unit, name string) string {
	m.t.Helper()
	return strings.TrimSpace(m.Run("systemctl", "show", "--property="+name, "--value", unit))
}

// Await waits until a property of a unit has a value.
func (m *Machine) Await(unit, name, want string) {
	m.t.Helper()
	got := ""
	if !m.within(commandTime, func() bool { got = m.Property(unit, name); return got == want }) {
		m.t.Fatalf("%s of %s is %q, want %q\n%s", name, unit, got, want, m.log)
	}
}

// Path is where a file inside is for us.
func (m *Machine) Path(path string) string { return fmt.Sprintf("/proc/%d/root%s", m.pid, path) }

// Write writes a file inside.
func (m *Machine) Write(path, text string, mode os.FileMode) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.Path(path)), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(m.Path(path), []byte(text), mode); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Chmod(m.Path(path), mode); err != nil {
		m.t.Fatal(err)
	}
}

// Install copies one of our files in. It takes the place of one that may be running.
func (m *Machine) Install(from, path string, mode os.FileMode) {
	m.t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		m.t.Fatal(err)
	}
	m.Write(path+".new", string(b), mode)
	if err := os.Rename(m.Path(path+".new"), m.Path(path)); err != nil {
		m.t.Fatal(err)
	}
}

// Log is what the machine's console shows, and so what services write.
func (m *Machine) Log() string { return m.log.String() }

// InNet calls f with a thread that is in the machine's network namespace: sockets that it opens are
// there, and stay so.
func (m *Machine) InNet(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", m.pid))
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			ns.Close()
		}
		if err == nil {
			err = f()
		}
		result <- err
	}()
	return <-result
}

// Dial connects to an IP address inside, by MPTCP or TCP. It blocks in the calling of connect, so
// that it stays in one thread.
func (m *Machine) Dial(ctx context.Context, address string, mptcp bool) (conn net.Conn, err error) {
	err = m.InNet(func() error {
		d := net.Dialer{}
		d.SetMultipathTCP(mptcp)
		conn, err = d.DialContext(ctx, "tcp", address)
		return err
	})
	return conn, err
}

// tail keeps the last of what is written.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailSize = 256 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if len(t.b) > tailSize {
		t.b = append(t.b[:0], t.b[len(t.b)-tailSize:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.Clone(t.b))
}
