package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"mpgate/task"
)

// Notifier sends notifications to the service manager (sd_notify). A nil Notifier sends none.
type Notifier struct {
	conn *net.UnixConn
	// Watchdog is how often the manager must be notified that the gateway answers; 0: never.
	Watchdog time.Duration
	// Store is how many descriptors it keeps over a restart.
	Store int
}

// SystemdNotifier is the one that the environment names (NOTIFY_SOCKET), nil where there is none.
func SystemdNotifier() (*Notifier, error) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil, nil
	}
	n, err := NewNotifier(path)
	if err != nil {
		return nil, err
	}
	if n.Watchdog, err = daemon.SdWatchdogEnabled(false); err != nil {
		return nil, fmt.Errorf("WATCHDOG_USEC: %w", err)
	}
	n.Store, _ = strconv.Atoi(os.Getenv("FDSTORE")) // absent before systemd 254
	return n, nil
}

// NewNotifier sends to the manager at a unix datagram socket; @name is an abstract one.
func NewNotifier(path string) (*Notifier, error) {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	return &Notifier{conn: conn}, nil
}

// Close closes its socket.
func (n *Notifier) Close() {
	if n != nil {
		_ = n.conn.Close()
	}
}

// send sends lines such as READY=1. Errors are ignored.
func (n *Notifier) send(lines ...string) {
	if n != nil {
		_ = n.sendFiles(nil, lines...)
	}
}

// sendFiles sends descriptors along, which stay open here.
func (n *Notifier) sendFiles(files []*os.File, lines ...string) error {
	if n == nil {
		return errors.New("there is no service manager")
	}
	fds := make([]int, 0, len(files))
	for _, f := range files {
		rc, err := f.SyscallConn() // Fd would make it blocking
		if err != nil {
			return err
		}
		if err := rc.Control(func(fd uintptr) { fds = append(fds, int(fd)) }); err != nil {
			return err
		}
	}
	var rights []byte
	if len(fds) > 0 {
		rights = syscall.UnixRights(fds...)
	}
	_ = n.conn.SetWriteDeadline(time.Now().Add(time.Second))
	rc, err := n.conn.SyscallConn() // WriteMsgUnix refuses a connected socket
	if err != nil {
		return err
	}
	var sendErr error
	err = rc.Write(func(fd uintptr) bool {
		sendErr = syscall.Sendmsg(int(fd), []byte(strings.Join(lines, "\n")), rights, nil, 0)
		return sendErr != syscall.EAGAIN
	})
	return errors.Join(err, sendErr)
}

// barrier returns when the manager has processed everything that was sent before, or ctx ends.
func (n *Notifier) barrier(ctx context.Context) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	err = n.sendFiles([]*os.File{w}, "BARRIER=1")
	w.Close()
	if err != nil {
		return err
	}
	stop := task.AfterDone(ctx, "service manager: barrier", func() { _ = r.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err = r.Read(make([]byte, 1)); err == io.EOF {
		return nil // the manager closed its end
	}
	return err
}
