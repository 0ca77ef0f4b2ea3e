package gateway

import (
	"os/exec"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// startBlocked starts a command with SIGHUP and SIGUSR2 blocked, which would end it before it takes them over. One that comes
// meanwhile waits. Go's runtime leaves such a mask as it is, until os/signal.Notify.
func startBlocked(cmd *exec.Cmd) error {
	runtime.LockOSThread() // the child begins with the mask of the thread that forks
	defer runtime.UnlockOSThread()
	var block, before unix.Sigset_t
	for _, s := range []unix.Signal{unix.SIGHUP, unix.SIGUSR2} {
		const bits = 8 * uint(unsafe.Sizeof(block.Val[0]))
		block.Val[(uint(s)-1)/bits] |= 1 << ((uint(s) - 1) % bits)
	}
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &block, &before); err != nil {
		return cmd.Start()
	}
	defer func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil) }()
	return cmd.Start()
}
