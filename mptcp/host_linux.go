package mptcp

import "golang.org/x/sys/unix"

const (
	solMPTCP         = unix.SOL_MPTCP // 284
	optMPTCPInfo     = 1              // Linux 5.16
	optTCPInfo       = 2              // Linux 5.16
	optSubflowAddrs  = 3              // Linux 5.16
	optFullInfo      = 4              // Linux 6.5
	optTCPIsMPTCP    = 43             // at SOL_TCP; Linux 6.10
	minFullInfoBytes = 40             // struct mptcp_full_info up to mptcp_info
)

func probe() Support {
	s := Support{Kernel: kernelRelease()}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP)
	if err == unix.EAFNOSUPPORT {
		fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP)
	}
	if err != nil {
		s.Err = err
		s.Why, s.Remedy = unable(err, s.Kernel)
		return s
	}
	defer unix.Close(fd)
	s.Usable = true
	s.Features = tryFeatures(fd)
	return s
}

// tryFeatures asks a new socket for what later kernels answer.
func tryFeatures(fd int) Features {
	var f Features
	var buf [fullInfoSize]byte
	_, e := getsockopt(fd, solMPTCP, optMPTCPInfo, buf[:infoSize])
	f.Info = e == 0
	clear(buf[:])
	_, e = getsockopt(fd, solMPTCP, optFullInfo, buf[:])
	f.FullInfo = e == 0
	_, e = getsockoptInt(fd, unix.SOL_TCP, optTCPIsMPTCP)
	f.IsMPTCP = e == 0
	return f
}

// meansNoMPTCP tells the errnos of socket(2) that say "this host has no MPTCP"
// from those that say "not now" (EMFILE, ENOBUFS …), which TCP would meet too.
func meansNoMPTCP(err error) bool {
	switch err {
	case unix.EINVAL, unix.EPROTONOSUPPORT, unix.ENOPROTOOPT, unix.EPERM, unix.EACCES:
		return true
	}
	return false
}

func unable(err error, kernel string) (why, remedy string) {
	switch err {
	case unix.EINVAL:
		return "kernel " + kernel + " does not support MPTCP", "run Linux 5.16 or later (6.10 or later is better)"
	case unix.EPROTONOSUPPORT:
		return "kernel " + kernel + " was built without MPTCP", "run a kernel with CONFIG_MPTCP=y"
	case unix.ENOPROTOOPT:
		return "MPTCP is off in this network namespace (net.mptcp.enabled=0)", "sysctl -w net.mptcp.enabled=1"
	case unix.EPERM, unix.EACCES:
		return "a sandbox forbids it (" + err.Error() + ")",
			"allow socket(2) with protocol 262 in the container's seccomp profile, SELinux or AppArmor"
	}
	return "the kernel did not create an MPTCP socket (" + err.Error() + ")", "the error is not specific to MPTCP; see socket(2)"
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}
