// Package units writes the systemd units that fit a gateway: a .socket unit for each name under
// which a listener takes inherited sockets, and the service. It is a function from options to text;
// it touches nothing.
package units

import (
	"fmt"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"
)

// Options describe a gateway. The zero value is one without any inherited socket.
type Options struct {
	Program string // /usr/bin/mpgate
	Config  string // /etc/mpgate/mpgate.toml
	Version string // in the first line of each file; "" for none

	Listeners []Listener
	Drain     time.Duration // how long requests may take at the end

	// NetAdmin is what the gateway needs CAP_NET_ADMIN for; "": it does not.
	NetAdmin string
	// HangUp: reload by SIGHUP, because `mpgate reload` cannot: the admin address is off, or a
	// read-only host:port.
	HangUp bool
	// Writes are files and directories that it writes, in addition to its state, its logs and
	// /run/mpgate.
	Writes []string
	// Keys are files of private keys that it reads.
	Keys []string
	// Reads are further files, and sockets of servers, that it opens; only Warnings uses them.
	Reads []string
	// Pair: each listener that uses MPTCP gets a second unit with TCP sockets, so that a reload can
	// direct new connections to those only.
	Pair bool
}

// Listener is a front listener.
type Listener struct {
	Name      string
	Systemd   string   // FileDescriptorName=; "": mpgate opens the addresses by itself
	Addresses []string // host:port or unix:/path
	MPTCP     bool     // preferred or required
	Require   bool     // does not start without
	Interface string
	Mode      uint32 // of unix sockets; 0: 0660
}

// File is a unit.
type File struct{ Name, Text string }

// Generate returns the .socket units in the order of the listeners, then mpgate.service.
func Generate(o Options) ([]File, error) {
	if o.Program == "" {
		o.Program = "/usr/bin/mpgate"
	}
	if o.Config == "" {
		o.Config = "/etc/mpgate/mpgate.toml"
	}
	var files []File
	for i := range o.Listeners {
		more, err := o.sockets(&o.Listeners[i])
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Name)
	}
	return append(files, File{"mpgate.service", o.service(names)}), nil
}

// group is the sockets of a listener that can share a unit: an option of a unit applies to all its
// sockets.
type group struct {
	suffix string
	unix   bool
	only6  bool
	listen []string
	plain  bool // the TCP half of a pair
}

// sockets returns the units of one listener.
func (o *Options) sockets(l *Listener) (files []File, err error) {
	if l.Systemd == "" {
		return nil, nil
	}
	if len(l.Addresses) == 0 {
		return nil, fmt.Errorf("listener %q has systemd = %q and no address, so there is no value for ListenStream=; give it the address of its socket", l.Name, l.Systemd)
	}
	groups := []*group{{}, {suffix: "-v6", only6: true}, {suffix: "-unix", unix: true}}
	for _, a := range l.Addresses {
		if p, ok := strings.CutPrefix(a, "unix:"); ok {
			groups[2].listen = append(groups[2].listen, p)
			continue
		}
		text, only6, err := listenStream(l, a)
		if err != nil {
			return nil, err
		}
		g := groups[0]
		if only6 {
			g = groups[1]
		}
		g.listen = append(g.listen, text)
	}
	groups = slices.DeleteFunc(groups, func(g *group) bool { return len(g.listen) == 0 })
	for i, g := range groups {
		if i == 0 {
			g.suffix = "" // the name itself is free
		}
		files = append(files, File{"mpgate-" + l.Systemd + g.suffix + ".socket", o.socket(l, g)})
		if o.Pair && l.MPTCP && !g.unix {
			twin := *g
			twin.plain = true
			files = append(files, File{"mpgate-" + l.Systemd + g.suffix + "-tcp.socket", o.socket(l, &twin)})
		}
	}
	return files, nil
}

// listenStream formats an address for systemd.
func listenStream(l *Listener, address string) (text string, only6 bool, err error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", false, fmt.Errorf(`listener %q: address (got %q); host:port or unix:/path`, l.Name, address)
	}
	if host == "" {
		return port, false, nil // both IP versions
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return "", false, fmt.Errorf("listener %q: ListenStream= takes no names (got %q); write the IP address", l.Name, host)
	}
	return address, ip.Unmap().Is6(), nil
}

func (o *Options) head(b *strings.Builder, what string) {
	by := "mpgate units"
	if o.Version != "" {
		by += " " + o.Version
	}
	fmt.Fprintf(b, "# %s. Written by %s for %s.\n", what, by, o.Config)
}

func (o *Options) socket(l *Listener, g *group) string {
	var b strings.Builder
	what := fmt.Sprintf("The sockets of listener %q", l.Name)
	if g.plain {
		what += " with TCP: enabled = false in [mptcp] and a reload direct new connections here"
	}
	o.head(&b, what)
	b.WriteString("# A change of it takes effect by systemctl daemon-reload and a restart of this unit and of mpgate.\n\n[Unit]\n")
	fmt.Fprintf(&b, "Description=mpgate, sockets of listener %s\nDocumentation=man:mpgate(1)\n\n[Socket]\n", l.Name)
	for _, a := range g.listen {
		fmt.Fprintf(&b, "ListenStream=%s\n", a)
	}
	fmt.Fprintf(&b, "FileDescriptorName=%s\nService=mpgate.service\n", l.Systemd)
	switch {
	case g.unix:
		mode := l.Mode
		if mode == 0 {
			mode = 0o660
		}
		fmt.Fprintf(&b, "SocketMode=%#o\n# Who may connect in addition to root:\n#SocketGroup=www-data\n", mode)
	default:
		if l.MPTCP && !g.plain {
			b.WriteString(olderSystemd(l))
			b.WriteString("SocketProtocol=mptcp\n")
		}
		if l.MPTCP && o.Pair {
			b.WriteString("# Both units of a pair have it.\nReusePort=yes\n")
		}
		if g.only6 {
			b.WriteString("BindIPv6Only=ipv6-only\n")
		}
		if l.Interface != "" {
			fmt.Fprintf(&b, "BindToDevice=%s\n", l.Interface)
		}
		b.WriteString("NoDelay=yes\nKeepAlive=yes\n")
	}
	b.WriteString("\n[Install]\nWantedBy=sockets.target\n")
	return b.String()
}

func olderSystemd(l *Listener) string {
	then := "uses TCP and reports it"
	if l.Require {
		then = "does not start, for mptcp = \"require\""
	}
	return "# systemd before 257 (systemctl --version) ignores the next line with a warning and passes a TCP socket; mpgate then\n# " + then + ".\n"
}

// ownPorts are the listeners that bind a low port themselves.
func (o *Options) ownPorts() (out []string) {
	for _, l := range o.Listeners {
		if l.Systemd != "" {
			continue
		}
		for _, a := range l.Addresses {
			_, port, err := net.SplitHostPort(a)
			if n := 0; err == nil && !strings.HasPrefix(a, "unix:") {
				if _, err := fmt.Sscan(port, &n); err == nil && n > 0 && n < 1024 {
					out = append(out, fmt.Sprintf("%s (%s)", l.Name, a))
				}
			}
		}
	}
	return out
}

// writable are the directories that the service must be able to write to.
func (o *Options) writable() (out []string) {
	add := func(file string) {
		dir := path.Dir(file)
		for _, known := range []string{"/run/mpgate", "/var/lib/mpgate", "/var/log/mpgate"} {
			if dir == known || strings.HasPrefix(dir, known+"/") {
				return
			}
		}
		if !slices.Contains(out, dir) {
			out = append(out, dir)
		}
	}
	for _, l := range o.Listeners {
		for _, a := range l.Addresses {
			if p, ok := strings.CutPrefix(a, "unix:"); ok && l.Systemd == "" && !strings.HasPrefix(p, "@") {
				add(p)
			}
		}
	}
	for _, w := range o.Writes {
		add(w)
	}
	return out
}
