package listener

import (
	"context"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// unixFile is a socket in the file system that this process made.
type unixFile struct {
	path     string
	dev, ino uint64
}

// remove unlinks the socket, unless another has taken its place.
func (f unixFile) remove() error {
	if f.path == "" {
		return nil
	}
	defer lockDir(context.Background(), f.path)()
	var st unix.Stat_t
	if err := unix.Lstat(f.path, &st); err != nil || uint64(st.Dev) != f.dev || st.Ino != f.ino {
		return nil
	}
	return os.Remove(f.path)
}

// listenUnix binds a unix socket at path (@name for an abstract one) with the
// given mode: at no moment are the permissions wider.
func listenUnix(ctx context.Context, path string, mode os.FileMode) (*net.UnixListener, unixFile, error) {
	if err := checkPath(path); err != nil {
		return nil, unixFile{}, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, unixFile{}, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	file, err := bindUnix(ctx, fd, path, mode)
	if err != nil {
		return nil, unixFile{}, err
	}
	nl, err := net.FileListener(f)
	if err != nil {
		file.remove()
		return nil, unixFile{}, err
	}
	return nl.(*net.UnixListener), file, nil
}

func checkPath(path string) error {
	const longest = 107 // sun_path, with a zero at its end
	switch {
	case path == "" || path == "@":
		return &Error{What: `unix: needs a path (got "unix:` + path + `")`, Remedy: "unix:/run/mpgate/NAME.sock"}
	case len(path) > longest:
		return &Error{What: fmt.Sprintf("the path of a unix socket must not exceed %d bytes (got %d: %q)", longest, len(path), path),
			Remedy: "use a shorter one"}
	}
	return nil
}

func bindUnix(ctx context.Context, fd int, path string, mode os.FileMode) (unixFile, error) {
	if strings.HasPrefix(path, "@") {
		if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
			return unixFile{}, os.NewSyscallError("bind", err)
		}
		return unixFile{}, listenFD(fd)
	}
	defer lockDir(ctx, path)()
	if err := clearStale(path); err != nil {
		return unixFile{}, err
	}
	// The file gets the mode of the socket's inode, less the umask: if the mode is set before bind,
	// it is never wider. (The umask belongs to the whole process.)
	if err := unix.Fchmod(fd, uint32(mode.Perm())); err != nil {
		return unixFile{}, os.NewSyscallError("fchmod", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return unixFile{}, os.NewSyscallError("bind", err)
	}
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	if err != nil {
		return unixFile{}, os.NewSyscallError("lstat", err)
	}
	file := unixFile{path: path, dev: uint64(st.Dev), ino: st.Ino}
	if os.FileMode(st.Mode).Perm() != mode.Perm() {
		err = chmodSocket(file, mode)
	}
	if err == nil {
		// Under the lock, because a socket that is bound and does not listen yet looks stale.
		err = listenFD(fd)
	}
	if err != nil {
		os.Remove(path)
		return unixFile{}, err
	}
	return file, nil
}

// listenFD listens with the longest queue: the kernel cuts it to net.core.somaxconn.
func listenFD(fd int) error {
	return os.NewSyscallError("listen", unix.Listen(fd, math.MaxInt32))
}

// chmodSocket adds the permissions that the umask removed. It does not follow a link that may have
// replaced the file.
func chmodSocket(file unixFile, mode os.FileMode) error {
	fd, err := unix.Open(file.path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if uint64(st.Dev) != file.dev || st.Ino != file.ino {
		return &Error{What: "unix:" + file.path + " was replaced while mpgate opened it", Remedy: "check which other program writes to that directory"}
	}
	return os.NewSyscallError("chmod", unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), uint32(mode.Perm())))
}

// clearStale removes a socket without a listener. Anything else at the path is an error.
func clearStale(path string) error {
	var st unix.Stat_t
	switch err := unix.Lstat(path, &st); {
	case err == unix.ENOENT:
		return nil
	case err != nil:
		return os.NewSyscallError("lstat", err)
	case st.Mode&unix.S_IFMT != unix.S_IFSOCK:
		return &Error{What: path + " exists and is not a socket", Remedy: "remove it, or use another path"}
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	switch err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err {
	case unix.ECONNREFUSED:
		return os.Remove(path)
	case unix.ENOENT:
		return nil
	case nil, unix.EAGAIN, unix.EINPROGRESS, unix.EPROTOTYPE:
		return &Error{What: "another process listens on unix:" + path, Err: unix.EADDRINUSE, Remedy: "stop it (ss -lxp shows which), or use another path"}
	default:
		return os.NewSyscallError("connect", err)
	}
}

// lockDir prevents two mpgate processes from finding the same socket stale and removing each
// other's new one. A lock that is held for longer belongs to another program and is not waited for.
func lockDir(ctx context.Context, path string) (unlock func()) {
	fd, err := unix.Open(filepath.Dir(path), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return func() {}
	}
	for range 200 {
		if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK || !pause(ctx, 5*time.Millisecond) {
			break
		}
	}
	return func() { unix.Close(fd) }
}
