package procs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Spec says what to start.
type Spec struct {
	Args []string
	Env  []string // added to this process's own
	Dir  string
	// Stdout is the file that takes its standard output ("": kept in memory up to a bound, see
	// Process.Output, with stderr).
	Stdout string
	// Pipe connects Process.Stdin and Process.Stdout instead. A child of ours ends when its stdin
	// does.
	Pipe bool
	CPUs []int // it may run only there; none: everywhere
}

// Group owns all processes and directories of a run.
type Group struct {
	guard *guard
	jobs  chan func() // run on one thread that lives as long as the group: see startThread

	mu        sync.Mutex
	processes map[*Process]bool
	dirs      []string
}

// NewGroup starts the guard: guardArgs is the command of a program that calls RunGuard.
func NewGroup(guardArgs []string) (*Group, error) {
	g := &Group{jobs: make(chan func()), processes: make(map[*Process]bool)}
	go g.startThread()
	gd, err := startGuard(guardArgs)
	if err != nil {
		close(g.jobs)
		return nil, fmt.Errorf("guard process: %w", err)
	}
	g.guard = gd
	return g, nil
}

// startThread starts processes from one thread that never ends before the group does. Pdeathsig is
// sent when the starting *thread* ends, and the CPU affinity that a child inherits is the thread's:
// an arbitrary thread of the Go runtime serves neither.
func (g *Group) startThread() {
	runtime.LockOSThread()
	for job := range g.jobs {
		job()
	}
}

// Process is one that the group started.
type Process struct {
	PID    int
	Stdin  io.WriteCloser
	Stdout io.ReadCloser

	group  *Group
	cmd    *exec.Cmd
	output *tail
	done   chan struct{}
	err    error // of Wait, once done is closed

	mu     sync.Mutex
	reaped bool // the kernel may give PID to somebody else
}

// Start starts a program in a process group of its own.
func (g *Group) Start(s Spec) (*Process, error) {
	cmd := exec.Command(s.Args[0], s.Args[1:]...)
	cmd.Env = append(os.Environ(), s.Env...)
	cmd.Dir = s.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &Process{group: g, cmd: cmd, output: &tail{}, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.output, p.output
	// A grandchild that holds the pipe open must not make Wait wait for ever.
	cmd.WaitDelay = 2 * time.Second
	if s.Stdout != "" {
		f, err := os.OpenFile(s.Stdout, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		cmd.Stdout = f
	}
	if s.Pipe {
		cmd.Stdout = nil
		var err1, err2 error
		p.Stdin, err1 = cmd.StdinPipe()
		p.Stdout, err2 = cmd.StdoutPipe()
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
	}
	if err := g.start(cmd, s.CPUs); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Args[0], err)
	}
	p.PID = cmd.Process.Pid
	g.guard.add(p.PID)
	g.mu.Lock()
	g.processes[p] = true
	g.mu.Unlock()
	go p.reap(s.Pipe)
	return p, nil
}

func (g *Group) start(cmd *exec.Cmd, cpus []int) error {
	result := make(chan error, 1)
	g.jobs <- func() {
		if len(cpus) == 0 {
			result <- cmd.Start()
			return
		}
		var own, set unix.CPUSet
		for _, c := range cpus {
			set.Set(c)
		}
		err := unix.SchedGetaffinity(0, &own)
		if err == nil {
			err = unix.SchedSetaffinity(0, &set)
		}
		if err == nil {
			err = cmd.Start()
		}
		if e := unix.SchedSetaffinity(0, &own); err == nil {
			err = e
		}
		result <- err
	}
	return <-result
}

// reap waits for the process and ends what it left behind in its group. It does the second before
// it collects the first: until then the kernel gives the number to nobody else.
func (p *Process) reap(pipe bool) {
	for {
		if err := unix.Waitid(unix.P_PID, p.PID, nil, unix.WEXITED|unix.WNOWAIT, nil); err != unix.EINTR {
			break
		}
	}
	p.mu.Lock()
	_ = syscall.Kill(-p.PID, syscall.SIGKILL)
	p.reaped = true
	p.mu.Unlock()
	if pipe {
		// Cmd.Wait would close the pipe's reading end, which may still hold what its owner wants to
		// read.
		_, p.err = p.cmd.Process.Wait()
	} else {
		p.err = p.cmd.Wait()
	}
	p.group.guard.remove(p.PID)
	p.group.mu.Lock()
	delete(p.group.processes, p)
	p.group.mu.Unlock()
	close(p.done)
}

func (p *Process) killGroup() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		_ = syscall.Kill(-p.PID, syscall.SIGKILL)
	}
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Output is the end of what it wrote to standard error, and to standard output unless that went
// elsewhere.
func (p *Process) Output() string { return p.output.String() }

// Stop asks it to end, and ends it and its group after grace.
func (p *Process) Stop(grace time.Duration) {
	if p.Stdin != nil {
		p.Stdin.Close()
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-p.done:
	case <-t.C:
		p.killGroup()
		<-p.done
	}
	if p.Stdout != nil {
		p.Stdout.Close()
	}
}

// Ran is what a program that ended left behind.
type Ran struct {
	Output string
	CPU    time.Duration // its own and of the children that it waited for
}

// Run starts a program and waits until it ends. When ctx is over it is stopped.
func (g *Group) Run(ctx context.Context, s Spec) (Ran, error) {
	p, err := g.Start(s)
	if err != nil {
		return Ran{}, err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.Stop(time.Second)
		return Ran{Output: p.Output()}, fmt.Errorf("%s: %w", s.Args[0], context.Cause(ctx))
	}
	if p.err != nil {
		return Ran{Output: p.Output()}, fmt.Errorf("%s: %w: %s", strings.Join(s.Args, " "), p.err, lastLine(p.Output()))
	}
	state := p.cmd.ProcessState
	return Ran{p.Output(), state.UserTime() + state.SystemTime()}, nil
}

// TempDir makes a directory that Close removes.
func (g *Group) TempDir() (string, error) {
	dir, err := os.MkdirTemp("", "mpgate-bench-")
	if err != nil {
		return "", err
	}
	g.Adopt(dir)
	return dir, nil
}

// Adopt makes Close, or the guard, remove a directory that is there already.
func (g *Group) Adopt(dir string) {
	g.guard.addDir(dir)
	g.mu.Lock()
	g.dirs = append(g.dirs, dir)
	g.mu.Unlock()
}

// Close ends every process that is left, removes the directories, and lets the guard go.
func (g *Group) Close() {
	g.mu.Lock()
	var left []*Process
	for p := range g.processes {
		left = append(left, p)
	}
	dirs := g.dirs
	g.mu.Unlock()
	var wg sync.WaitGroup
	for _, p := range left {
		wg.Go(func() { p.Stop(2 * time.Second) })
	}
	wg.Wait()
	for _, d := range dirs {
		_ = os.RemoveAll(d)
	}
	g.guard.stop()
	close(g.jobs)
}

// tail keeps the last part of what is written to it.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const tailSize = 64 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(p)
	if over := t.buf.Len() - tailSize; over > 0 {
		t.buf.Next(over)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}
