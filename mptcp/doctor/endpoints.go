package doctor

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"mpgate/mptcp"
	"mpgate/mptcp/paths"
)

// endpoints compares the declared paths with the kernel's endpoints.
func (e *examination) endpoints() {
	const check = "endpoints"
	o := e.Paths
	if o.Manage == paths.ManageOff {
		o.Manage = paths.ManageWatch
	}
	if len(o.Paths) == 0 {
		o.Limits = nil
	}
	s, err := paths.Look(o)
	if err != nil {
		e.add(Warning, check, "", "cannot query the path manager: "+err.Error(), "load the kernel module mptcp_pm, or run mpgate doctor where netlink is allowed")
		return
	}
	for _, p := range s.Paths {
		if p.State != paths.Up {
			e.add(Warning, check, p.Name, p.Why, upRemedy(&p))
		}
	}
	before := len(e.findings)
	foreign := []string{}
	for _, ep := range s.Endpoints {
		switch {
		case ep.Difference != "":
			e.difference(&ep)
		case !ep.Wanted:
			foreign = append(foreign, ep.Addr.String()+" ("+ep.Flags.String()+")")
		}
	}
	if len(foreign) > 0 && len(o.Paths) > 0 {
		e.add(Warning, check, "", "endpoints that no path declares: "+strings.Join(foreign, ", "), "declare them in mptcp.paths, or ip mptcp endpoint delete id ID (ip mptcp endpoint show)")
	}
	if w := s.WantedLimits; w != nil && *w != s.Limits {
		e.add(e.unlessSync(), check, "", fmt.Sprintf("the limits are subflows %d and add_addr_accepted %d, the configuration has %d and %d",
			s.Limits.Subflows, s.Limits.AddrAccepted, w.Subflows, w.AddrAccepted), limitsCommand(*w))
	} else if s.Limits.Subflows == 0 {
		e.add(Warning, check, "", "the limit for additional subflows is 0: every connection has only one path", limitsCommand(mptcp.Limits{Subflows: 2, AddrAccepted: s.Limits.AddrAccepted}))
	}
	limits := s.Limits
	if s.WantedLimits != nil {
		limits = *s.WantedLimits
	}
	e.slots(s.Paths, limits)
	if o.Failover != paths.FailoverOff && e.Paths.Manage != paths.ManageSync {
		e.add(Warning, check, "", fmt.Sprintf("failover = %q ends subflows on a failed path, and without manage = \"sync\" none is created again when the path comes back", o.Failover),
			`manage = "sync" in [mptcp]`)
	}
	if len(e.findings) == before {
		e.add(OK, check, "", fmt.Sprintf("%s, limits: subflows %d, add_addr_accepted %d", plural(len(s.Endpoints), "endpoint", "endpoints"), s.Limits.Subflows, s.Limits.AddrAccepted), "")
	}
}

// slots checks the limit of subflows. On a client's connection the kernel also tries the addresses
// for dials, without success, and each attempt counts against the limit of additional subflows.
// Those that clients make to the other announced addresses count, too.
func (e *examination) slots(all []paths.PathStatus, l mptcp.Limits) {
	dialled, announced := 0, 0
	for i := range all {
		p := &all[i]
		if p.Role != paths.ForListeners {
			dialled += len(p.Addresses)
		}
		if p.Role != paths.ForBackends {
			announced += len(p.Addresses)
		}
	}
	if dialled == 0 || announced < 2 || len(e.Paths.Paths) == 0 || l.Subflows == 0 {
		return
	}
	if i := slices.IndexFunc(all, func(p paths.PathStatus) bool { return p.Role != paths.ForBackends && len(p.Addresses) > 0 }); all[i].Role == paths.Both {
		dialled-- // the address of the connection itself
	}
	if dialled == 0 {
		return
	}
	need := dialled + announced - 1
	if int(l.Subflows) >= min(need, maxSubflows) {
		return
	}
	e.add(Warning, "endpoints", "", fmt.Sprintf("limits.subflows is %d: on client connections attempts from %s for backends fail and count against it, which may leave too few for the additional paths of clients (%d)",
		l.Subflows, plural(dialled, "address", "addresses"), announced-1), fmt.Sprintf("limits = { subflows = %d, add_addr_accepted = %d } in [mptcp]", min(need, maxSubflows), l.AddrAccepted))
}

// maxSubflows is the kernel's MPTCP_PM_ADDR_MAX.
const maxSubflows = 8

func limitsCommand(l mptcp.Limits) string {
	return fmt.Sprintf("ip mptcp limits set subflows %d add_addr_accepted %d", l.Subflows, l.AddrAccepted)
}

// unlessSync is the level of a difference that sync itself fixes when it runs.
func (e *examination) unlessSync() Level {
	if e.Paths.Manage == paths.ManageSync {
		return OK
	}
	return Warning
}

func (e *examination) difference(ep *paths.EndpointStatus) {
	level := e.unlessSync()
	remedy := `manage = "sync" in [mptcp], or: ` + endpointCommand(ep)
	if level == OK {
		remedy = ""
	}
	if ep.Found && ep.Wanted && !ep.Ours && !e.Paths.Adopt {
		level, remedy = Warning, fmt.Sprintf("adopt = true in [mptcp], or: ip mptcp endpoint delete id %d", ep.ID)
	}
	e.add(level, "endpoints", ep.Path, fmt.Sprintf("%s %s", ep.Addr, ep.Difference), remedy)
}

func endpointCommand(ep *paths.EndpointStatus) string {
	s := "ip mptcp endpoint add " + ep.Addr.String()
	if dev := deviceName(ep.Interface); dev != "" {
		s += " dev " + dev
	}
	if ep.Port != 0 {
		s += fmt.Sprintf(" port %d", ep.Port)
	}
	return s + " " + strings.ReplaceAll(ep.Flags.String(), ",", " ")
}

func upRemedy(p *paths.PathStatus) string {
	switch {
	case p.Interface == "":
		return "ip address add ADDRESS dev INTERFACE, or remove the path from mptcp.paths"
	case len(p.Addresses) == 0 && !strings.HasSuffix(p.Why, "is down") && !strings.HasSuffix(p.Why, "no carrier"):
		return "ip address add ADDRESS dev " + p.Interface
	case strings.HasSuffix(p.Why, "no carrier"):
		return "connect the link"
	}
	return "ip link set " + p.Interface + " up"
}

// managers finds other programs that write endpoints.
func (e *examination) managers() {
	const check = "path managers"
	found := map[string]bool{}
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, d := range dirs {
		if n := d.Name(); n[0] < '0' || n[0] > '9' {
			continue
		}
		if b, err := os.ReadFile("/proc/" + d.Name() + "/comm"); err == nil {
			found[strings.TrimSpace(string(b))] = true
		}
	}
	e.reportManagers(check, found["mptcpd"], found["NetworkManager"])
}

func (e *examination) reportManagers(check string, mptcpd, networkManager bool) {
	manages := e.Paths.Manage == paths.ManageSync
	switch {
	case mptcpd && manages:
		e.add(Error, check, "mptcpd", `it is running and changes endpoints too, but manage = "sync"`, "systemctl disable --now mptcp")
	case mptcpd:
		e.add(Warning, check, "mptcpd", "it is running and changes endpoints", "systemctl disable --now mptcp, to let mpgate do it")
	case networkManager && manages:
		e.add(Warning, check, "NetworkManager", `it is running and may change endpoints too, but manage = "sync"`, "nmcli connection modify ID connection.mptcp-flags disabled")
	default:
		e.add(OK, check, "", "no other program that changes endpoints was found", "")
	}
}
