package main

import "time"

type upgradeCmd struct {
	configFlag
}

func (upgradeCmd) Help() string {
	return `The running gateway starts the program anew, from the file that it was started from, and hands its sockets over. When the new process serves, the old one lets the requests under way come to their end, and goes. When the new one cannot serve, the old one serves on, what is wrong is printed, and the exit code is 1. No connection is refused in any case. The configuration is read anew too.

Where the admin address is host:port, which is read-only, send SIGUSR2 instead.

    mpgate upgrade -c mpgate.toml`
}

func (c *upgradeCmd) Run(p *program) error {
	return c.order(p, "/api/upgrade", "send SIGUSR2 instead: kill -USR2 %d", 2*time.Minute)
}
