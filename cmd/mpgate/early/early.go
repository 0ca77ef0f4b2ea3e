// Package early takes over the signals of a process that is going to serve, before anything else of the program begins: until a
// signal is taken over, SIGHUP ends the process, and a log rotation may send one at any moment. It imports next to nothing, so
// it is initialized before almost all other packages, which takes several milliseconds. What comes before that, the start of
// Go's runtime, an upgrade covers by having the new process begin with its signals blocked.
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
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR2)
	return c
}

// Signals are SIGTERM, SIGINT, SIGHUP and SIGUSR2, those that have come already first.
func Signals() chan os.Signal {
	if signals == nil {
		signals = take()
	}
	return signals
}
