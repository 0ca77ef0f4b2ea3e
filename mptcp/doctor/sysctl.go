package doctor

import (
	"fmt"
	"os"
	"strings"

	"mpgate/mptcp/paths"
)

// sysctl reads one; "" if this kernel does not have it.
func sysctl(name string) string {
	b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func (e *examination) sysctls() {
	const check = "sysctl"
	before := len(e.findings)
	// pm_type was the name before Linux 6.16.
	if v := sysctl("net.mptcp.path_manager"); v != "" && v != "kernel" {
		e.add(e.ifPaths(), check, "", fmt.Sprintf("the path manager is %q: endpoints have no effect", v), "sysctl -w net.mptcp.path_manager=kernel")
	} else if v := sysctl("net.mptcp.pm_type"); v == "1" {
		e.add(e.ifPaths(), check, "", "the path manager is in user space: endpoints have no effect", "sysctl -w net.mptcp.pm_type=0")
	}
	if v := sysctl("net.mptcp.scheduler"); v != "" && v != "default" {
		e.add(Warning, check, "", fmt.Sprintf("the packet scheduler is %q; fail-over was measured with the default one", v), "sysctl -w net.mptcp.scheduler=default")
	}
	if sysctl("net.mptcp.checksum_enabled") == "1" {
		e.add(Warning, check, "", "DSS checksums are on: they cost CPU time for each byte, and help only if a middlebox changes payload", "sysctl -w net.mptcp.checksum_enabled=0")
	}
	announces, initial := false, sysctl("net.mptcp.allow_join_initial_addr_port")
	for _, p := range e.Paths.Paths {
		announces = announces || p.Announce
	}
	switch {
	case initial == "0" && !announces:
		e.add(Warning, check, "", "clients are told not to join at the address they connected to, and no other address is announced: they get one subflow",
			`sysctl -w net.mptcp.allow_join_initial_addr_port=1, or { address = "…", announce = true } in mptcp.paths`)
	case initial == "1" && announces:
		e.add(Warning, check, "", "addresses are announced as behind a balancer, but clients may still join at the address they connected to, where a join can reach another host",
			"sysctl -w net.mptcp.allow_join_initial_addr_port=0")
	}
	if len(e.findings) == before {
		e.add(OK, check, "", "the net.mptcp settings are suitable", "")
	}
}

// ifPaths is the level of a finding that makes declared paths ineffective.
func (e *examination) ifPaths() Level {
	if len(e.Paths.Paths) > 0 && e.Paths.Manage != paths.ManageOff {
		return Error
	}
	return Warning
}
