package files

import (
	"io/fs"
	"strconv"
	"time"

	"mpgate/proxy/coding"
)

// Validator is what tells one state of a file from another.
type Validator struct {
	// ETag is strong, as the time of modification has nanoseconds.
	ETag []byte
	// Modified is in whole seconds. It is zero if the file has no date that clients may use.
	Modified time.Time

	settled bool // Modified is a strong validator, too (RFC 9110 section 8.8.2.2)
}

// firstDate is what build tools for reproducible archives set as the time of modification: the
// beginning of Unix time, or that of ZIP. Before it, the time says nothing.
var firstDate = time.Date(1980, 1, 2, 0, 0, 0, 0, time.UTC)

func newValidator(info fs.FileInfo, c coding.Coding, now time.Time) Validator {
	var v Validator
	t := info.ModTime()
	if t.Before(firstDate) {
		t = changeTime(info)
	} else if !t.After(now) { // RFC 9110 section 8.8.2.1 forbids dates in the future
		v.Modified = t.Truncate(time.Second).UTC()
		v.settled = now.Sub(v.Modified) > time.Second
	}
	tag := append(make([]byte, 0, 40), '"')
	tag = strconv.AppendUint(tag, uint64(t.UnixNano()), 36)
	tag = append(tag, '-')
	tag = strconv.AppendUint(tag, uint64(info.Size()), 36)
	if c != coding.Identity {
		tag = append(append(tag, '-'), c.String()...)
	}
	v.ETag = append(tag, '"')
	return v
}
