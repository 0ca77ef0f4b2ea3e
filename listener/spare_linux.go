package listener

import (
	"net/netip"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

func bindingOf(f *os.File) (b binding, only6, ok bool) {
	rc, err := f.SyscallConn()
	if err != nil {
		return b, false, false
	}
	_ = rc.Control(func(fd uintptr) {
		sa, err := unix.Getsockname(int(fd))
		if err != nil {
			return
		}
		switch sa := sa.(type) {
		case *unix.SockaddrInet4:
			b.addr, ok = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), true
		case *unix.SockaddrInet6:
			a := netip.AddrFrom16(sa.Addr)
			if sa.ZoneId != 0 {
				a = a.WithZone(strconv.Itoa(int(sa.ZoneId)))
			}
			b.addr, ok = netip.AddrPortFrom(a, uint16(sa.Port)), true
			v, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
			only6 = err == nil && v != 0
		case *unix.SockaddrUnix:
			b.path, ok = sa.Name, sa.Name != ""
		}
	})
	return b, only6, ok
}

// inodeOf identifies a socket; 0 where it cannot.
func inodeOf(f *os.File) uint64 {
	rc, err := f.SyscallConn()
	if err != nil {
		return 0
	}
	var st unix.Stat_t
	if e := rc.Control(func(fd uintptr) { err = unix.Fstat(int(fd), &st) }); e != nil || err != nil {
		return 0
	}
	return st.Ino
}

// fileOf finds the file of an inherited unix socket, so that Close can remove it.
func fileOf(path string) unixFile {
	var st unix.Stat_t
	if path == "" || path[0] == '@' || unix.Lstat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return unixFile{}
	}
	return unixFile{path: path, dev: uint64(st.Dev), ino: st.Ino}
}
