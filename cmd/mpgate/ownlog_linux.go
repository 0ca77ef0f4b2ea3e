package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// neverBlock replaces fd, a pipe or terminal, with a non-blocking one that it reopens. Go's runtime
// writes to it when the program crashes, and would wait for the reader instead of ending. Other
// programs that have the pipe open are not affected. What cannot be reopened, such as a socket,
// stays.
func neverBlock(fd uintptr) {
	var st unix.Stat_t
	if unix.Fstat(int(fd), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO && st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return
	}
	own, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer unix.Close(own)
	_ = unix.Dup3(own, int(fd), 0)
}
