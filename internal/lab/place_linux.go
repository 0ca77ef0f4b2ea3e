package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Place is a network namespace of a lab.
type Place struct {
	lab   *Lab
	name  string
	space space
	nl    *netlink.Handle
}

func newPlace(l *Lab, name string, s PlaceSpec) (*Place, error) {
	sp, err := newSpace()
	if err != nil {
		return nil, err
	}
	p := &Place{lab: l, name: name, space: sp}
	if p.nl, err = netlink.NewHandleAt(netns.NsHandle(sp.fd()), unix.NETLINK_ROUTE); err != nil {
		p.close()
		return nil, fmt.Errorf("lab: place %q: %w", name, err)
	}
	lo, err := p.nl.LinkByName("lo")
	if err == nil {
		err = p.nl.LinkSetUp(lo)
	}
	if err != nil {
		p.close()
		return nil, fmt.Errorf("lab: place %q: lo: %w", name, err)
	}
	if err := p.sysctls(baseline); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// baseline is written before links are made (they inherit conf/default).
var baseline = map[string]string{
	"net.ipv4.conf.all.rp_filter":         "0", // a server's address may be reached by either link
	"net.ipv4.conf.default.rp_filter":     "0",
	"net.ipv4.tcp_no_metrics_save":        "1", // a connection does not learn from those before it
	"net.ipv6.conf.default.accept_ra":     "0",
	"net.ipv6.conf.default.accept_dad":    "0",
	"net.ipv6.conf.default.addr_gen_mode": "1", // no link-local address: nothing speaks unasked
}

// configure does what needs the links to be up.
func (p *Place) configure(s PlaceSpec) error {
	if p.lab.congestion.Means == "namespace" {
		if err := p.Sysctl("net.ipv4.tcp_congestion_control", p.lab.congestion.Name); err != nil {
			return err
		}
	}
	if !s.NoEndpoints {
		if err := p.SetLimits(8, 8); err != nil {
			return err
		}
		for _, link := range p.lab.Links() {
			if link.ends[0].place != p {
				continue
			}
			for _, a := range link.ends[0].addresses() {
				if err := p.AddEndpoint(Endpoint{Addr: a.Addr(), Flags: Subflow, Dev: link.DevA}); err != nil {
					return err
				}
			}
		}
	}
	return p.sysctls(s.Sysctl)
}

func (p *Place) close() {
	if p.nl != nil {
		p.nl.Close()
	}
	_ = p.space.file.Close()
}

// Name returns the name.
func (p *Place) Name() string { return p.name }

// Addrs returns the addresses of the place, as its links come in the Spec.
func (p *Place) Addrs() (all []netip.Addr) {
	for _, link := range p.lab.Links() {
		for i := range link.ends {
			if link.ends[i].place == p {
				for _, a := range link.ends[i].addresses() {
					all = append(all, a.Addr())
				}
			}
		}
	}
	return all
}

// Path is a file that stands for the namespace, for nsenter and for others who
// call setns; valid as long as this process and the lab live.
func (p *Place) Path() string { return p.space.path() }

// Do runs f on a thread inside the place, which is thrown away afterwards.
// Sockets that f makes belong to the place for good. Goroutines that f starts
// are outside. f must not call t.FailNow. What stands under /proc/net is this
// process's, not the place's: read /proc/thread-self/net.
func (p *Place) Do(f func() error) error { return p.space.do(f) }

// Command is exec.CommandContext for a program that runs in the place. It is
// killed when the lab is closed or this process ends. It starts as root: to run
// it as another user go through setpriv, not through SysProcAttr.
func (p *Place) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + p.Path(), "--", name}, args...)...)
}

// Sysctl writes a sysctl of the place: Sysctl("net.mptcp.enabled", "0").
func (p *Place) Sysctl(name, value string) error {
	return p.sysctls(map[string]string{name: value})
}

func (p *Place) sysctls(all map[string]string) error {
	if len(all) == 0 {
		return nil
	}
	return p.Do(func() error {
		for name, value := range all {
			if err := writeSysctl(name, value); err != nil {
				return fmt.Errorf("lab: place %q: %w", p.name, err)
			}
		}
		return nil
	})
}

func writeSysctl(name, value string) error {
	if err := os.WriteFile(sysctlFile(name), []byte(value), 0); err != nil {
		return fmt.Errorf("sysctl %s=%s: %w", name, value, err)
	}
	return nil
}

// ReadSysctl reads a sysctl of the place.
func (p *Place) ReadSysctl(name string) (value string, err error) {
	err = p.Do(func() error {
		b, err := os.ReadFile(sysctlFile(name))
		value = strings.TrimSpace(string(b))
		return err
	})
	return value, err
}

// sysctlFile takes both spellings, with dots and (for names with dots in
// them) with slashes, as sysctl(8) does.
func sysctlFile(name string) string {
	if !strings.Contains(name, "/") {
		name = strings.ReplaceAll(name, ".", "/")
	}
	return filepath.Join("/proc/sys", name)
}

// Listen listens in the place: address is "10.77.1.2:0", or ":80".
func (p *Place) Listen(ctx context.Context, proto Proto, address string) (*net.TCPListener, error) {
	var l net.Listener
	err := p.Do(func() (err error) {
		var c net.ListenConfig
		c.SetMultipathTCP(bool(proto))
		l, err = c.Listen(ctx, "tcp", address)
		return err
	})
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// Dial connects from the place; the zero from leaves the source to the kernel.
func (p *Place) Dial(ctx context.Context, proto Proto, from netip.Addr, to string) (*net.TCPConn, error) {
	// A name would be looked up, and connected to, by goroutines outside.
	if _, err := netip.ParseAddrPort(to); err != nil {
		return nil, fmt.Errorf("lab: dial: %w; give address:port", err)
	}
	var c net.Conn
	err := p.Do(func() (err error) {
		var d net.Dialer
		d.SetMultipathTCP(bool(proto))
		if from.IsValid() {
			d.LocalAddr = &net.TCPAddr{IP: from.AsSlice()}
		}
		c, err = d.DialContext(ctx, "tcp", to)
		return err
	})
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}
