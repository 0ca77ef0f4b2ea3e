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

// An upgrade replaces the process by another, of a new binary or the same, on the same sockets:
//
//	old                                     new
//	starts the new one with the sockets ─►  reads its configuration, takes the sockets
//	                                        accepts
//	               tells the manager   ◄─  "ready", or why it cannot be
//	lets go of MPTCP endpoints
//	lets it continue, with these          ─►  is a gateway like any other
//	drains, ends                       ─►  may remove endpoints
//
// Until it is told "ready" the old one serves as ever, and if it is not, or not in time, it ends
// the new one and continues.

// upgradeVariable tells a new process what it was handed.
const upgradeVariable = "MPGATE_UPGRADE"

// upgradeTime is how long the new process may take until it is ready.
const upgradeTime = 30 * time.Second

// inheritance is what a new process is handed. Numbers are descriptors.
type inheritance struct {
	Ready   int // it writes a line when it is ready or cannot be
	Go      int // says when it may continue by itself, and ends with the process before it
	Sockets []handedSocket
}

type handedSocket struct {
	FD int
	// Name by which a .socket unit passed it; "" for one that mpgate bound.
	Name  string `json:",omitempty"`
	Store string `json:",omitempty"` // by which systemd's store has it; "": it has not
}

// continueWord is what the old process says last, with what it made in the kernel behind it.
const continueWord = "go"

// Parent is the process that this one replaces.
type Parent struct {
	report, release *os.File
	since           time.Time // this one continued by itself
	gone            chan struct{}
	stored          map[uint64]string // see fdStore.names
}

// FromParent takes what a process that this one is to replace has handed over, and adds the sockets
// to in. It is nil where there is no such process.
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

// ready tells the parent, and returns when it has passed its part on, with what it made in the
// kernel.
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

// watch ends when the parent does.
func (p *Parent) watch(ctx context.Context) error {
	defer close(p.gone)
	defer p.release.Close()
	_ = p.release.SetReadDeadline(time.Time{})
	stop := task.AfterDone(ctx, "upgrade: release", func() { _ = p.release.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_, _ = io.Copy(io.Discard, p.release)
	return nil
}

// isServing says whether the parent has not passed its part on.
func (p *Parent) isServing() bool { return p != nil && p.since.IsZero() }

// isDraining says whether the parent has passed its part on and has not ended yet.
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

// awaitEnd waits for the end of the parent, which drains for as long as most: with the end of this
// process endpoints go on which it has subflows.
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
		_, _ = fmt.Fprintf(p.report, "failed\n%v\n", err) // after ready it is closed
		_ = p.report.Close()
		_ = p.release.Close()
	}
}

// takeOver tells the parent that this process is ready, and continues with what it made in the
// kernel.
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

// Upgrade starts the program again and hands everything over to it. It returns when the new process
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

// replace starts the new process and waits for its word.
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
	cmd, err := g.child(reportTo, release)
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
		_ = cmd.Wait()
		return 0, err
	}
	pid = cmd.Process.Pid
	// It is reaped if it ends before this process.
	task.Go("upgrade: reaper", func() { _ = cmd.Wait() }, nil)
	return pid, nil
}

// start starts the new process, shielded from signals that would end it before it takes them over.
// One that came meanwhile and asked this process to open its logs again was lost, so that is done.
func (g *Gateway) start(cmd *exec.Cmd) error {
	if g.options.Shield == nil {
		return cmd.Start()
	}
	defer func() { _ = g.ReopenLogs() }() // it logs
	return g.options.Shield(cmd.Start)
}

// awaitManager waits until the service manager has dealt with what it was told, for a moment at
// most: the new process waits, too.
func (g *Gateway) awaitManager(ctx context.Context, complaint string) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := g.options.Notifier.barrier(ctx); err != nil {
		g.log.Warn(complaint, "err", err)
	}
}

// release lets the new process continue, with endpoints and limits for its own.
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

// notifySuccessor tells the process that has replaced this one, if any, that no connection is left
// here.
func (g *Gateway) notifySuccessor() {
	if g.successor != nil {
		_ = g.successor.Close()
	}
	if m := g.paths.Load(); m != nil && !g.pathsRun {
		m.Close()
	}
}

// child makes the command with all that it inherits.
func (g *Gateway) child(reportTo, release *os.File) (*exec.Cmd, error) {
	path, args := g.options.Command()
	cmd := exec.Command(path, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{reportTo, release}
	i := inheritance{Ready: 3, Go: 4}
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
		// It would hold the new process to be none of the watchdog's business.
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

// awaitReady reads what the new process has to say.
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

// serveUpgrade answers when the new process serves: 200, or 409 with what went wrong.
func (g *Gateway) serveUpgrade(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(2 * upgradeTime))
	if err := g.Upgrade(context.WithoutCancel(r.Context())); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	_, _ = io.WriteString(w, "upgraded: another process has taken over\n")
}
