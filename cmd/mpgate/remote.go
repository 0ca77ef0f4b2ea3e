package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"mpgate/admin"
	"mpgate/config"
)

// remoteTime bounds a question to a running gateway. A reload may take longer.
const remoteTime = 5 * time.Second

// remote finds the running gateway by the admin address of a configuration file.
func (c *configFlag) remote() (*admin.Client, error) {
	cfg, err := config.Load(c.Config, config.Options{Check: true})
	if err != nil {
		return nil, err
	}
	if cfg.Admin.Off {
		return nil, errors.New(`the gateway cannot be asked: admin.address is "off" in ` + c.Config)
	}
	return admin.Dial(cfg.Admin.Address.String())
}

// status asks the gateway, and holds it to be the one of this file.
func (c *configFlag) status(ctx context.Context, client *admin.Client) (s admin.Status, err error) {
	if err := client.Get(ctx, "/api/status", &s); err != nil {
		return s, err
	}
	want, err := filepath.Abs(c.Config)
	if err != nil {
		return s, err
	}
	if have, err := filepath.Abs(s.Config); err == nil && s.Config != "" && have != want {
		return s, fmt.Errorf("the gateway at this admin address runs %s, not %s", have, want)
	}
	return s, nil
}

type healthCmd struct {
	configFlag
}

func (c *healthCmd) Run(p *program) error {
	client, err := c.remote()
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), remoteTime)
	defer cancel()
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

func (c *reloadCmd) Run(p *program) error {
	client, err := c.remote()
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := c.status(ctx, client); err != nil {
		return err
	}
	var answer string
	err = client.Post(ctx, "/api/reload", nil, &answer)
	var refused *admin.StatusError
	switch {
	case errors.As(err, &refused) && refused.Code == 422:
		fmt.Fprintln(p.stderr, refused.Body)
		return exitCode(exitConfig)
	case errors.As(err, &refused):
		return errors.New(refused.Body)
	case err != nil:
		return err
	}
	_, err = fmt.Fprintln(p.stdout, strings.TrimSpace(answer))
	return err
}

type statusCmd struct {
	configFlag
	JSON bool `help:"Print the status as JSON."`
}

func (c *statusCmd) Run(p *program) error {
	client, err := c.remote()
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), remoteTime)
	defer cancel()
	s, err := c.status(ctx, client)
	if err != nil {
		return err
	}
	if c.JSON {
		e := json.NewEncoder(p.stdout)
		e.SetIndent("", "  ")
		return e.Encode(s)
	}
	return printStatus(p, &s)
}

func printStatus(p *program, s *admin.Status) error {
	fmt.Fprintf(p.stdout, "mpgate %s, pid %d, %s since %s, generation %d of %s\n",
		s.Version, s.PID, s.State, s.Started.Format(time.RFC3339), s.Generation, s.Config)
	for _, r := range s.Reasons {
		fmt.Fprintln(p.stdout, "  not ready:", r)
	}
	if s.Reload.Error != "" {
		fmt.Fprintf(p.stdout, "last reload, %s, was refused:\n%s\n", s.Reload.At.Format(time.RFC3339), s.Reload.Error)
	}
	if !s.MPTCP.Usable {
		fmt.Fprintf(p.stdout, "this host has no MPTCP: %s; %s\n", s.MPTCP.Why, s.MPTCP.Remedy)
	}
	t := tabwriter.NewWriter(p.stdout, 2, 8, 2, ' ', 0)
	fmt.Fprintln(t, "\nLISTENER\tADDRESS\tSPEAKS\tASKED FOR\tNOTE")
	for _, l := range s.Listeners {
		for _, k := range l.Sockets {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", l.Name, k.Address, k.Speaks, l.MPTCP, k.Why)
		}
	}
	fmt.Fprintln(t, "\nBACKEND\tSERVER\tUP\tSPEAKS\tNOTE")
	for _, b := range s.Backends {
		for _, k := range b.Servers {
			fmt.Fprintf(t, "%s\t%s\t%v\t%s\t%s\n", b.Name, k.Address, k.Up, k.Speaks, strings.TrimSpace(k.Why+" "+k.Reason))
		}
	}
	return t.Flush()
}
