package files

import (
	"path"
	"strconv"
	"time"
)

// Validator is what tells one state of a file from another.
type Validator struct {
	// ETag is strong, as the time of modification has nanoseconds.
	ETag string
	// Modified is in whole seconds. It is zero if the file has no date that clients may use.
	Modified time.Time
	// LastModified is Modified as in the field of that name; "" if that is zero.
	LastModified string
}

// firstDate is what build tools for reproducible archives set as the time of modification: the
// beginning of Unix time, or that of ZIP. Before it, the time says nothing.
var firstDate = time.Date(1980, 1, 2, 0, 0, 0, 0, time.UTC)

func newValidator(s *state, name string, now time.Time) (v Validator) {
	t := time.Unix(0, s.modified)
	switch {
	case t.Before(firstDate):
		t = time.Unix(0, s.changed) // which nobody can set
	case !t.After(now): // RFC 9110 section 8.8.2.1 forbids dates in the future
		v.Modified = t.Truncate(time.Second).UTC()
		v.LastModified = v.Modified.Format(timeFormat)
	}
	tag := append(make([]byte, 0, 40), '"')
	tag = strconv.AppendUint(tag, uint64(t.UnixNano()), 36)
	tag = append(tag, '-')
	tag = strconv.AppendUint(tag, uint64(s.size), 36)
	switch suffix := path.Ext(name); suffix {
	case ".zst", ".br", ".gz": // a variant of a file must have another tag than the file
		tag = append(append(tag, '-'), suffix[1:]...)
	}
	v.ETag = string(append(tag, '"'))
	return v
}

// settled says whether the date is a strong validator, too (RFC 9110 section 8.8.2.2).
func (v *Validator) settled(now time.Time) bool {
	return !v.Modified.IsZero() && now.Sub(v.Modified) > time.Second
}
