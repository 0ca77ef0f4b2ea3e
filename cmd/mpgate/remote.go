package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mpgate/admin"
	"mpgate/config"
)

// remoteTime bounds a request to a running gateway. A reload may take longer.
const remoteTime = 5 * time.Second

// serviceAdmin is the admin address of a gateway that runs as a service.
const serviceAdmin = "/run/mpgate/admin.sock"

// remote finds the running gateway by the admin address of a configuration file.
func (c *configFlag) remote() (*admin.Client, error) {
	a, err := c.admin()
	if err != nil {
		return nil, err
	}
	if a.Off {
		return nil, errors.New(`cannot reach the gateway: admin.address is "off" in ` + c.Config)
	}
	if !a.Written && a.Address.IsUnix() && !exists(a.Address.Path) && exists(serviceAdmin) {
		// An ordinary user's default differs from that of the service, which is probably meant.
		a.Address = config.Address{Path: serviceAdmin}
	}
	return admin.Dial(a.Address.String())
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// admin is the table [admin] of the file.
func (c *configFlag) admin() (config.Admin, error) {
	o := config.Options{Check: true}
	if a, ok := config.FindAdmin(c.Config, o); ok {
		return a, nil
	}
	cfg, err := config.Load(c.Config, o)
	if err != nil {
		return config.Admin{}, err
	}
	return cfg.Admin, nil
}

// ask finds the gateway, checks that it runs this file, and returns its status too.
func (c *configFlag) ask(ctx context.Context) (*admin.Client, *admin.Status, error) {
	client, err := c.remote()
	if err != nil {
		return nil, nil, err
	}
	s := new(admin.Status)
	if err := client.Get(ctx, "/api/status", s); err != nil {
		client.Close()
		return nil, nil, err
	}
	if s.Config != "" && !sameFile(s.Config, c.Config) {
		client.Close()
		return nil, nil, fmt.Errorf("the gateway at this admin address uses %s, not %s", s.Config, c.Config)
	}
	return client, s, nil
}

// status returns the status of the gateway.
func (c *configFlag) status() (*admin.Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), remoteTime)
	defer cancel()
	client, s, err := c.ask(ctx)
	if err != nil {
		return nil, err
	}
	client.Close()
	return s, nil
}

// order finds the gateway and posts to a path of its API. instead is the signal that does the same,
// for a read-only admin address.
func (c *configFlag) order(p *program, path, instead string, within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	client, s, err := c.ask(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	return post(ctx, p, client, path, nil, fmt.Sprintf(instead, s.PID))
}

// post sends a POST to a path of the gateway's API, waits for the result and prints it. instead is
// what to do if the admin address is read-only.
func post(ctx context.Context, p *program, client *admin.Client, path string, body any, instead string) error {
	var answer string
	err := client.Post(ctx, path, body, &answer)
	var refused *admin.StatusError
	switch {
	case errors.As(err, &refused) && refused.Code == http.StatusUnprocessableEntity:
		fmt.Fprintln(p.stderr, refused.Body)
		return exitCode(exitConfig)
	case errors.As(err, &refused) && refused.Code == http.StatusMethodNotAllowed:
		return errors.New("the admin address is read-only, like every host:port; " + instead)
	case err != nil:
		return err
	}
	_, err = fmt.Fprintln(p.stdout, strings.TrimSpace(answer))
	return err
}

// sameFile compares the names, then the files.
func sameFile(a, b string) bool {
	if abs, err := filepath.Abs(b); err == nil && abs == filepath.Clean(a) {
		return true
	}
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

type healthCmd struct {
	configFlag
}

func (healthCmd) Help() string {
	return `Prints ready, or the reasons why the gateway is not ready. The exit code is 0 or 1. For HEALTHCHECK and scripts.

    mpgate health -c mpgate.toml`
}

func (c *healthCmd) Run(p *program) error {
	ctx, cancel := context.WithTimeout(context.Background(), remoteTime)
	defer cancel()
	client, _, err := c.ask(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	var answer string
	if err := client.Get(ctx, "/readyz", &answer); err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.stdout, strings.TrimSpace(answer))
	return err
}

type reloadCmd struct {
	configFlag
}

func (reloadCmd) Help() string {
	return `Waits for the result. An invalid file changes nothing: its errors are printed, and the exit code is 78. Log files are reopened. An admin address on host:port is read-only; in that case, send SIGHUP instead.

    mpgate reload -c mpgate.toml`
}

func (c *reloadCmd) Run(p *program) error {
	return c.order(p, "/api/reload", "send SIGHUP instead: kill -HUP %d", time.Minute)
}
