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

// lastLines is how long a process that ends waits for standard error to take what was logged.
const lastLines = time.Second

// openLog makes p.log, and has all that this program says on standard error go the same way from
// here on: through a spool, so that nobody ever waits for whoever reads it. A reader that stops
// must not stop the gateway.
func openLog(p *program) {
	l := &ownLog{settings: new(gateway.LogSettings), dropped: new(telemetry.Counter)}
	l.Logger = gateway.NewLogger(l.settings, p.stderr)
	if f, ok := p.stderr.(telemetry.Blocking); ok {
		spool, err := telemetry.OpenSpool(telemetry.SpoolOptions{
			Output: f, Dropped: l.dropped, FlushEvery: time.Nanosecond, ReportEvery: time.Second,
			Own: func(w io.Writer) *slog.Logger { return gateway.NewLogger(l.settings, w) },
		})
		if err == nil { // else standard error is closed
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
	slog.SetDefault(l.Logger) // the log package's, which some libraries use, too
	p.log = l
}
