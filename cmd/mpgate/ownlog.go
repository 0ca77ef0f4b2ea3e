package main

import (
	"context"
	"io"
	"log/slog"
	"time"

	"mpgate/gateway"
	"mpgate/task"
	"mpgate/telemetry"
)

// ownLog is the program's own log while it serves.
type ownLog struct {
	*slog.Logger
	settings *gateway.LogSettings
	dropped  *telemetry.Counter
}

// lastLines is how long a process that ends waits until standard error accepts the last lines.
const lastLines = time.Second

// openLog sets p.log, and sends all further output on standard error through a spool, so that the
// gateway never waits for its reader. A reader that stops must not stop the gateway.
func openLog(p *program) {
	l := &ownLog{settings: new(gateway.LogSettings), dropped: new(telemetry.Counter)}
	l.Logger = gateway.NewLogger(l.settings, p.stderr)
	if f, ok := p.stderr.(telemetry.Blocking); ok {
		spool, err := telemetry.OpenSpool(telemetry.SpoolOptions{
			Output: f, Dropped: l.dropped, FlushEvery: time.Nanosecond, ReportEvery: time.Second,
			Own: func(w io.Writer) *slog.Logger { return gateway.NewLogger(l.settings, w) },
		})
		if err == nil { // otherwise standard error is closed
			neverBlock(f.Fd())
			var writer task.Group
			writer.Go("log", func() { _ = spool.Run(context.Background()) }, nil)
			p.stderr = spool
			p.end = func() {
				ctx, cancel := context.WithTimeout(context.Background(), lastLines)
				defer cancel()
				_ = spool.Close(ctx)
			}
			l.Logger = gateway.NewLogger(l.settings, spool)
		}
	}
	slog.SetDefault(l.Logger) // also package log, which some libraries use
	p.log = l
}
