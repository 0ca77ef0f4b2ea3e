//go:build !linux

package telemetry

import (
	"os"
	"time"
)

// output is a plain file: a sink that blocks delays the spool's writer, but Spool bounds how long a
// caller that adds lines waits.
type output struct {
	file  *os.File
	owned bool
}

func inheritOutput(fd uintptr) (*output, error) {
	return &output{file: os.NewFile(fd, "inherited")}, nil
}

func openOutput(path string) (*output, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return nil, err
	}
	return &output{file: f, owned: true}, nil
}

func (o *output) write(b []byte) (int, error) { return o.file.Write(b) }

func (o *output) wait(time.Duration) bool { return true }

func (o *output) retry(error) (again bool, pause time.Duration) { return false, 0 }

func (o *output) close() {
	if o.owned {
		o.file.Close()
	}
}
