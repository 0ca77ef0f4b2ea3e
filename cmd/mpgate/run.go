package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"mpgate/cmd/mpgate/early"
	"mpgate/config"
	"mpgate/gateway"
	"mpgate/listener"
	"mpgate/task"
)

type runCmd struct {
	configFlag
}

func (runCmd) Help() string {
	return `On SIGTERM and SIGINT, requests in progress can finish within shutdown.drain; a second signal ends the process at once. SIGHUP loads the configuration again, as mpgate reload does, and reopens log files. SIGUSR2 starts a new process and hands the sockets over to it, as mpgate upgrade does.

The access log goes to the destination in log.access, the program's own log to standard error.

    mpgate run -c mpgate.toml`
}

func (c *runCmd) Run(p *program) error {
	signals := early.Signals()
	openLog(p)
	return serve(p, signals, c.prepare, nil)
}

// setup is what a gateway needs, and what to do at its end.
type setup struct {
	config  *config.Config
	options gateway.Options
	end     func(error) // may be nil
}

func (c *runCmd) prepare() (_ *setup, err error) {
	gateway.FollowCgroup()
	inherited, err := listener.FromSystemd()
	if err != nil {
		return nil, err
	}
	parent, err := gateway.FromParent(inherited)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			parent.Fail(err)
		}
	}()
	notifier, err := gateway.SystemdNotifier()
	if err != nil {
		return nil, err
	}
	// Absolute, for logs and for commands that ask which file the gateway uses.
	file, err := filepath.Abs(c.Config)
	if err != nil {
		return nil, err
	}
	load := func() (*config.Config, error) { return config.Load(file, config.Options{}) }
	cfg, err := load()
	if err != nil {
		return nil, err
	}
	// What a restart cannot fix is an error of the configuration: systemd must not try again.
	if faults := gateway.CheckFiles(cfg); len(faults) > 0 {
		return nil, config.Errors(faults)
	}
	o := gateway.Options{Version: version(), Inherited: inherited, Load: load, Notifier: notifier, Parent: parent, Command: again(), Shield: early.Shield}
	return &setup{cfg, o, func(err error) {
		if err != nil {
			parent.Fail(err)
		}
		notifier.Close()
	}}, nil
}

// again is the command that started this process. It names the file as it was named then, because
// the link or the file may have been replaced since.
func again() func() (string, []string) {
	path, err := exec.LookPath(os.Args[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		path, err = os.Executable()
	}
	if err != nil {
		return nil
	}
	return func() (string, []string) { return path, os.Args[1:] }
}

// serve prepares a gateway and runs it until a signal ends it. ready is called once it accepts.
func serve(p *program, signals chan os.Signal, prepare func() (*setup, error), ready func(*gateway.Gateway)) error {
	defer signal.Stop(signals)
	ctx, drain := context.WithCancel(context.Background())
	defer drain()
	kill, end := context.WithCancel(context.Background())
	defer end()

	asked := requests{reload: make(chan struct{}, 1), upgrade: make(chan struct{}, 1)}
	prepared := make(chan struct{})
	done := make(chan error, 2)
	task.Go("gateway", func() {
		var serving task.Group
		s, err := prepare()
		close(prepared)
		if err == nil {
			err = s.run(ctx, kill, p.log, func(g *gateway.Gateway) {
				serving.Go("signals", func() { task.Keep(ctx, "signals", func() { asked.serve(ctx, g) }) }, nil)
				if ready != nil {
					ready(g)
				}
			})
		}
		drain() // if no signal did
		serving.Wait()
		done <- err
	}, func(p *task.Panic) { done <- p }) // without this task the process cannot continue
	for stops := 0; ; {
		select {
		case err := <-done:
			var start startError
			if stops > 0 && errors.As(err, &start) && errors.Is(start.err, context.Canceled) {
				return nil // it ended before it was ready
			}
			return err
		case s := <-signals:
			switch {
			case s == syscall.SIGHUP:
				trigger(asked.reload)
			case s == syscall.SIGUSR2:
				trigger(asked.upgrade)
			case stops == 0:
				stops++
				drain()
				select {
				case <-prepared:
				default:
					return nil // nothing has been opened yet
				}
			default:
				end()
				signal.Stop(signals) // a third signal ends the process in any case
			}
		}
	}
}

// run opens the gateway and runs it until ctx or kill ends.
func (s *setup) run(ctx, kill context.Context, log *ownLog, ready func(*gateway.Gateway)) (err error) {
	defer func() {
		if s.end != nil {
			s.end(err)
		}
	}()
	s.options.Logger, s.options.LogSettings, s.options.LogDropped = log.Logger, log.settings, log.dropped
	log.settings.Set(&s.config.Log)
	for _, w := range s.config.Warnings {
		log.Warn("configuration", "file", w.File, "line", w.Line, "key", w.Key, "warning", w.Msg)
	}
	g, err := gateway.Open(ctx, s.config, s.options)
	if err != nil {
		return startError{err}
	}
	return g.Run(ctx, kill, func() { ready(g) })
}

// startError is the error of a gateway that cannot start although its configuration is valid: a
// port in use may be free a moment later. It is not an error of the configuration, even if it names
// a place in it.
type startError struct{ err error }

func (e startError) Error() string { return e.err.Error() }

// requests are what signals ask of a gateway.
type requests struct{ reload, upgrade chan struct{} }

// trigger sends on c without waiting.
func trigger(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is pending, and will have the same effect
	}
}

// serve carries out the requests until ctx ends, and logs errors.
func (w *requests) serve(ctx context.Context, g *gateway.Gateway) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.reload:
			_ = g.ReopenLogs() // it logs
			_ = g.Reload(ctx)  // likewise
		case <-w.upgrade:
			_ = g.Upgrade(ctx) // it logs
		}
	}
}
