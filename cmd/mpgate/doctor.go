package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"mpgate/config"
	"mpgate/gateway"
	"mpgate/listener"
	"mpgate/mptcp"
	"mpgate/mptcp/doctor"
	"mpgate/proxy/backend"
)

type doctorCmd struct {
	configFlag
	JSON bool `help:"Print the result as JSON."`
}

func (doctorCmd) Help() string {
	return `Examines the kernel, its settings, endpoints and limits, routes, the firewall, and other programs that manage paths. Compares them with the configuration and connects to every server. Each finding is ok, warning or error, followed by a command or a setting that fixes it. It changes nothing. The exit code is 1 if there is an error.

Without a configuration file it examines only the host. Some checks need root, and say so.

    mpgate doctor
    mpgate doctor -c mpgate.toml --json`
}

// doctorTime bounds the whole run; each server has its own, shorter bound.
const doctorTime = 2 * time.Minute

func (c *doctorCmd) Run(p *program) error {
	ctx, cancel := context.WithTimeout(context.Background(), doctorTime)
	defer cancel()
	findings, err := c.examine(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(p.stdout, findings)
	} else {
		err = printFindings(p.stdout, findings)
	}
	if err == nil && doctor.Worst(findings) == doctor.Error {
		return exitCode(exitFailed)
	}
	return err
}

func (c *doctorCmd) examine(ctx context.Context) ([]doctor.Finding, error) {
	if c.Config == defaultConfig && !exists(c.Config) {
		alone := doctor.Finding{Check: "configuration", What: "no file " + c.Config + ": only the host is examined", Remedy: "to examine a configuration too, run mpgate doctor -c FILE"}
		return append([]doctor.Finding{alone}, doctor.Examine(ctx, doctor.Options{})...), nil
	}
	cfg, err := config.Load(c.Config, config.Options{Check: true})
	if err != nil {
		return nil, err
	}
	inherited, err := c.inherited(ctx, cfg)
	if err != nil {
		return nil, err
	}
	servers, findings := doctorServers(ctx, cfg)
	o := doctor.Options{Listeners: doctorListeners(cfg), Inherited: inherited, Servers: servers, Paths: gateway.PathOptions(&cfg.MPTCP), Connections: cfg.Limits.Connections}
	return append(doctor.Examine(ctx, o), findings...), nil
}

func printFindings(w io.Writer, findings []doctor.Finding) error {
	var count [doctor.Error + 1]int
	var b strings.Builder
	for _, f := range findings {
		count[f.Level]++
		about := f.Check
		if f.Subject != "" {
			about += ": " + f.Subject
		}
		fmt.Fprintf(&b, "%-8s %s: %s\n", f.Level, about, f.What)
		if f.Remedy != "" {
			fmt.Fprintf(&b, "%-8s -> %s\n", "", f.Remedy)
		}
	}
	fmt.Fprintf(&b, "\n%d ok, %s, %s\n", count[doctor.OK], plural(count[doctor.Warning], "warning"), plural(count[doctor.Error], "error"))
	_, err := io.WriteString(w, b.String())
	return err
}

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// wanted is the mode in the file. GODEBUG is ignored here, because this is not the environment of
// the gateway.
func wanted(cfg *config.Config, m mptcp.Mode) mptcp.Mode {
	if !cfg.MPTCP.Enabled {
		return mptcp.Off
	}
	return m
}

func doctorListeners(cfg *config.Config) (list []doctor.Listener) {
	for i := range cfg.Listeners {
		l := &cfg.Listeners[i]
		one := doctor.Listener{Name: l.Name, Mode: wanted(cfg, l.MPTCP), Systemd: l.Systemd}
		for _, a := range l.Addresses {
			for _, each := range a.Each() {
				one.Addresses = append(one.Addresses, each.String())
			}
		}
		list = append(list, one)
	}
	return list
}

// inherited are the sockets that this process inherited, as in ExecStartPre= of a unit, otherwise
// those of the running gateway, if it answers.
func (c *doctorCmd) inherited(ctx context.Context, cfg *config.Config) (list []doctor.Inherited, err error) {
	passed, err := listener.FromSystemd()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, passed.Close()) }()
	for _, name := range passed.Names() {
		for _, f := range passed.Take(name) {
			one := doctor.Inherited{Name: name, Address: f.Name()}
			one.Transport, err = granted(f.File)
			if err = errors.Join(err, f.Close()); err != nil {
				return nil, fmt.Errorf("the inherited socket %s: %w", name, err)
			}
			list = append(list, one)
		}
	}
	if len(list) > 0 {
		return list, nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	client, s, err := c.ask(ctx)
	if err != nil {
		return nil, nil // no gateway is running
	}
	client.Close()
	units := map[string]string{} // by listener
	for i := range cfg.Listeners {
		units[cfg.Listeners[i].Name] = cfg.Listeners[i].Systemd
	}
	for _, l := range s.Listeners {
		for _, k := range l.Sockets {
			if k.Inherited && units[l.Name] != "" {
				transport := map[string]mptcp.Transport{"mptcp": mptcp.MPTCP, "tcp": mptcp.TCP, "unix": mptcp.Unix}[k.Transport]
				list = append(list, doctor.Inherited{Name: units[l.Name], Address: k.Address, Transport: transport})
			}
		}
	}
	return list, nil
}

func granted(f *os.File) (t mptcp.Transport, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return t, err
	}
	asked := raw.Control(func(fd uintptr) { t, err = mptcp.Granted(int(fd)) })
	return t, errors.Join(asked, err)
}

// mostAddresses is the number of addresses of one name that are tried.
const mostAddresses = 4

// doctorServers are the servers of all backends, by address. A name that does not resolve is a
// finding.
func doctorServers(ctx context.Context, cfg *config.Config) (list []doctor.Server, findings []doctor.Finding) {
	for i := range cfg.Backends {
		b := &cfg.Backends[i]
		for _, s := range b.Servers {
			if s.Address.IsUnix() {
				continue
			}
			name, resolved, host := s.Name(), s.Address.Host, s.Address.Host
			if s.SRV != "" {
				resolved, host = s.SRV, backend.ServiceHost(s.SRV)
			}
			addrs, err := resolve(ctx, b, &s)
			if err != nil {
				findings = append(findings, doctor.Finding{Level: doctor.Error, Check: "servers", Subject: b.Name + " " + name,
					What: "the name does not resolve: " + err.Error(), Remedy: "correct the name, or check the servers in backend.resolve or /etc/resolv.conf by: dig " + resolved})
				continue
			}
			for _, a := range addrs {
				one := doctor.Server{
					Name: name, Backend: b.Name, Address: a, Mode: wanted(cfg, s.MPTCP),
					Source: s.Source, Interface: s.Interface, Probe: probe(b, host),
				}
				if !s.Address.IP().IsValid() {
					one.Name = fmt.Sprintf("%s (%s)", name, a.Addr())
				}
				list = append(list, one)
			}
		}
	}
	return list, findings
}
