//go:build !linux

package listener

import "os"

// There is no store of sockets on this system, and no handover.
func bindingOf(*os.File) (b binding, only6, ok bool) { return b, false, false }

func inodeOf(*os.File) uint64 { return 0 }

func fileOf(path string) unixFile { return unixFile{path: path} }
