package doctor

import (
	"context"
	"fmt"
	"net"

	"mpgate/mptcp"
)

// blackhole tests, by a connection to this host itself, whether the kernel has stopped requesting
// MPTCP because MPTCP SYNs were dropped.
func (e *examination) blackhole() {
	const check = "blackhole"
	counters, err := mptcp.ReadCounters()
	if err != nil {
		return
	}
	timeout := sysctl("net.mptcp.blackhole_timeout")
	times := counters["Blackhole"]
	switch active, err := e.testBlackhole(); {
	case err != nil:
		e.add(Warning, check, "", "cannot test a connection to this host itself: "+err.Error(), "ip link set lo up")
	case active:
		e.blackholeActive = true
		e.add(Error, check, "", "MPTCP SYNs were dropped on some path, and the kernel uses plain TCP for new connections because of that",
			fmt.Sprintf("sysctl -w net.mptcp.blackhole_timeout=%s (this ends the state); find the middlebox, or mptcp = \"off\" for the server behind it", orDefault(timeout, "3600")))
	case times > 0:
		e.add(Warning, check, "", fmt.Sprintf("MPTCP SYNs were dropped and plain ones were not (%s since boot): a middlebox drops the option, or a server restarted at that moment", plural(int(times), "time", "times")),
			`mptcp = "off" for the server behind it, if it is always the same`)
	default:
		e.add(OK, check, "", "no dropped MPTCP SYNs are known", "")
	}
}

func orDefault(s, d string) string {
	if s == "" {
		return d
	}
	return s
}

// testBlackhole connects to this host itself: a fallback there means that MPTCP was not requested.
func (e *examination) testBlackhole() (bool, error) {
	l, granted, err := mptcp.Listen(e.ctx, "127.0.0.1:0", mptcp.ListenOptions{})
	if err != nil {
		return false, err
	}
	defer l.Close()
	if granted != mptcp.MPTCP {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(e.ctx, e.Timeout)
	defer cancel()
	c, r, err := (&mptcp.Dialer{}).Dial(ctx, l.Addr().(*net.TCPAddr).AddrPort())
	if err != nil {
		return false, err
	}
	c.Close()
	return r.Transport == mptcp.Fallback, nil
}
