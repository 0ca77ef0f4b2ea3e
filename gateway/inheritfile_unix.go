//go:build unix

package gateway

import (
	"os"
	"syscall"
)

// inheritFile takes a descriptor that this process was started with; its children are not to have
// it.
func inheritFile(fd int, name string) *os.File {
	syscall.CloseOnExec(fd)
	_ = syscall.SetNonblock(fd, true) // for deadlines
	return os.NewFile(uintptr(fd), name)
}
