package need

import (
	"fmt"
	"testing"
)

// outcome records how a test ends.
type outcome struct{ text string }

func (o *outcome) Helper()                          {}
func (o *outcome) Skipf(format string, args ...any) { o.text = "skip: " + fmt.Sprintf(format, args...) }
func (o *outcome) Fatalf(format string, args ...any) {
	o.text = "fail: " + fmt.Sprintf(format, args...)
}

func TestMissing(t *testing.T) {
	for ci, want := range map[string]string{
		"":     "skip: no-such-program is not installed (Debian: apt install no-such-package)",
		"true": "fail: must not be skipped in CI: no-such-program is not installed (Debian: apt install no-such-package)",
	} {
		t.Setenv("CI", ci)
		var o outcome
		if Program(&o, "no-such-program", "no-such-package"); o.text != want {
			t.Errorf("CI=%s: %q, want %q", ci, o.text, want)
		}
		o.text = ""
		if path := Program(&o, "sh", "dash"); o.text != "" || path == "" {
			t.Errorf("CI=%s: sh is at %q: %q", ci, path, o.text)
		}
	}
}
