package doctor

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"mpgate/mptcp"
	"mpgate/mptcp/paths"
)

// servers connects to each: its transport, the number of subflows, and the round-trip time by each
// path.
func (e *examination) servers() {
	for i := range e.Servers {
		if s := &e.Servers[i]; s.Address.IsValid() && e.ctx.Err() == nil {
			e.server(s)
		}
	}
}

func (e *examination) server(s *Server) {
	const check = "servers"
	subject := s.Backend + " " + s.Name
	d := mptcp.Dialer{Mode: s.Mode, Source: s.Source, Interface: s.Interface}
	if s.Mode == mptcp.Require {
		d.Mode = mptcp.Prefer // to report more than a failure
	}
	ctx, cancel := context.WithTimeout(e.ctx, e.Timeout)
	defer cancel()
	c, r, err := d.Dial(ctx, s.Address)
	if err != nil {
		e.add(Error, check, subject, "cannot connect: "+err.Error(), "start the server, or correct its address; "+firewallHint(err))
		return
	}
	defer c.Close()
	far := e.byPath(s)
	switch {
	case r.Transport == mptcp.MPTCP:
		e.add(OK, check, subject, "uses MPTCP"+e.subflows(ctx, s, c)+far, "")
	case s.Mode == mptcp.Off:
		e.add(OK, check, subject, "reached by TCP, as configured"+far, "")
	default:
		level := Warning
		if s.Mode == mptcp.Require {
			level = Error
		}
		what, remedy := e.fallback(r)
		e.add(level, check, subject, what+far, remedy)
	}
}

func firewallHint(err error) string {
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		return "if it is running, a firewall may drop the SYN"
	}
	return "check that it listens there"
}

func (e *examination) fallback(r mptcp.Result) (what, remedy string) {
	switch {
	case r.Reason == mptcp.HostUnable:
		return "reached by TCP: this host does not support MPTCP", "see the kernel finding"
	case e.blackholeActive:
		return "reached by TCP: the kernel does not request MPTCP, or MPTCP SYNs were dropped", "see the blackhole finding"
	}
	return "answers without MPTCP: the server does not support it, or a middlebox removes the option",
		`make the server listen with MPTCP (mptcpize run CMD, or SocketProtocol=mptcp), or set mptcp = "off" for it`
}

// subflowsWait is how long to wait for further subflows.
const subflowsWait = 500 * time.Millisecond

func (e *examination) subflows(ctx context.Context, s *Server, c *net.TCPConn) string {
	rc, err := c.SyscallConn()
	if s.Probe == nil || err != nil {
		return ""
	}
	if d, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(d)
	}
	if err := s.Probe(ctx, c); err != nil {
		return fmt.Sprintf(" (the probe request failed: %v)", err)
	}
	// After the first data in both directions the kernel makes further subflows, if there are
	// endpoints.
	n := 1
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(subflowsWait); n < 2 && time.Now().Before(end) && ctx.Err() == nil; <-tick.C {
		if got, err := mptcp.SubflowCount(rc); err == nil {
			n = got
		}
	}
	if n == 1 {
		return ", 1 subflow"
	}
	return fmt.Sprintf(", %d subflows", n)
}

// byPath measures a connect from an address of each path.
func (e *examination) byPath(s *Server) string {
	if s.Source.IsValid() || s.Interface != "" || len(e.Paths.Paths) == 0 {
		return ""
	}
	var out []string
	for i := range e.Paths.Paths {
		p := &e.Paths.Paths[i]
		if p.Role == paths.ForListeners || p.Announce {
			continue
		}
		for _, a := range addressesOf(p) {
			if a.Is4() != s.Address.Addr().Is4() {
				continue
			}
			d := mptcp.Dialer{Mode: mptcp.Off, Source: a}
			ctx, cancel := context.WithTimeout(e.ctx, e.Timeout)
			begin := time.Now()
			c, _, err := d.Dial(ctx, s.Address)
			took := time.Since(begin)
			cancel()
			if err != nil {
				e.add(Warning, "servers", s.Backend+" "+s.Name, fmt.Sprintf("not reached by path %q (from %s): %v", p.Name, a, err),
					"source routing for that address (see routes), or role = \"listener\" for the path")
				continue
			}
			c.Close()
			out = append(out, fmt.Sprintf("%s %s", p.Name, took.Round(10*time.Microsecond)))
		}
	}
	if len(out) == 0 {
		return ""
	}
	return "; round trip by path: " + strings.Join(out, ", ")
}
