package lab

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// childEnv marks the lab's child process: this binary, executed again.
const childEnv = "MPGATE_LAB_CHILD"

// The child gets its control socket, the namespaces and the TUN devices as
// descriptors, in this order.
const controlFd = 3

// setup is the first message on the control socket.
type setup struct {
	Spaces int // that many descriptors follow controlFd
	Links  []childLink
	Seed   uint64
}

// childLink is an emulated link; its two TUN descriptors follow the spaces.
type childLink struct {
	There, Back Path
	MTU         int
	Box         Box
}

// request is any later message; each is answered by one reply.
type request struct {
	Link    int
	Dir     Direction
	Path    *Path
	Silent  *bool
	Box     *Box
	Carrier *bool
	Name    string // a bind mount to remove at the end
	Stats   bool
}

type reply struct {
	Err      string
	Count    [2]Counters
	CPU      time.Duration
	Realtime bool
}

// An init function, because whatever binary uses this package (a test, the
// benchmarks) is executed again, and its main must not run then.
func init() {
	if os.Getenv(childEnv) == "" {
		return
	}
	c := &child{}
	if err := c.run(); err != nil {
		fmt.Fprintln(os.Stderr, "lab: child:", err)
		c.clean()
		unix.Exit(1)
	}
	c.clean()
	unix.Exit(0)
}

// child runs the emulator, and cleans up when the parent closes the control
// socket or is gone. It is one thread: the loop in emulator_linux.go.
type child struct {
	spaces   []int // descriptors
	links    []*emulated
	names    []string
	realtime bool
}

func (c *child) run() error {
	// The thread sleeps inside raw system calls, where Go's scheduler cannot
	// reach it: nothing may wait for it. So no collection (garbage is only made
	// by control messages), and no preemption signals (see startChild).
	debug.SetGCPercent(-1)
	for fd := controlFd; unix.SetNonblock(fd, fd != controlFd) == nil; fd++ {
		unix.CloseOnExec(fd)
	}
	var s setup
	if eof, err := receive(controlFd, &s); err != nil || eof {
		return err
	}
	fd := controlFd + 1
	for range s.Spaces {
		c.spaces = append(c.spaces, fd)
		fd++
	}
	for i, l := range s.Links {
		c.links = append(c.links, newEmulated(l, fd, fd+1, s.Seed, uint64(i)))
		fd += 2
	}
	// Ahead of the load, or the delay of the links would depend on it.
	param := struct{ priority int32 }{1}
	_, _, errno := unix.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, 0, unix.SCHED_FIFO, uintptr(unsafe.Pointer(&param)))
	if c.realtime = errno == 0; !c.realtime {
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -20)
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	}
	if err := send(controlFd, reply{Realtime: c.realtime}); err != nil {
		return err
	}
	return c.loop()
}

// control takes one message. done says that the parent has closed the socket.
func (c *child) control(now int64) (done bool, err error) {
	var q request
	if done, err = receive(controlFd, &q); done || err != nil {
		return done, err
	}
	r := reply{Realtime: c.realtime}
	if err := c.do(q, now, &r); err != nil {
		r.Err = err.Error()
	}
	return false, send(controlFd, r)
}

func (c *child) do(q request, now int64, r *reply) error {
	if q.Name != "" {
		c.names = append(c.names, q.Name)
		return nil
	}
	if q.Stats {
		var usage unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
			return err
		}
		r.CPU = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	if q.Link < 0 {
		return nil
	}
	if q.Link >= len(c.links) {
		return fmt.Errorf("no link %d", q.Link)
	}
	l := c.links[q.Link]
	for i, p := range l.pipes {
		if q.Dir.has(i) {
			if q.Path != nil {
				p.set(*q.Path, now)
			}
			if q.Silent != nil {
				p.silent = *q.Silent
			}
			if q.Box != nil {
				p.box = *q.Box
			}
		}
		r.Count[i] = p.Count
	}
	if q.Carrier != nil {
		l.unplugged = !*q.Carrier
		on := 0
		if *q.Carrier {
			on = 1
		}
		for _, fd := range l.fds {
			if err := unix.IoctlSetPointerInt(fd, unix.TUNSETCARRIER, on); err != nil {
				return fmt.Errorf("carrier: %w", err)
			}
		}
	}
	return nil
}

// clean ends what still runs in the lab's namespaces and removes names. The
// namespaces themselves end with the process.
func (c *child) clean() {
	for _, name := range c.names {
		_ = unix.Unmount(name, unix.MNT_DETACH)
		_ = os.Remove(name)
	}
	type id struct{ dev, ino uint64 }
	ours := map[id]bool{}
	for _, fd := range c.spaces {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil {
			ours[id{st.Dev, st.Ino}] = true
		}
	}
	// A process may fork while the list is read: until a round finds none.
	for range 100 {
		found := false
		entries, _ := filepath.Glob("/proc/[0-9]*/ns/net")
		for _, entry := range entries {
			var st unix.Stat_t
			if unix.Stat(entry, &st) != nil || !ours[id{st.Dev, st.Ino}] {
				continue
			}
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(entry))))
			if err == nil && pid != os.Getpid() && unix.Kill(pid, unix.SIGKILL) == nil {
				found = true
			}
		}
		if !found {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// send and receive pass one JSON message on a SOCK_SEQPACKET socket.
func send(fd int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	for {
		if err = unix.Sendto(fd, b, unix.MSG_NOSIGNAL, nil); err != unix.EINTR {
			return err
		}
	}
}

func receive(fd int, v any) (eof bool, err error) {
	b := make([]byte, 128<<10)
	for {
		n, _, err := unix.Recvfrom(fd, b, 0)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.ECONNRESET: // the other end closed with a message unread
			return true, nil
		case err != nil:
			return false, err
		case n == 0:
			return true, nil
		}
		return false, json.Unmarshal(b[:n], v)
	}
}
