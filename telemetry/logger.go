package telemetry

import (
	"fmt"
	"io"
	"log/slog"
)

// Format is how log lines are written.
type Format uint8

const (
	FormatJSON Format = iota // one object a line
	FormatText               // key=value
)

func (f Format) String() string {
	if f == FormatText {
		return "text"
	}
	return "json"
}

// ParseFormat reads "json" or "text".
func ParseFormat(s string) (Format, error) {
	switch s {
	case "json":
		return FormatJSON, nil
	case "text":
		return FormatText, nil
	}
	return 0, fmt.Errorf("unknown log format (got %q); json or text", s)
}

// ParseLevel reads "debug", "info", "warn" or "error".
func ParseLevel(s string) (slog.Level, error) {
	switch s {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("unknown log level (got %q); debug, info, warn or error", s)
}

// NewLogger returns the program's own log. A *slog.LevelVar as level lets a reload change it.
// Durations are written as "11ms" in both formats.
func NewLogger(level slog.Leveler, format Format, w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: durationText}
	if format == FormatText {
		return slog.New(slog.NewTextHandler(w, o))
	}
	return slog.New(slog.NewJSONHandler(w, o))
}

// durationText writes a duration as text, where slog's JSON handler would write nanoseconds.
func durationText(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}
