package config

import (
	"slices"

	"mpgate/telemetry"
)

// logFields are the fields that can be added to the access log.
var logFields = of(func(s, _ string) (telemetry.LogField, string) {
	f, err := telemetry.ParseLogField(s)
	if err != nil {
		return f, err.Error()
	}
	return f, ""
}, telemetry.LogField.String)

func (l *loader) checkLog(o *Log, n *node) {
	fields := n.get("fields")
	if n.unset("fields", "format") || len(o.Fields) == 0 {
		return
	}
	if o.Format == telemetry.FormatCombined {
		l.fault(fields.at, `has no place in the combined format; leave it out, or write format = "json"`)
	}
	for i, f := range o.Fields {
		if f.Name != "" && slices.ContainsFunc(o.Fields[:i], func(other telemetry.LogField) bool { return other == f }) {
			l.fault(fields.item(i).at, "is in the list twice%s; remove one of them", fields.item(i).got())
		}
	}
}
