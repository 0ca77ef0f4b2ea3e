package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"mpgate/cmd/mpgate/demo"
	"mpgate/cmd/mpgate/early"
	"mpgate/config"
	"mpgate/gateway"
	"mpgate/mptcp"
	"mpgate/task"
)

type demoCmd struct {
	Address string `default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Address of the gateway (${default})."`
	TLS     string `default:"127.0.0.1:8443" placeholder:"HOST:PORT" help:"Address of the gateway with TLS (${default})."`
	Admin   string `default:"127.0.0.1:8081" placeholder:"HOST:PORT" help:"Address of the live page and the metrics (${default})."`
	Format  string `default:"text" enum:"text,json" help:"Format of the access log: text or json (${default})."`
}

func (demoCmd) Help() string {
	return `Starts three servers on free ports of 127.0.0.1, two with MPTCP and one without, and a gateway in front of them. It needs no configuration and no privileges, and prints what to try. Ctrl-C ends it and removes everything it made.

    mpgate demo
    mpgate demo --address 127.0.0.1:8090 --tls 127.0.0.1:8493 --admin 127.0.0.1:8091`
}

func (c *demoCmd) Run(p *program) (err error) {
	signals := early.Signals()
	openLog(p)
	for _, a := range []struct {
		flag    string
		address *string
	}{{"--address", &c.Address}, {"--tls", &c.TLS}, {"--admin", &c.Admin}} {
		if *a.address, err = checkFree(a.flag, *a.address); err != nil {
			return err
		}
	}
	servers, err := openServers(context.Background())
	if err != nil {
		return err
	}
	var serving errgroup.Group
	defer func() {
		for _, s := range servers {
			_ = s.Close()
		}
		err = errors.Join(err, serving.Wait())
	}()
	for _, s := range servers {
		serving.Go(func() (err error) {
			if p := task.Call("demo server "+s.Name, func() { err = s.Serve() }); p != nil {
				return p
			}
			return err
		})
	}
	dir, err := os.MkdirTemp("", "mpgate-demo-")
	if err != nil {
		return fmt.Errorf("cannot write the demo's configuration: %w; set TMPDIR to a writable directory", err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "mpgate.toml")
	if err := os.WriteFile(file, []byte(c.config(servers)), 0o600); err != nil {
		return err
	}
	prepare := func() (*setup, error) {
		load := func() (*config.Config, error) { return config.Load(file, config.Options{}) }
		cfg, err := load()
		if err != nil {
			return nil, err
		}
		return &setup{config: cfg, options: gateway.Options{Version: version(), Load: load}}, nil
	}
	return serve(p, signals, prepare, func(g *gateway.Gateway) { c.welcome(p, g, file, servers) })
}

// openServers opens the demo's servers: two with MPTCP, if the host supports it, and one without.
func openServers(ctx context.Context) (servers []*demo.Server, err error) {
	for _, s := range []struct {
		name string
		mode mptcp.Mode
	}{{"alpha", mptcp.Prefer}, {"beta", mptcp.Prefer}, {"gamma", mptcp.Off}} {
		one, err := demo.Open(ctx, s.name, s.mode)
		if err != nil {
			for _, s := range servers {
				_ = s.Close()
			}
			return nil, fmt.Errorf("demo server %s: %w", s.name, err)
		}
		servers = append(servers, one)
	}
	return servers, nil
}

// checkFree checks that an address is free, with an error that names the flag: the gateway's error
// would name a line of a file that the user has not seen. It replaces port 0 with a free port.
func checkFree(flag, address string) (string, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(context.Background(), "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "", fmt.Errorf("%s is in use by another program; stop it, or choose another address: mpgate demo %s 127.0.0.1:PORT", address, flag)
	case err != nil:
		return "", fmt.Errorf("%s %s: %w", flag, address, err)
	}
	if _, port, err := net.SplitHostPort(address); err == nil && port == "0" {
		address = l.Addr().String()
	}
	return address, l.Close()
}

// config is the demo's configuration.
func (c *demoCmd) config(servers []*demo.Server) string {
	return fmt.Sprintf(`# Configuration of a running mpgate demo, which removes it at its end.

state_dir = "state" # the local CA

[log]
level  = "warn"
format = %q

[admin]
address = %q

[shutdown]
drain = "2s"

[[listener]]
name    = "web"
address = %q

[[listener]]
name    = "tls"
address = %q
tls     = { local = true }

[[route]]
name    = "all"
backend = "app"

[[route]]
name    = "tcp"
match   = { path = "/tcp/*" }
backend = "plain"

[[backend]]
name    = "app"
servers = [ { address = %q }, { address = %q } ]

[[backend]]
name    = "plain"
servers = [ { address = %q } ] # without MPTCP
`, c.Format, c.Admin, c.Address, c.TLS, servers[0].Addr, servers[1].Addr, servers[2].Addr)
}

// welcome prints the addresses and what to try.
func (c *demoCmd) welcome(p *program, g *gateway.Gateway, file string, servers []*demo.Server) {
	s := g.Status()
	plain, tls := s.Listeners[0].Sockets[0], s.Listeners[1].Sockets[0]
	web, admin := "http://"+plain.Address, "http://"+g.AdminAddress()
	var b strings.Builder
	fmt.Fprintf(&b, "mpgate %s demo, pid %d. Ctrl-C ends it.\n\n", version(), os.Getpid())
	if !s.MPTCP.Usable {
		fmt.Fprintf(&b, "This host does not support MPTCP, so everything uses TCP: %s. Remedy: %s.\n\n", s.MPTCP.Why, s.MPTCP.Remedy)
	} else if !s.MPTCP.Enabled {
		fmt.Fprintf(&b, "MPTCP is off (GODEBUG=multipathtcp=0), so everything uses TCP.\n\n")
	}
	fmt.Fprintf(&b, "  %s/  the gateway, over %s\n", web, plain.Transport)
	fmt.Fprintf(&b, "  https://%s/  the gateway with TLS, over %s\n", tls.Address, tls.Transport)
	for _, s := range servers {
		fmt.Fprintf(&b, "      %-6s http://%s/  server, over %s\n", s.Name, s.Addr, s.Transport)
	}
	fmt.Fprintf(&b, "  %s/  the live page; also /metrics, /api/status, /healthz, /readyz\n", admin)
	fmt.Fprintf(&b, "  %s  the configuration, for mpgate status -c FILE; after a change: kill -HUP %d\n", file, os.Getpid())

	fmt.Fprintf(&b, "\nTry\n")
	try := func(cmd, what string) { fmt.Fprintf(&b, "  %-58s %s\n", cmd, what) }
	try("curl "+web+"/", "TCP to the gateway, MPTCP to the server")
	if _, err := exec.LookPath("mptcpize"); err == nil {
		try("mptcpize run curl "+web+"/", "MPTCP to the gateway and to the server")
	} else {
		try("mptcpize run curl "+web+"/", "MPTCP on both sides (apt-get install mptcpize, dnf install mptcpd)")
	}
	try("curl "+web+"/tcp/", "to a server without MPTCP: fallback")
	try("curl -N "+web+"/events", "one event per second")
	try("curl "+web+"/slow", "a response after 3 s")
	try("curl -o /dev/null "+web+"/large", "100 MiB")
	try("curl -T FILE "+web+"/echo", "sends the file back")
	try("curl "+web+"/headers", "the request as the server receives it")
	try("curl --cacert "+filepath.Join(filepath.Dir(file), "state", "local", "ca.pem")+" https://"+tls.Address+"/", "TLS")

	fmt.Fprintf(&b, "\nIs it really MPTCP?\n")
	fmt.Fprintf(&b, "  client_transport and server_transport in the lines below show what the kernel reports\n")
	try("curl -s "+admin+"/metrics | grep mpgate_mptcp", "counters for both sides")
	try("ss -Mn", "the kernel's own list of MPTCP connections")

	fmt.Fprintf(&b, "\nThe access log, one line for each request:\n")
	fmt.Fprint(p.stdout, b.String())
}
