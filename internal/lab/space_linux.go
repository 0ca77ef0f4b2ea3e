package lab

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// space is a network namespace, held by a descriptor.
type space struct{ file *os.File }

func newSpace() (space, error) {
	var s space
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("lab: new network namespace: %w", err)
		}
		var err error
		s.file, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	return s, err
}

func (s space) fd() int { return int(s.file.Fd()) }

// path is valid for other processes, as long as this one lives.
func (s space) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), s.fd()) }

// do runs f on a thread that is in the namespace and is thrown away afterwards.
func (s space) do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(s.fd(), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("lab: enter network namespace: %w", err)
		}
		return f()
	})
}

var errGoexit = errors.New("lab: the function ended its goroutine (FailNow or Goexit)")

// onThread runs f on a thread that ends with it. A panic continues in the caller.
//
// It is never the process's first thread: that one cannot end, and what
// /proc/self and /proc/PID show of the process is that thread's namespace.
func onThread(f func() error) error {
	type outcome struct {
		err      error
		panicked any
	}
	end := make(chan outcome, 1)
	go func() {
		o := outcome{err: errGoexit}
		defer func() { end <- o }()
		defer func() {
			if v := recover(); v != nil {
				o.panicked = v
			}
		}()
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			defer runtime.UnlockOSThread()
			o.err = onThread(f) // the first thread is taken: another one
			return
		}
		// Not unlocked: the thread ends with the goroutine.
		o.err = f()
	}()
	o := <-end
	if o.panicked != nil {
		panic(o.panicked)
	}
	return o.err
}

// tun makes a TUN device in the namespace.
func (s space) tun(name string) (*os.File, error) {
	var file *os.File
	err := s.do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("lab: /dev/net/tun: %w", err)
		}
		r, err := unix.NewIfreq(name)
		if err == nil {
			r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
		}
		if err != nil {
			_ = unix.Close(fd)
			return fmt.Errorf("lab: TUN device %q: %w", name, err)
		}
		// Not with a "pollable" descriptor: only the child uses it.
		file = os.NewFile(uintptr(fd), "tun "+name)
		return nil
	})
	return file, err
}

// unsegmented makes an interface of this thread's namespace send frames of its
// MTU only: a queue must not see, or lose, 64 KiB at a time.
func unsegmented(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	value := struct{ cmd, data uint32 }{unix.ETHTOOL_STSO, 0}
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return fmt.Errorf("lab: segmentation offload of %q off: %w", name, errno)
	}
	return nil
}
