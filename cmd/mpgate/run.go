package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"mpgate/config"
	"mpgate/gateway"
	"mpgate/listener"
	"mpgate/telemetry"
)

type runCmd struct {
	configFlag
}

func (runCmd) Help() string {
	return `SIGTERM and SIGINT drain: requests under way come to their end, for as long as shutdown.drain allows; a second one ends at once. SIGHUP reads the configuration anew, as mpgate reload does, and reopens log files.

The access log goes to where log.access says, the program's own log to standard error.

    mpgate run -c mpgate.toml`
}

func (c *runCmd) Run(p *program) error {
	signals := notifySignals()
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
	inherited, err := listener.FromSystemd()
	if err != nil {
		return err
	}
	o := gateway.Options{Version: version(), Inherited: inherited, Load: load, Notify: notifySystemd}
	return serve(p, signals, cfg, o, nil)
}

// notifySignals takes the signals over. It comes first of all: before that, SIGHUP would end the process.
func notifySignals() chan os.Signal {
	// A log's reader that goes away must not take the gateway with it.
	signal.Ignore(syscall.SIGPIPE)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	return signals
}

// serve runs a gateway until a signal ends it. ready is called once it accepts.
func serve(p *program, signals chan os.Signal, cfg *config.Config, o gateway.Options, ready func(*gateway.Gateway)) error {
	defer signal.Stop(signals)
	o.LogLevel = new(slog.LevelVar)
	o.LogLevel.Set(cfg.Log.Level)
	format, err := telemetry.ParseFormat(string(cfg.Log.Format))
	if err != nil {
		return err
	}
	o.Logger = telemetry.NewLogger(o.LogLevel, format, p.stderr)
	for _, w := range cfg.Warnings {
		o.Logger.Warn("configuration", "file", w.File, "line", w.Line, "key", w.Key, "warning", w.Msg)
	}
	ctx, drain := context.WithCancel(context.Background())
	defer drain()
	kill, end := context.WithCancel(context.Background())
	defer end()

	hangUps := make(chan struct{}, 1)
	done := make(chan error, 1)
	go func() {
		g, err := gateway.Open(ctx, cfg, o)
		if err != nil {
			done <- startError{err}
			return
		}
		reloads := make(chan struct{})
		err = g.Run(ctx, kill, func() {
			go reloadOn(ctx, hangUps, reloads, g, o.Logger)
			if ready != nil {
				ready(g)
			}
		})
		drain() // where no signal did
		<-reloads
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
				select {
				case hangUps <- struct{}{}:
				default: // one is waiting, and will see what this one would
				}
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

// reloadOn reloads and reopens log files for each hang-up, until ctx ends. What is wrong is logged.
func reloadOn(ctx context.Context, hangUps <-chan struct{}, done chan<- struct{}, g *gateway.Gateway, log *slog.Logger) {
	defer close(done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangUps:
		}
		if err := g.ReopenLogs(); err != nil {
			log.Error("log file not reopened", "error", err)
		}
		_ = g.Reload(ctx) // it logs
	}
}
