package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"mpgate/admin"
)

type serverCmd struct {
	configFlag
	JSON   bool          `help:"Print the servers as JSON."`
	Wait   time.Duration `placeholder:"TIME" help:"With drain and down: wait until no request is in progress, for at most this time; then exit 1."`
	Server string        `arg:"" optional:"" placeholder:"BACKEND/ADDRESS" help:"The server, as BACKEND/ADDRESS; default: all."`
	State  string        `arg:"" optional:"" words:"drain,down,up" help:"drain, down or up."`
}

func (serverCmd) Help() string {
	return `Without a state it shows the servers: STATE is what a server does now, and PROGRESS how many requests it has in progress.

drain: the server gets nothing new; requests in progress end, and clients that a cookie binds to it keep it. down: it gets nothing at all; requests in progress end. up: it gets requests again, as far as its health allows. The state is kept by reloads and upgrades until the gateway stops. It needs an admin address on a unix socket; host:port is read-only.

    mpgate server
    mpgate server api/10.0.1.10:8080 drain --wait 30s
    mpgate server api/10.0.1.10:8080 up`
}

func (c *serverCmd) Run(p *program) error {
	if c.Server == "" {
		return c.show(p, "")
	}
	if name, address, ok := strings.Cut(c.Server, "/"); !ok || name == "" || address == "" {
		return usageError(fmt.Sprintf("invalid server %q; must be BACKEND/ADDRESS, for example api/10.0.1.10:8080", c.Server))
	}
	switch c.State {
	case "":
		return c.show(p, c.Server)
	case "drain", "down", "up":
		return c.change(p)
	}
	return usageError(fmt.Sprintf("invalid state %q; must be drain, down or up", c.State))
}

// show prints all servers, or the one with that name.
func (c *serverCmd) show(p *program, only string) error {
	s, err := c.status()
	if err != nil {
		return err
	}
	if only != "" {
		if s.Backends, err = oneServer(s.Backends, only); err != nil {
			return err
		}
	}
	if c.JSON {
		return printJSON(p.stdout, s.Backends)
	}
	return printServers(p.stdout, s.Backends)
}

// oneServer returns the backend of a server with that server only.
func oneServer(list []admin.Backend, name string) ([]admin.Backend, error) {
	for _, b := range list {
		for _, s := range b.Servers {
			if b.Name+"/"+s.Address == name {
				b.Servers = []admin.BackendServer{s}
				return []admin.Backend{b}, nil
			}
		}
	}
	return nil, fmt.Errorf("there is no server %q; mpgate server lists them", name)
}

func printServers(w io.Writer, list []admin.Backend) error {
	t := tabwriter.NewWriter(w, 2, 8, 2, ' ', 0)
	fmt.Fprintln(t, "SERVER\tSTATE\tPROGRESS\tIDLE\tTRANSPORT\tNOTE")
	for _, b := range list {
		for _, s := range b.Servers {
			fmt.Fprintf(t, "%s/%s\t%s\t%d\t%d\t%s\t%s\n", b.Name, s.Address, s.State(), s.InProgress, s.Idle, s.Transport, joinNotes(s.Note(), s.Reason))
		}
	}
	return t.Flush()
}

// change changes the state of a server, and waits for its requests.
func (c *serverCmd) change(p *program) error {
	ctx, cancel := context.WithTimeout(context.Background(), remoteTime+c.Wait)
	defer cancel()
	client, _, err := c.ask(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	err = post(ctx, p, client, "/api/server", admin.ServerOrder{Server: c.Server, State: c.State}, "use a unix socket as [admin] address")
	if err != nil || c.Wait <= 0 || c.State == "up" {
		return err
	}
	return c.await(ctx, p, client)
}

// await returns when the server has no requests in progress, or with an error after c.Wait.
func (c *serverCmd) await(ctx context.Context, p *program, client *admin.Client) error {
	const every = 100 * time.Millisecond
	timer := time.NewTimer(every)
	defer timer.Stop()
	for end := time.Now().Add(c.Wait); ; timer.Reset(every) {
		var s admin.Status
		if err := client.Get(ctx, "/api/status", &s); err != nil {
			return err
		}
		list, err := oneServer(s.Backends, c.Server)
		if err != nil {
			return err
		}
		left := list[0].Servers[0].InProgress
		if left == 0 {
			_, err := fmt.Fprintln(p.stdout, "nothing is in progress")
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s still in progress after %v", admin.Count(left, "request"), c.Wait)
		}
		<-timer.C
	}
}
