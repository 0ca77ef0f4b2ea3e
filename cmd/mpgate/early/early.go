// Package early takes over the signals of a process that is going to serve, before anything else of
// the program begins: until a signal is taken over, SIGHUP ends the process, and a log rotation may
// send one at any moment. It imports next to nothing, so it is initialized before almost all other
// packages, which takes several milliseconds. What comes before that, the start of Go's runtime, an
// upgrade covers by Shield.
package early

import (
	"os"
	"os/signal"
	"syscall"
)

var signals = begin()

func begin() chan os.Signal {
	if len(os.Args) < 2 || os.Args[1] != "run" && os.Args[1] != "demo" {
		return nil // other commands are to end as any program does
	}
	return take()
}

func take() chan os.Signal {
	// A log's reader that goes away must not take the gateway with it.
	signal.Ignore(syscall.SIGPIPE)
	c := make(chan os.Signal, 8)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT)
	signal.Notify(c, asked...)
	return c
}

// asked are the signals that ask for something while the process continues.
var asked = []os.Signal{syscall.SIGHUP, syscall.SIGUSR2}

// Shield calls start with SIGHUP and SIGUSR2 ignored, which a process that it starts inherits until
// it takes them over by itself. (That they be blocked would be better, as none would be lost, but
// Go's runtime unblocks them as it starts.)
func Shield(start func() error) error {
	signal.Ignore(asked...)
	defer signal.Notify(Signals(), asked...)
	return start()
}

// Signals are SIGTERM, SIGINT, SIGHUP and SIGUSR2, those that have come already first.
func Signals() chan os.Signal {
	if signals == nil {
		signals = take()
	}
	return signals
}
