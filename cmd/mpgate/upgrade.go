package main

import "time"

type upgradeCmd struct {
	configFlag
}

func (upgradeCmd) Help() string {
	return `The running gateway starts a new process from the program file that it was started from, and hands its sockets over. When the new process is ready, the old one finishes its requests and exits. If the new process cannot start, the old one continues, the error is printed, and the exit code is 1. No connection is refused in either case. The configuration is loaded again too.

An admin address on host:port is read-only; in that case, send SIGUSR2 instead.

    mpgate upgrade -c mpgate.toml`
}

func (c *upgradeCmd) Run(p *program) error {
	return c.order(p, "/api/upgrade", "send SIGUSR2 instead: kill -USR2 %d", 2*time.Minute)
}
