package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// socketMode allows the owner and the group to connect.
const socketMode = 0o660

// maxSocketPath is what fits sockaddr_un with its final NUL.
const maxSocketPath = 107

// listen opens unix:/path or host:port; place is nil without a path.
func listen(ctx context.Context, address string, succeed bool) (l net.Listener, at *place, err error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return listenUnix(ctx, path, succeed)
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, nil, fmt.Errorf(`admin: address (got %q); unix:/path or host:port`, address)
	}
	// Go listens with MPTCP by default. Administration must not depend on MPTCP.
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err = lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, nil, fmt.Errorf("admin: %w", err)
	}
	return l, nil, nil
}

// place is the location of a unix socket: first a temporary name in the directory of its path, then
// its path.
type place struct {
	path, beside string
	socket       os.FileInfo

	mu    sync.Mutex
	taken bool
}

// take renames the socket to its path, replacing what was there.
func (p *place) take() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken {
		return nil
	}
	if err := os.Rename(p.beside, p.path); err != nil {
		return fmt.Errorf("admin: unix:%s: %w", p.path, err)
	}
	p.taken = true
	_ = os.Remove(filepath.Dir(p.beside))
	return nil
}

// leave removes the socket from its path, if it is still the one there.
func (p *place) leave() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.taken {
		_ = os.RemoveAll(filepath.Dir(p.beside))
		return
	}
	if now, err := os.Lstat(p.path); err == nil && os.SameFile(now, p.socket) {
		_ = os.Remove(p.path)
	}
}

// listenUnix binds a name beside the path and gives it its mode; take then renames it to the path:
// it never has another mode at its path, and a stale socket is replaced in one step.
func listenUnix(ctx context.Context, path string, succeed bool) (net.Listener, *place, error) {
	if !filepath.IsAbs(path) || len(path) > maxSocketPath {
		return nil, nil, fmt.Errorf("admin: unix socket (got %q, %d bytes); an absolute path of at most %d bytes", path, len(path), maxSocketPath)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, fmt.Errorf("admin: directory of the unix socket: %w", err)
	}
	if err := vacant(ctx, path, succeed); err != nil {
		return nil, nil, err
	}
	// A name of its own in the same directory; relative to the limit it is no longer than the
	// path's.
	work, err := os.MkdirTemp(dir, ".mpgate-")
	if err != nil {
		return nil, nil, fmt.Errorf("admin: directory of the unix socket: %w", err)
	}
	p := &place{path: path, beside: filepath.Join(work, "s")}
	l, err := listenAt(ctx, p.beside)
	if err == nil {
		if err = os.Chmod(p.beside, socketMode); err == nil {
			p.socket, err = os.Lstat(p.beside)
		}
		if err != nil {
			l.Close()
		}
	}
	if err != nil {
		p.leave()
		return nil, nil, fmt.Errorf("admin: unix:%s: %w", path, err)
	}
	return l, p, nil
}

// listenAt binds a path that may be longer than the system takes, by way of its directory's
// descriptor.
func listenAt(ctx context.Context, path string) (*net.UnixListener, error) {
	if len(path) > maxSocketPath {
		dir, err := os.Open(filepath.Dir(path))
		if err != nil {
			return nil, err
		}
		defer dir.Close()
		path = fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	u := l.(*net.UnixListener)
	u.SetUnlinkOnClose(false) // the name it was bound to is gone by then
	return u, nil
}

// vacant reports whether the path may be taken: there is nothing, a socket without a listener, or
// the socket of the process that this one replaces.
func vacant(ctx context.Context, path string, succeed bool) error {
	st, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("admin: unix:%s: %w", path, err)
	}
	if st.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("admin: unix:%s: a file that is not a socket is there; remove it or choose another path", path)
	}
	if succeed {
		return nil
	}
	d := net.Dialer{Timeout: time.Second}
	conn, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		conn.Close()
	}
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	// An error such as EACCES or EAGAIN also means that a process listens there.
	return fmt.Errorf("admin: unix:%s: another process listens there; is this gateway running already?", path)
}

// limitListener pauses accepting while too many connections are open, so that clients of the admin
// address cannot use up the descriptors that the data plane needs.
type limitListener struct {
	net.Listener
	slots  chan struct{}
	once   sync.Once
	closed chan struct{}
}

func (l *limitListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: c, release: sync.OnceFunc(func() { <-l.slots })}, nil
}

func (l *limitListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	release func()
}

func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}
