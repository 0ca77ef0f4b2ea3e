package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"mpgate/config"
	"mpgate/gateway"
	"mpgate/listener"
)

type runCmd struct {
	configFlag
}

func (runCmd) Help() string {
	return `SIGTERM and SIGINT drain: requests under way come to their end, for as long as shutdown.drain allows; a second one ends at once. SIGHUP reads the configuration anew, as mpgate reload does, and reopens log files. SIGUSR2 starts the program anew and hands the sockets over to it, as mpgate upgrade does.

The access log goes to where log.access says, the program's own log to standard error.

    mpgate run -c mpgate.toml`
}

func (c *runCmd) Run(p *program) (err error) {
	signals := notifySignals()
	gateway.FollowCgroup()
	inherited, err := listener.FromSystemd()
	if err != nil {
		return err
	}
	parent, err := gateway.FromParent(inherited)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			parent.Fail(err)
		}
	}()
	notifier, err := gateway.SystemdNotifier()
	if err != nil {
		return err
	}
	defer notifier.Close()
	// Absolute, for logs and for those who ask which file the gateway runs.
	file, err := filepath.Abs(c.Config)
	if err != nil {
		return err
	}
	load := func() (*config.Config, error) { return config.Load(file, config.Options{}) }
	cfg, err := load()
	if err != nil {
		return err
	}
	// What no restart mends is a fault of the configuration: systemd is not to try again.
	if faults := gateway.CheckFiles(cfg); len(faults) > 0 {
		return config.Errors(faults)
	}
	o := gateway.Options{Version: version(), Inherited: inherited, Load: load, Notifier: notifier, Parent: parent, Command: again()}
	return serve(p, signals, cfg, o, nil)
}

// notifySignals takes the signals over. It comes first of all: before that, SIGHUP would end the process.
func notifySignals() chan os.Signal {
	// A log's reader that goes away must not take the gateway with it.
	signal.Ignore(syscall.SIGPIPE)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR2)
	return signals
}

// again is how this process was started. The file is named as it was then: the link that leads to it, or the file
// itself, may be another by now.
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

// serve runs a gateway until a signal ends it. ready is called once it accepts.
func serve(p *program, signals chan os.Signal, cfg *config.Config, o gateway.Options, ready func(*gateway.Gateway)) error {
	defer signal.Stop(signals)
	o.LogSettings = new(gateway.LogSettings)
	o.LogSettings.Set(&cfg.Log)
	o.Logger = gateway.NewLogger(o.LogSettings, p.stderr)
	for _, w := range cfg.Warnings {
		o.Logger.Warn("configuration", "file", w.File, "line", w.Line, "key", w.Key, "warning", w.Msg)
	}
	ctx, drain := context.WithCancel(context.Background())
	defer drain()
	kill, end := context.WithCancel(context.Background())
	defer end()

	asked := wishes{reload: make(chan struct{}, 1), upgrade: make(chan struct{}, 1)}
	done := make(chan error, 1)
	go func() {
		g, err := gateway.Open(ctx, cfg, o)
		if err != nil {
			done <- startError{err}
			return
		}
		var serving sync.WaitGroup
		err = g.Run(ctx, kill, func() {
			serving.Go(func() { asked.serve(ctx, g) })
			if ready != nil {
				ready(g)
			}
		})
		drain() // where no signal did
		serving.Wait()
		done <- err
	}()
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
			default:
				end()
				signal.Stop(signals) // whatever may hold it up, a third ends the process
			}
		}
	}
}

// startError is what kept a gateway from starting though its file is right: a port that is taken may be free a
// moment later. So it is no fault of the configuration, even where it names a place in it.
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
