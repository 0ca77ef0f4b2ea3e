package telemetry

import (
	"io"
	"log/slog"
)

// Format is how log lines are written.
type Format uint8

const (
	FormatJSON Format = iota // one object a line
	FormatText               // key=value
	// FormatCombined is that of Apache httpd for the access log, and FormatText for other logs.
	FormatCombined
)

// Values are the texts of all formats, in their order.
func (Format) Values() []string { return []string{"json", "text", "combined"} }

func (f Format) String() string { return f.Values()[f] }

// NewLogger returns the program's own log. A *slog.LevelVar as level lets a reload change it.
// Durations are written as "11ms" in both formats.
func NewLogger(level slog.Leveler, format Format, w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: durationText}
	if format != FormatJSON {
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
