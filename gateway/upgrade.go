package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"mpgate/listener"
	"mpgate/mptcp/paths"
	"mpgate/task"
)

// An upgrade replaces the process with another, of a new binary or the same, on the same sockets:
//
//	old                                     new
//	starts the new one with the sockets ─►  reads its configuration, takes the sockets
//	                                        accepts
//	               tells the manager   ◄─  "ready", or why it cannot be
//	lets go of MPTCP endpoints
//	lets it continue, with these          ─►  is a gateway like any other
//	drains, ends                       ─►  may remove endpoints
//
// The old process serves until it is told "ready". If that does not happen in time, it ends the new
// one and continues.

// upgradeVariable describes to a new process what it inherits.
const upgradeVariable = "MPGATE_UPGRADE"

// upgradeTime is how long the new process may take until it is ready.
const upgradeTime = 30 * time.Second

// inheritance is what a new process inherits. Numbers are file descriptors.
type inheritance struct {
	Ready int // it writes a line when it is ready or cannot be
	Go    int // says when it may continue by itself; closed when the previous process ends
	// State is what a handedState is read from; 0: nothing.
	State   int `json:",omitempty"`
	Sockets []handedSocket
}

type handedSocket struct {
	FD int
	// Name by which a .socket unit passed it; "" for one that mpgate bound.
	Name  string `json:",omitempty"`
	Store string `json:",omitempty"` // by which systemd's store has it; "": it has not
}

// continueWord is the last message of the old process, followed by what it made in the kernel.
const continueWord = "go"

// Parent is the process that this one replaces.
type Parent struct {
	report, release *os.File
	since           time.Time // when this process continued by itself
	gone            chan struct{}
	stored          map[uint64]string // see fdStore.names
	state           handedState
}

// FromParent takes what the process that this one replaces has passed, and adds the sockets to in.
// It returns nil if there is no such process.
func FromParent(in *listener.Inherited) (*Parent, error) {
	text := os.Getenv(upgradeVariable)
	if text == "" {
		return nil, nil
	}
	if err := os.Unsetenv(upgradeVariable); err != nil {
		return nil, err
	}
	var i inheritance
	if err := json.Unmarshal([]byte(text), &i); err != nil || i.Ready < 3 || i.Go < 3 {
		return nil, fmt.Errorf("%s is for mpgate's own use (got %q); unset it", upgradeVariable, text)
	}
	p := &Parent{report: inheritFile(i.Ready, "upgrade report"), release: inheritFile(i.Go, "upgrade release"), gone: make(chan struct{}), stored: map[uint64]string{}}
	if i.State >= 3 {
		p.state = readState(inheritFile(i.State, "upgrade state"))
	}
	for _, s := range i.Sockets {
		f := inheritFile(s.FD, s.Name)
		if s.Store != "" {
			p.stored[listener.Inode(f)] = s.Store
		}
		if s.Name != "" {
			in.Add(s.Name, f, listener.Parent)
		} else {
			in.AddSpare("", f, listener.Parent)
		}
	}
	return p, nil
}

// ready tells the parent that this process is ready, and returns what the parent made in the
// kernel, once it has handed over.
func (p *Parent) ready(ctx context.Context) (*paths.Handover, error) {
	_, err := io.WriteString(p.report, "ready\n")
	_ = p.report.Close()
	if err != nil {
		return nil, fmt.Errorf("the previous process cancelled the upgrade: %w", err)
	}
	stop := task.AfterDone(ctx, "upgrade: release", func() { _ = p.release.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_ = p.release.SetReadDeadline(time.Now().Add(upgradeTime))
	line, err := bufio.NewReader(io.LimitReader(p.release, 64<<10)).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("the previous process did not continue the upgrade: %w", err)
	}
	e := new(paths.Handover)
	if text := strings.TrimSpace(strings.TrimPrefix(line, continueWord)); text != "" {
		if err := json.Unmarshal([]byte(text), e); err != nil {
			return nil, fmt.Errorf("cannot parse the kernel state of the previous process (got %q): %w", text, err)
		}
	}
	p.since = time.Now()
	return e, nil
}

// watch returns when the parent ends.
func (p *Parent) watch(ctx context.Context) error {
	defer close(p.gone)
	defer p.release.Close()
	_ = p.release.SetReadDeadline(time.Time{})
	stop := task.AfterDone(ctx, "upgrade: release", func() { _ = p.release.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_, _ = io.Copy(io.Discard, p.release)
	return nil
}

// isServing reports whether the parent has not handed over yet.
func (p *Parent) isServing() bool { return p != nil && p.since.IsZero() }

// isDraining reports whether the parent has handed over and has not ended yet.
func (p *Parent) isDraining() bool {
	if p == nil || p.since.IsZero() {
		return false
	}
	select {
	case <-p.gone:
		return false
	default:
		return true
	}
}

// awaitEnd waits until the parent ends, which drains for at most that long: this process removes
// endpoints at its end, and the parent may have subflows on them.
func (p *Parent) awaitEnd(ctx context.Context, most time.Duration) {
	if !p.isDraining() {
		return
	}
	ctx, cancel := context.WithDeadline(ctx, p.since.Add(most))
	defer cancel()
	select {
	case <-p.gone:
	case <-ctx.Done():
	}
}

// Fail tells the parent why this process cannot replace it.
func (p *Parent) Fail(err error) {
	if p != nil {
		_, _ = fmt.Fprintf(p.report, "failed\n%v\n", err) // closed after ready
		_ = p.report.Close()
		_ = p.release.Close()
	}
}

// takeOver tells the parent that this process is ready, and takes over what it made in the kernel.
func (g *Gateway) takeOver(ctx context.Context) error {
	e, err := g.options.Parent.ready(ctx)
	if err != nil {
		return err
	}
	g.takeOverAdminAddress()
	g.tasks.run("the process before", g.options.Parent.watch)
	g.takeHandover(e)
	g.runPaths()
	return nil
}

// Upgrade starts the program again and hands over to it. It returns when the new process
// serves; this one then drains, and Run returns. On an error this one continues as before.
func (g *Gateway) Upgrade(ctx context.Context) error {
	if g.options.Command == nil {
		return errors.New("this gateway does not support upgrades")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state.Load() != ready || g.isReplaced() {
		return errors.New("the gateway is not ready or is draining")
	}
	var pid int
	err := catchPanic("upgrade", func() (err error) {
		pid, err = g.replace(ctx)
		return err
	})
	if err != nil {
		for _, f := range g.gen.Load().listeners {
			f.sockets.Resteer()
		}
		g.log.Error("upgrade failed; this process continues", "err", err)
		return fmt.Errorf("upgrade failed; the running process continues: %w", err)
	}
	g.log.Info("upgraded: another process has taken over", "pid", pid)
	close(g.replaced)
	return nil
}

// replace starts the new process and waits until it is ready.
func (g *Gateway) replace(ctx context.Context) (pid int, err error) {
	ctx, cancel := context.WithTimeout(ctx, upgradeTime)
	defer cancel()
	report, reportTo, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer report.Close()
	release, releaseBy, err := os.Pipe()
	if err != nil {
		reportTo.Close()
		return 0, err
	}
	defer func() {
		if err != nil {
			releaseBy.Close()
		}
	}()
	state, err := g.handOverState()
	if err != nil {
		reportTo.Close()
		release.Close()
		return 0, err
	}
	cmd, err := g.child(reportTo, release, state)
	if err == nil {
		err = g.start(cmd)
		closeFiles(cmd.ExtraFiles) // the pipes among them
	}
	if err != nil {
		return 0, err
	}
	if err = awaitReady(ctx, report); err == nil {
		if g.options.Notifier != nil {
			g.options.Notifier.send(fmt.Sprintf("MAINPID=%d", cmd.Process.Pid))
			g.awaitManager(ctx, "systemd did not confirm the new main process")
		}
		err = g.release(ctx, releaseBy)
	}
	if err != nil {
		// systemd may already know the new main process, whose end would stop the service.
		if g.options.Notifier != nil {
			g.options.Notifier.send(fmt.Sprintf("MAINPID=%d", os.Getpid()))
			g.awaitManager(context.Background(), "systemd did not confirm this process as the main process again")
		}
		_ = cmd.Process.Kill()
		awaitEnd(cmd)
		return 0, err
	}
	pid = cmd.Process.Pid
	if isSibling(cmd) {
		_ = cmd.Process.Release() // its parent reaps it
		return pid, nil
	}
	// It is reaped if it ends before this process.
	task.Go("upgrade: reaper", func() { _ = cmd.Wait() }, nil)
	return pid, nil
}

// start starts the new process, shielded from signals that would end it before it handles them. A
// signal to reopen logs that arrives meanwhile is lost, so the logs are reopened.
func (g *Gateway) start(cmd *exec.Cmd) error {
	if g.options.Shield == nil {
		return cmd.Start()
	}
	defer func() { _ = g.ReopenLogs() }() // it logs
	return g.options.Shield(cmd.Start)
}

// awaitManager waits until the service manager has processed the notifications, for 2 s at most:
// the new process waits, too.
func (g *Gateway) awaitManager(ctx context.Context, complaint string) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := g.options.Notifier.barrier(ctx); err != nil {
		g.log.Warn(complaint, "err", err)
	}
}

// release lets the new process continue and take over endpoints and limits.
func (g *Gateway) release(ctx context.Context, by *os.File) error {
	e, err := g.handOverPaths(ctx)
	if err != nil {
		return err
	}
	text, err := json.Marshal(e)
	if err == nil {
		_, err = fmt.Fprintf(by, "%s %s\n", continueWord, text)
	}
	if err != nil {
		g.takeHandover(e)
		return err
	}
	g.successor = by
	return nil
}

// notifySuccessor tells the process that has replaced this one, if any, that this process has no
// connections left.
func (g *Gateway) notifySuccessor() {
	if g.successor != nil {
		_ = g.successor.Close()
	}
	if m := g.paths.Load(); m != nil && !g.pathsRun {
		m.Close()
	}
}

// child makes the command with everything that it inherits.
func (g *Gateway) child(reportTo, release, state *os.File) (*exec.Cmd, error) {
	path, args := g.options.Command()
	cmd := exec.Command(path, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	g.makeSibling(cmd)
	cmd.ExtraFiles = []*os.File{reportTo, release, state}
	i := inheritance{Ready: 3, Go: 4, State: 5}
	add := func(name string, files ...*os.File) {
		for _, f := range files {
			i.Sockets = append(i.Sockets, handedSocket{FD: 3 + len(cmd.ExtraFiles), Name: name, Store: g.store.names[listener.Inode(f)]})
			cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		}
	}
	for _, f := range g.gen.Load().listeners {
		files, err := f.sockets.Files()
		if err != nil {
			closeFiles(cmd.ExtraFiles)
			return nil, err
		}
		name := ""
		if f.sockets.Activated() {
			name = f.sockets.Systemd()
		}
		add(name, files...)
	}
	if f, err := g.admin.Load().file(); err != nil {
		closeFiles(cmd.ExtraFiles)
		return nil, err
	} else if f != nil {
		add("", f)
	}
	text, err := json.Marshal(i)
	if err != nil {
		closeFiles(cmd.ExtraFiles)
		return nil, err
	}
	for _, v := range os.Environ() {
		// With it, the new process would not notify the watchdog.
		if !strings.HasPrefix(v, "WATCHDOG_PID=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, upgradeVariable+"="+string(text))
	return cmd, nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// awaitReady reads the report of the new process.
func awaitReady(ctx context.Context, report *os.File) error {
	stop := task.AfterDone(ctx, "upgrade: report", func() { _ = report.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	r := bufio.NewReader(io.LimitReader(report, 64<<10))
	line, err := r.ReadString('\n')
	switch {
	case line == "ready\n":
		return nil
	case line == "failed\n":
		why, _ := io.ReadAll(r)
		return errors.New(strings.TrimSpace(string(why)))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("the new process was not ready in time")
	}
	return errors.New("the new process ended before it was ready; see its log")
}

// serveUpgrade answers once the new process serves: 200, or 409 with the error.
func (g *Gateway) serveUpgrade(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(2 * upgradeTime))
	if err := g.Upgrade(context.WithoutCancel(r.Context())); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	_, _ = io.WriteString(w, "upgraded: another process has taken over\n")
}
