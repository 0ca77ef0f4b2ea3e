package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"mpgate/config"
	"mpgate/gateway"
	"mpgate/listener"
	"mpgate/telemetry"
)

type runCmd struct {
	configFlag
}

func (c *runCmd) Run(p *program) error {
	load := func() (*config.Config, error) { return config.Load(c.Config, config.Options{}) }
	cfg, err := load()
	if err != nil {
		return err
	}
	inherited, err := listener.FromSystemd()
	if err != nil {
		return err
	}
	return serve(p, cfg, gateway.Options{Version: version(), Inherited: inherited, Load: load}, nil)
}

// serve runs a gateway until a signal ends it: SIGTERM or SIGINT drains, a second one ends at once, SIGHUP
// reloads and reopens log files. ready is called once it accepts.
func serve(p *program, cfg *config.Config, o gateway.Options, ready func(*gateway.Gateway)) error {
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
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)

	g, err := gateway.Open(context.Background(), cfg, o)
	if err != nil {
		return err
	}
	ctx, drain := context.WithCancel(context.Background())
	kill, end := context.WithCancel(context.Background())
	defer end()
	done := make(chan error, 1)
	go func() {
		done <- g.Run(ctx, kill, func() {
			if ready != nil {
				ready(g)
			}
		})
	}()
	for stops := 0; ; {
		select {
		case err := <-done:
			drain()
			return err
		case s := <-signals:
			switch {
			case s == syscall.SIGHUP:
				hangUp(g, o.Logger)
			case stops == 0:
				stops++
				drain()
			default:
				end()
			}
		}
	}
}

// hangUp reloads and reopens; what is wrong is logged there.
func hangUp(g *gateway.Gateway, log *slog.Logger) {
	if err := g.ReopenLogs(); err != nil {
		log.Error("log file not reopened", "error", err)
	}
	_ = g.Reload(context.Background())
}
