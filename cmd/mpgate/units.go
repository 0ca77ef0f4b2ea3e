package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"mpgate/config"
	"mpgate/listener/units"
	"mpgate/mptcp"
	"mpgate/mptcp/paths"
)

type unitsCmd struct {
	configFlag
	Pair bool   `help:"Write an MPTCP and a TCP socket unit for each listener with MPTCP, so that a reload can turn MPTCP off."`
	Dir  string `placeholder:"DIR" help:"Write the units to this directory, such as /etc/systemd/system, instead of printing them."`
}

func (unitsCmd) Help() string {
	return `Prints the systemd units for the configuration: mpgate.service, hardened, and a .socket unit for each listener with systemd = NAME, whose address becomes its ListenStream=. With --dir, existing files are replaced. A warning names the files that the sandbox of the service would hide. The units run mpgate as the user mpgate, which must exist; mpgate.service says how to create it.

mpgate cannot turn an MPTCP socket of systemd into a TCP socket. With --pair there are two sockets for each address, with ReusePort=yes, and mpgate directs new connections to the one that [mptcp] enabled and the listener's mptcp select, also at a reload. Both sockets belong to root.

    mpgate units -c mpgate.toml
    mpgate units -c /etc/mpgate/mpgate.toml --dir /etc/systemd/system && systemctl daemon-reload`
}

func (c *unitsCmd) Run(p *program) error {
	cfg, err := config.Load(c.Config, config.Options{Check: true})
	if err != nil {
		return err
	}
	o, err := c.options(cfg)
	if err != nil {
		return err
	}
	files, err := units.Generate(o)
	if err != nil {
		return err
	}
	for _, w := range o.Warnings() {
		fmt.Fprintln(p.stderr, "warning:", w)
	}
	for i, f := range files {
		if c.Dir == "" {
			if i > 0 {
				fmt.Fprintln(p.stdout)
			}
			fmt.Fprintf(p.stdout, "# %s\n%s", f.Name, f.Text)
			continue
		}
		path := filepath.Join(c.Dir, f.Name)
		if err := os.WriteFile(path, []byte(f.Text), 0o644); err != nil {
			return err
		}
		fmt.Fprintln(p.stdout, path)
	}
	return nil
}

func (c *unitsCmd) options(cfg *config.Config) (units.Options, error) {
	file, err := filepath.Abs(c.Config)
	if err != nil {
		return units.Options{}, err
	}
	o := units.Options{Config: file, Version: version(), Drain: cfg.Shutdown.Drain, Pair: c.Pair}
	if path, err := os.Executable(); err == nil {
		o.Program = path
	}
	o.HangUp = cfg.Admin.Off || !cfg.Admin.Address.IsUnix()
	if cfg.MPTCP.Manage == paths.ManageSync {
		o.NetAdmin = `mptcp.manage = "sync"`
	}
	if f := cfg.MPTCP.Failover; f != paths.FailoverOff {
		o.NetAdmin = fmt.Sprintf("mptcp.failover = %q", f)
	}
	for i := range cfg.Listeners {
		l := &cfg.Listeners[i]
		one := units.Listener{
			Name: l.Name, Systemd: l.Systemd, Interface: l.Interface, Mode: uint32(l.Mode.Perm()),
			// a pair has both, whichever is used
			MPTCP:   (cfg.MPTCP.Enabled || c.Pair) && l.MPTCP != mptcp.Off,
			Require: l.MPTCP == mptcp.Require,
		}
		for _, a := range l.Addresses {
			if a.Host != "" && !a.IsUnix() && !a.IP().IsValid() && l.Systemd != "" {
				return o, c.fault(cfg, "listener."+l.Name+".address", fmt.Errorf("ListenStream= does not accept names (got %q); write the IP address", a.Host))
			}
			for _, each := range a.Each() {
				one.Addresses = append(one.Addresses, each.String())
			}
		}
		if l.Systemd != "" && len(one.Addresses) == 0 {
			return o, c.fault(cfg, "listener."+l.Name, errors.New("it has no address for ListenStream=; set address in addition to systemd"))
		}
		o.Listeners = append(o.Listeners, one)
		o.Keys = append(o.Keys, keysOf(l)...)
	}
	o.Reads = readsOf(cfg)
	switch cfg.Log.Access {
	case config.AccessStdout, config.AccessStderr, config.AccessOff:
	default:
		o.Writes = append(o.Writes, cfg.Log.Access)
	}
	// The defaults are those of the current user; in the service, systemd sets the state directory.
	standard := config.Default()
	if cfg.StateDir != standard.StateDir {
		o.Writes = append(o.Writes, filepath.Join(cfg.StateDir, "*"))
	}
	if cfg.Admin.Written && cfg.Admin.Address.IsUnix() {
		o.Writes = append(o.Writes, cfg.Admin.Address.Path)
	}
	return o, nil
}

// readsOf are the files that a gateway opens, except the private keys of listeners, and the sockets
// of servers.
func readsOf(cfg *config.Config) (files []string) {
	for _, f := range cfg.Files {
		if abs, err := filepath.Abs(f); err == nil {
			files = append(files, abs)
		}
	}
	add := func(p *config.TLSPolicy) {
		for _, pair := range p.Certificates {
			files = append(files, pair.Cert)
		}
		files = append(files, p.ClientCA)
		if p.ACME != nil {
			files = append(files, p.ACME.CARoot)
		}
	}
	for i := range cfg.Listeners {
		if t := cfg.Listeners[i].TLS; t != nil {
			add(&t.TLSPolicy)
			for k := range t.Policies {
				add(&t.Policies[k])
			}
		}
	}
	for i := range cfg.Backends {
		b := &cfg.Backends[i]
		if b.TLS != nil {
			files = append(files, b.TLS.CA, b.TLS.Cert, b.TLS.Key)
		}
		for _, s := range b.Servers {
			files = append(files, s.Address.Path)
		}
	}
	return files
}

// keysOf are the private keys of a listener, each once.
func keysOf(l *config.Listener) (keys []string) {
	add := func(p *config.TLSPolicy) {
		for _, pair := range p.Certificates {
			if !slices.Contains(keys, pair.Key) {
				keys = append(keys, pair.Key)
			}
		}
	}
	if l.TLS != nil {
		add(&l.TLS.TLSPolicy)
		for i := range l.TLS.Policies {
			add(&l.TLS.Policies[i])
		}
	}
	return keys
}

func (c *unitsCmd) fault(cfg *config.Config, key string, err error) error {
	file, line := cfg.Position(key)
	return config.Errors{{File: file, Line: line, Key: key, Msg: err.Error(), Severity: config.Error}}
}
