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

// setup is what a gateway needs, and what is to be done at its end.
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
	// Absolute, for logs and for those who ask which file the gateway runs.
	file, err := filepath.Abs(c.Config)
	if err != nil {
		return nil, err
	}
	load := func() (*config.Config, error) { return config.Load(file, config.Options{}) }
	cfg, err := load()
	if err != nil {
		return nil, err
	}
	// What no restart fixes is a fault of the configuration: systemd is not to try again.
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

// again is how this process was started. The file is named as it was then: the link that leads to
// it, or the file itself, may be another by now.
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

	asked := wishes{reload: make(chan struct{}, 1), upgrade: make(chan struct{}, 1)}
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
		drain() // where no signal did
		serving.Wait()
		done <- err
	}, func(p *task.Panic) { done <- p }) // the one task without which there is nothing to continue with
	for stops := 0; ; {
		select {
		case err := <-done:
			var start startError
			if stops > 0 && errors.As(err, &start) && errors.Is(start.err, context.Canceled) {
				return nil // it was ended before it was ready
			}
			return err
		case s := <-signals:
			switch {
			case s == syscall.SIGHUP:
				wish(asked.reload)
			case s == syscall.SIGUSR2:
				wish(asked.upgrade)
			case stops == 0:
				stops++
				drain()
				select {
				case <-prepared:
				default:
					return nil // nothing has been opened yet, whatever holds it up
				}
			default:
				end()
				signal.Stop(signals) // whatever may hold it up, a third ends the process
			}
		}
	}
}

// run opens the gateway and runs it until ctx and kill say that it is to end.
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

// startError is what kept a gateway from starting though its file is right: a port that is taken
// may be free a moment later. So it is not an error of the configuration, even where it names a
// place in it.
type startError struct{ err error }

func (e startError) Error() string { return e.err.Error() }

// wishes are what signals ask a gateway for.
type wishes struct{ reload, upgrade chan struct{} }

func wish(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is waiting, and will see what this one would
	}
}

// serve does as asked, until ctx ends. What is wrong is logged.
func (w *wishes) serve(ctx context.Context, g *gateway.Gateway) {
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
