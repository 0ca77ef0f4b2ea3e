package load

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// portsEach is how many connections use one source address: well below the 28,000 ephemeral ports
// that Linux has by default.
const portsEach = 20000

// Idle opens j.Connections connections, has one request answered on each, tells ready, and holds
// them until hold ends. It gives how many were still open then. Connections come from 127.0.0.1,
// 127.0.0.2, … when one address has too few ports.
func Idle(ctx context.Context, j Job, ready func() error, hold io.Reader) (open int, err error) {
	conns := make([]net.Conn, j.Connections)
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			buf := make([]byte, readSize(j.Body))
			for i := w; i < len(conns) && errs[w] == nil; i += len(errs) {
				conns[i], errs[w] = openIdle(ctx, j, i, buf)
			}
		})
	}
	wg.Wait()
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	if err := ready(); err != nil {
		return 0, err
	}
	if _, err := io.Copy(io.Discard, hold); err != nil {
		return 0, err
	}
	for _, c := range conns {
		if stillOpen(c.(*net.TCPConn)) {
			open++
		}
	}
	return open, nil
}

func openIdle(ctx context.Context, j Job, i int, buf []byte) (net.Conn, error) {
	d := net.Dialer{
		Timeout: timeout, KeepAlive: -1,
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+i/portsEach))},
		// The port is chosen when the connection is made: choosing it at bind would need one that
		// no other address uses.
		Control: func(_, _ string, rc syscall.RawConn) error { return bindLate(rc) },
	}
	d.SetMultipathTCP(j.MPTCP)
	conn, err := d.DialContext(ctx, "tcp", j.Address)
	if err != nil {
		return nil, fmt.Errorf("connection %d of %d: %w", i+1, j.Connections, err)
	}
	_ = conn.SetDeadline(time.Now().Add(timeout))
	_, err = conn.Write(j.request())
	var a Answer
	if err == nil {
		a, err = ReadAnswer(conn, buf)
	}
	if err == nil && (a.Status != 200 || a.Close) {
		err = fmt.Errorf("status %d, close %v; want 200 and keep-alive", a.Status, a.Close)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("connection %d of %d: %w", i+1, j.Connections, err)
	}
	// With an expired deadline stillOpen could not see the state of the connection.
	_ = conn.SetDeadline(time.Time{})
	return conn, nil
}

// stillOpen looks whether the other side closed: a read that would block says that it did not.
func stillOpen(c *net.TCPConn) bool {
	rc, err := c.SyscallConn()
	if err != nil {
		return false
	}
	open := false
	var b [1]byte
	err = rc.Read(func(fd uintptr) bool {
		_, err := syscall.Read(int(fd), b[:])
		open = err == syscall.EAGAIN
		return true
	})
	return err == nil && open
}
