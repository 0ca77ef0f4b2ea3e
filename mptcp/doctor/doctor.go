// Package doctor examines a host, and what a gateway on it should do, and reports
// what prevents MPTCP: each finding with the command or the line of
// configuration that fixes it. It changes nothing.
//
//	kernel.go     MPTCP in the kernel and its later features; GODEBUG in the environment
//	sysctl.go     net.mptcp.*
//	hostmem.go    the kernel's limits for socket memory, against the limit of connections
//	endpoints.go  endpoints and limits against the declared paths; other path managers
//	listeners.go  sockets that joins cannot reach; systemd and inherited sockets
//	routes.go     rp_filter and source routing, for each path
//	firewall.go   rules that drop or remove the option
//	blackhole.go  the kernel's record of dropped MPTCP SYNs
//	probe.go      each server: does it use MPTCP, how many subflows, RTT by path
package doctor

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"time"

	"mpgate/mptcp"
	"mpgate/mptcp/paths"
)

// Level of a finding.
type Level uint8

const (
	OK Level = iota
	Warning
	Error
)

func (l Level) String() string {
	switch l {
	case OK:
		return "ok"
	case Warning:
		return "warning"
	case Error:
		return "error"
	}
	return fmt.Sprintf("Level(%d)", uint8(l))
}

// MarshalText is for JSON.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// A Finding is one thing that was looked at.
type Finding struct {
	Level Level `json:"level"`
	// Check is which of the checks found it: "kernel", "sysctl", "endpoints" …
	Check string `json:"check"`
	// Subject is the listener, path or server, "" for the host.
	Subject string `json:"subject,omitempty"`
	// What is so, in one line.
	What string `json:"what"`
	// Remedy is the command or the line that fixes it; "" where nothing is wrong.
	Remedy string `json:"remedy,omitempty"`
}

func (f Finding) String() string {
	s := f.Level.String() + " " + f.Check + ": "
	if f.Subject != "" {
		s += f.Subject + ": "
	}
	s += f.What
	if f.Remedy != "" {
		s += "; remedy: " + f.Remedy
	}
	return s
}

// A Listener is a front listener as it is configured.
type Listener struct {
	Name      string
	Addresses []string // host:port; others are passed over
	Mode      mptcp.Mode
	Systemd   string // FileDescriptorName of its sockets, "" for none
}

// An Inherited socket is one that this process, or the gateway, was given.
type Inherited struct {
	Name, Address string
	Transport     mptcp.Transport
}

// A Server of a backend.
type Server struct {
	Name      string // as configured
	Backend   string
	Address   netip.AddrPort
	Mode      mptcp.Mode
	Source    netip.Addr
	Interface string
	// Probe exchanges the first bytes, after which further subflows are made. nil: nothing is sent
	// to the server, and subflows are not counted.
	Probe func(context.Context, net.Conn) error
}

// Options describe the gateway. The zero value examines the host only.
type Options struct {
	Listeners []Listener
	Inherited []Inherited
	Servers   []Server
	// Paths are what is declared, with Manage, Failover, Limits and Fullmesh. Other fields do not
	// count.
	Paths paths.Options
	// Connections is how many clients may be connected at a time; 0: unknown.
	Connections int
	// Timeout of a connect to a server; 0: 3 s.
	Timeout time.Duration
	// Command runs a program and gives its output; nil: exec. Those asked are nft,
	// iptables-save and systemctl.
	Command func(ctx context.Context, name string, args ...string) ([]byte, error)
}

const defaultTimeout = 3 * time.Second

// examination is what the checks share.
type examination struct {
	Options
	ctx      context.Context
	support  mptcp.Support
	findings []Finding
	// blackholeActive: the kernel does not request MPTCP at present.
	blackholeActive bool
}

// Examine runs all checks. The network namespace is that of the calling thread, which
// must not change it meanwhile.
func Examine(ctx context.Context, o Options) []Finding {
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.Command == nil {
		o.Command = func(ctx context.Context, name string, args ...string) ([]byte, error) {
			return exec.CommandContext(ctx, name, args...).Output()
		}
	}
	e := &examination{Options: o, ctx: ctx}
	e.kernel()
	e.memory()
	if e.support.Usable {
		e.sysctls()
		e.hostMemory()
		e.endpoints()
		e.managers()
	}
	e.listeners()
	e.systemd()
	e.routes()
	e.firewall()
	if e.support.Usable {
		e.blackhole()
	}
	e.servers()
	return e.findings
}

// Worst is the highest level among them.
func Worst(f []Finding) Level {
	worst := OK
	for _, x := range f {
		worst = max(worst, x.Level)
	}
	return worst
}

func (e *examination) add(l Level, check, subject, what, remedy string) {
	e.findings = append(e.findings, Finding{l, check, subject, what, remedy})
}

// wanted reports whether anything should use MPTCP, and whether anything must.
func (e *examination) wanted() (any, must bool) {
	modes := []mptcp.Mode{}
	for _, l := range e.Listeners {
		modes = append(modes, l.Mode)
	}
	for _, s := range e.Servers {
		modes = append(modes, s.Mode)
	}
	any = len(modes) == 0 || slices.ContainsFunc(modes, func(m mptcp.Mode) bool { return m != mptcp.Off })
	return any, slices.Contains(modes, mptcp.Require)
}

// plural is a number with its noun.
func plural(n int, one, more string) string {
	if n == 1 {
		more = one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// ProbeHTTP asks a server that uses HTTP/1.1 for its options and reads the beginning of the answer.
func ProbeHTTP(host string) func(context.Context, net.Conn) error {
	return func(_ context.Context, c net.Conn) error {
		if _, err := fmt.Fprintf(c, "OPTIONS * HTTP/1.1\r\nHost: %s\r\nUser-Agent: mpgate-doctor\r\n\r\n", host); err != nil {
			return err
		}
		_, err := c.Read(make([]byte, 1))
		return err
	}
}

// ProbeTLS makes a handshake. That it succeeds does not matter: bytes have passed both ways.
func ProbeTLS(cfg *tls.Config) func(context.Context, net.Conn) error {
	return func(ctx context.Context, c net.Conn) error { return tls.Client(c, cfg).HandshakeContext(ctx) }
}
