package files

import (
	"io/fs"
	"syscall"
	"time"
)

// changeTime is when the file or its metadata was last changed. Nobody can set it.
func changeTime(info fs.FileInfo) time.Time {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(s.Ctim.Unix())
	}
	return info.ModTime()
}
