package gateway

import (
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// siblingEnd is how long end waits for a killed process.
const siblingEnd = 2 * time.Second

// makeSibling makes the new process of an upgrade a child of this one's parent (CLONE_PARENT,
// clone(2)) if that is systemd. systemd waits only for its own children: a main process that is the
// child of another gets SIGTERM and, if it is alone in the unit, SIGKILL at once. It must hold when
// systemd learns of the new main process, not only after the end of this process.
func (g *Gateway) makeSibling(cmd *exec.Cmd) {
	// The first process of a PID namespace cannot have siblings.
	if g.options.Notifier == nil || os.Getenv("INVOCATION_ID") == "" || os.Getpid() == 1 {
		return
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_PARENT}
}

// isSibling reports whether this process is not the parent of the new one.
func isSibling(cmd *exec.Cmd) bool {
	return cmd.SysProcAttr != nil && cmd.SysProcAttr.Cloneflags&syscall.CLONE_PARENT != 0
}

// awaitEnd waits until the new process has ended, which was killed.
func awaitEnd(cmd *exec.Cmd) {
	if !isSibling(cmd) {
		_ = cmd.Wait()
		return
	}
	// wait(2) is for children only; a pidfd can be polled by anyone.
	_ = cmd.Process.WithHandle(func(pidfd uintptr) {
		poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		for end := time.Now().Add(siblingEnd); ; {
			_, err := unix.Poll(poll, int(time.Until(end).Milliseconds()))
			if err != unix.EINTR || time.Now().After(end) {
				return
			}
		}
	})
	_ = cmd.Process.Release()
}
