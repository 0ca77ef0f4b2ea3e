package mptcp

import (
	"os"
	"strings"
	"sync"
)

// Support says whether this host supports MPTCP and, if not, why and how to fix that.
type Support struct {
	Usable bool
	// Why and Remedy are empty when Usable is true.
	Why, Remedy string
	// Kernel is the release, as uname -r prints it; "" where there is none.
	Kernel string
	// Err is the errno of the attempt to make a socket, if one was made.
	Err error
	Features
}

// Features are the later additions to the kernel's MPTCP. They are found by
// trying them, not by the kernel's version: distributions backport.
type Features struct {
	// Info: MPTCP_INFO and the like (Linux 5.16). Without it an MPTCP connection cannot be
	// distinguished from a fallback, unless IsMPTCP is available.
	Info bool
	// FullInfo: MPTCP_FULL_INFO, all subflows in one atomic call (Linux 6.5).
	FullInfo bool
	// IsMPTCP: TCP_IS_MPTCP tells a fallback (Linux 6.10).
	IsMPTCP bool
}

var host = sync.OnceValue(func() Support { return Probe() })

// Host reports whether this host can use MPTCP. The kernel is asked once in the life of the
// process; the kill switch of [Disabled] is checked each time.
func Host() Support { return switchedOff(host()) }

// Probe is Host that asks again, in the network namespace of the calling thread.
func Probe() Support { return switchedOff(probe()) }

func switchedOff(s Support) Support {
	if s.Usable && Disabled() {
		s.Usable = false
		s.Why = "MPTCP is turned off by GODEBUG=multipathtcp=0 in the environment"
		s.Remedy = "remove multipathtcp=0 from GODEBUG and restart"
	}
	return s
}

// Disabled reports whether the operator has switched MPTCP off with
// GODEBUG=multipathtcp=0. Go itself ignores that setting where a program
// asks for MPTCP explicitly, as this package does; it is honoured here.
func Disabled() bool {
	// As in Go's own parser the last setting of a name counts.
	for rest := os.Getenv("GODEBUG"); rest != ""; {
		last := rest
		if i := strings.LastIndexByte(rest, ','); i >= 0 {
			rest, last = rest[:i], rest[i+1:]
		} else {
			rest = ""
		}
		if v, ok := strings.CutPrefix(last, "multipathtcp="); ok {
			return v == "0"
		}
	}
	return false
}

// UnableError is the error of a dial or a listen that required MPTCP on a host that does not
// support it.
type UnableError struct{ Support Support }

func (e *UnableError) Error() string {
	return "MPTCP is required and not available: " + e.Support.Why + "; remedy: " + e.Support.Remedy
}

// Unwrap yields the errno of the attempt, if one was made.
func (e *UnableError) Unwrap() error { return e.Support.Err }
