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

	// NetAdmin says what the gateway needs CAP_NET_ADMIN for, "" for nothing.
	NetAdmin string
	// HangUp says that `mpgate reload` cannot reach it: its admin address is off, or read-only as
	// every host:port is.
	HangUp bool
	// Writes are files and directories that it writes beside its state, its logs and /run/mpgate.
	Writes []string
	// Keys are files of private keys that it reads.
	Keys []string
	// Reads are further files, and sockets of servers, that it opens: they are asked for by
	// Warnings only.
	Reads []string
	// Pair has each listener that uses MPTCP get a second unit, whose sockets are TCP: mpgate can
	// then be told by a reload to take connections by that one only.
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

// Generate gives the .socket units in the order of the listeners, then mpgate.service.
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

// group is what of a listener's sockets fits one unit: an option of a unit holds for all its
// sockets.
type group struct {
	suffix string
	unix   bool
	only6  bool
	listen []string
	plain  bool // the TCP half of a pair
}

// sockets gives the units of one listener.
func (o *Options) sockets(l *Listener) (files []File, err error) {
	if l.Systemd == "" {
		return nil, nil
	}
	if len(l.Addresses) == 0 {
		return nil, fmt.Errorf("listener %q has systemd = %q and no address, so there is nothing to write as ListenStream=; give it the address that its socket is to have", l.Name, l.Systemd)
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

// listenStream writes an address as systemd wants it.
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
		what += " by TCP: new connections are steered here by enabled = false in [mptcp], and a reload"
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
		fmt.Fprintf(&b, "SocketMode=%#o\n# Who may connect beside root:\n#SocketGroup=www-data\n", mode)
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
	then := "serves by TCP and says so"
	if l.Require {
		then = "does not start, for mptcp = \"require\""
	}
	return "# systemd before 257 (systemctl --version) ignores the next line with a warning and passes a TCP socket; mpgate then\n# " + then + ".\n"
}

// ownPorts are the listeners that bind a low port by themselves.
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

// writable are the directories that the service must be let write to.
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
