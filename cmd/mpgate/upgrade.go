package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"mpgate/admin"
)

type upgradeCmd struct {
	configFlag
}

func (upgradeCmd) Help() string {
	return `The running gateway starts the program anew, from the file that it was started from, and hands its sockets over. When the new process serves, the old one lets the requests under way come to their end, and goes. When the new one cannot serve, the old one serves on, what is wrong is printed, and the exit code is 1. No connection is refused in any case. The configuration is read anew too.

Where the admin address is host:port, which is read-only, send SIGUSR2 instead.

    mpgate upgrade -c mpgate.toml`
}

func (c *upgradeCmd) Run(p *program) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	client, s, err := c.ask(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	var answer string
	err = client.Post(ctx, "/api/upgrade", nil, &answer)
	var refused *admin.StatusError
	switch {
	case errors.As(err, &refused) && refused.Code == 405:
		return fmt.Errorf("the admin address is read-only, as every host:port is; send SIGUSR2 instead: kill -USR2 %d", s.PID)
	case errors.As(err, &refused):
		return errors.New(refused.Body)
	case err != nil:
		return err
	}
	_, err = fmt.Fprintln(p.stdout, strings.TrimSpace(answer))
	return err
}
