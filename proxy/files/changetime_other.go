//go:build !linux

package files

import (
	"io/fs"
	"time"
)

// changeTime is that of the modification here.
func changeTime(info fs.FileInfo) time.Time { return info.ModTime() }
