package gateway

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"

	"mpgate/config"
	"mpgate/telemetry"
)

// LogSettings are the level and format of a log, which a reload can change.
type LogSettings struct {
	level slog.LevelVar
	text  atomic.Bool
}

// Set takes them from the configuration.
func (s *LogSettings) Set(l *config.Log) {
	if s != nil {
		s.level.Set(l.Level)
		s.text.Store(l.Format != telemetry.FormatJSON)
	}
}

// NewLogger makes the program's own log, which follows the settings.
func NewLogger(s *LogSettings, w io.Writer) *slog.Logger {
	return slog.New(&eitherHandler{s,
		telemetry.NewLogger(&s.level, telemetry.FormatJSON, w).Handler(),
		telemetry.NewLogger(&s.level, telemetry.FormatText, w).Handler()})
}

// eitherHandler writes in the format that the settings say now.
type eitherHandler struct {
	settings   *LogSettings
	json, text slog.Handler
}

func (h *eitherHandler) now() slog.Handler {
	if h.settings.text.Load() {
		return h.text
	}
	return h.json
}

func (h *eitherHandler) Enabled(_ context.Context, l slog.Level) bool {
	return l >= h.settings.level.Level()
}

func (h *eitherHandler) Handle(ctx context.Context, r slog.Record) error {
	return h.now().Handle(ctx, r)
}

func (h *eitherHandler) WithAttrs(a []slog.Attr) slog.Handler {
	return &eitherHandler{h.settings, h.json.WithAttrs(a), h.text.WithAttrs(a)}
}

func (h *eitherHandler) WithGroup(name string) slog.Handler {
	return &eitherHandler{h.settings, h.json.WithGroup(name), h.text.WithGroup(name)}
}
