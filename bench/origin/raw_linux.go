package origin

import (
	"syscall"
	"unsafe"
)

// rawIO is read(2) or write(2) on a socket that does not block; a large write is handed over in
// pieces of 256 KiB at most, so that no garbage collection waits long for this thread.
func rawIO(call uintptr, fd int, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, _, errno := syscall.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(min(len(p), 256<<10)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
