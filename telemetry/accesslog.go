package telemetry

import (
	"context"
	"sync"
)

// AccessLogOptions say how and where exchanges are logged.
type AccessLogOptions struct {
	Format Format
	// Fields are added to the lines, which FormatCombined has no place for.
	Fields []LogField
	// query parameters whose values are replaced by "***"; names as a server decodes them, any case
	Redact []string
	SpoolOptions
}

// AccessLog writes one line for each exchange. A nil AccessLog logs nothing.
type AccessLog struct {
	fields     []field
	appendLine func(b []byte, fields []field, r *Record) []byte // the format
	spool      *Spool

	requestHeaders, responseHeaders []string
}

// OpenAccessLog opens the destination. Lines are buffered until Run is called; with Destination
// "off" the log is nil.
func OpenAccessLog(o AccessLogOptions) (*AccessLog, error) {
	if o.Destination == "off" {
		return nil, nil
	}
	spool, err := OpenSpool(o.SpoolOptions)
	if err != nil {
		return nil, err
	}
	l := &AccessLog{fields: accessFields(o.Redact, o.Fields...), appendLine: appendJSON, spool: spool}
	switch o.Format {
	case FormatText:
		l.appendLine = appendText
	case FormatCombined:
		l.appendLine, o.Fields = combined(o.Redact), combinedFields
	}
	l.requestHeaders, l.responseHeaders = headersOf(o.Fields, false), headersOf(o.Fields, true)
	return l, nil
}

// RequestHeaders are the names of the header fields of requests that lines need; see
// Record.AddHeader.
func (l *AccessLog) RequestHeaders() []string {
	if l == nil {
		return nil
	}
	return l.requestHeaders
}

// ResponseHeaders are those of responses.
func (l *AccessLog) ResponseHeaders() []string {
	if l == nil {
		return nil
	}
	return l.responseHeaders
}

// lines are buffers to encode in, outside the spool's lock.
var lines = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

// maxPooledLine bounds the buffers that are kept: a buffer for one huge path is not.
const maxPooledLine = 16 << 10

// Log adds the record's line. It waits only while the sink blocks and the buffers are full, and
// then only as Spool.Write says.
func (l *AccessLog) Log(r *Record) {
	if l == nil {
		return
	}
	line := lines.Get().(*[]byte)
	b := l.appendLine((*line)[:0], l.fields, r)
	l.spool.add(b)
	if cap(b) <= maxPooledLine {
		*line = b
		lines.Put(line)
	}
}

// Run writes the buffered lines until Close, or until ctx ends.
func (l *AccessLog) Run(ctx context.Context) error {
	if l == nil {
		return nil
	}
	return l.spool.Run(ctx)
}

// Reopen opens a file again, after it was renamed. See Spool.Reopen.
func (l *AccessLog) Reopen() error {
	if l == nil {
		return nil
	}
	return l.spool.Reopen()
}

// Close writes the buffered lines, for as long as ctx allows.
func (l *AccessLog) Close(ctx context.Context) error {
	if l == nil {
		return nil
	}
	return l.spool.Close(ctx)
}
