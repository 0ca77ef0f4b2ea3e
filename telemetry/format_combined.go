package telemetry

import "time"

// combinedFields are the header fields of the format.
var combinedFields = []LogField{fieldReferer, fieldUserAgent}

// combined returns the Combined Log Format of Apache httpd:
//
//	client - - [time] "request line" status bytes "referer" "user agent"
//
// What is absent is "-". The status of an exchange without a response is 000.
func combined(redact []string) func(b []byte, _ []field, r *Record) []byte {
	path := func(b, value []byte) []byte { return appendRedacted(b, value, redact, appendHex) }
	return func(b []byte, _ []field, r *Record) []byte {
		b = orDash(b, appendAddr(b, r.Client))
		b = append(b, " - - ["...)
		b = appendCombinedTime(b, r.Time)
		b = append(b, `] "`...)
		if len(r.Method) == 0 {
			b = append(b, '-')
		} else {
			b = append(appendHex(b, r.Method), ' ')
			b = append(path(b, r.Path), ' ')
			b = append(b, r.Proto.String()...)
		}
		b = append(b, `" `...)
		b = append3(b, r.Status)
		b = append(b, ' ')
		if r.BytesOut == 0 {
			b = append(b, '-')
		} else {
			b = appendInt(b, r.BytesOut)
		}
		b = append(b, ` "`...)
		b = orDash(b, r.appendHeader(b, fieldReferer.Header, false, path))
		b = append(b, `" "`...)
		b = orDash(b, r.appendHeader(b, fieldUserAgent.Header, false, appendHex))
		return append(b, '"', '\n')
	}
}

// orDash returns after, or before with a dash if nothing was appended to it.
func orDash(before, after []byte) []byte {
	if len(after) == len(before) {
		return append(after, '-')
	}
	return after
}

// appendCombinedTime appends a time as 10/Oct/2000:13:55:36 +0000.
func appendCombinedTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	b = append(append2(b, day), '/')
	b = append(append(b, month.String()[:3]...), '/')
	b = append2(append2(b, year/100), year%100)
	b = append2(append(b, ':'), hour)
	b = append2(append(b, ':'), minute)
	b = append2(append(b, ':'), second)
	return append(b, " +0000"...)
}

// appendHex appends a value as Apache httpd escapes it: \" and \\, and \xhh for what is not a
// printable ASCII character.
func appendHex(b, value []byte) []byte {
	for _, c := range value {
		switch {
		case plain[c]:
			b = append(b, c)
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		default:
			b = append(b, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return b
}
