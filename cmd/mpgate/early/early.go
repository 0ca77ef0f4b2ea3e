// Package early handles signals before anything else of a serving process starts: until then SIGHUP
// ends the process, and a log rotation may send one at any moment. The package imports almost
// nothing, so that it is initialized before almost all others, which take several milliseconds.
// Shield covers the time before that, the start of Go's runtime, for an upgrade.
package early

import (
	"os"
	"os/signal"
	"syscall"
)

var signals = begin()

func begin() chan os.Signal {
	if len(os.Args) < 2 || os.Args[1] != "run" && os.Args[1] != "demo" {
		return nil // other commands keep the default handling
	}
	return take()
}

func take() chan os.Signal {
	// SIGPIPE: the gateway must not end when the reader of its log ends.
	signal.Ignore(syscall.SIGPIPE)
	c := make(chan os.Signal, 8)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT)
	signal.Notify(c, asked...)
	return c
}

// asked are the signals after which the process continues.
var asked = []os.Signal{syscall.SIGHUP, syscall.SIGUSR2}

// Shield calls start with SIGHUP and SIGUSR2 ignored. A process that start creates inherits this
// until it handles them itself. (Blocking them would lose none, but Go's runtime unblocks them when
// it starts.)
func Shield(start func() error) error {
	signal.Ignore(asked...)
	defer signal.Notify(Signals(), asked...)
	return start()
}

// Signals returns the channel of SIGTERM, SIGINT, SIGHUP and SIGUSR2, including those already
// received.
func Signals() chan os.Signal {
	if signals == nil {
		signals = take()
	}
	return signals
}
