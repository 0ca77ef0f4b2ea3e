package doctor

import (
	"fmt"
	"strings"

	"mpgate/mptcp"
)

func (e *examination) kernel() {
	const check = "kernel"
	s := mptcp.Probe()
	e.support = s
	level := OK
	if !s.Usable {
		if wanted, must := e.wanted(); must {
			level = Error
		} else if wanted {
			level = Warning
		}
		e.add(level, check, "", s.Why, s.Remedy)
		return
	}
	e.add(OK, check, "", fmt.Sprintf("Linux %s supports MPTCP", s.Kernel), "")
	e.features(s.Features)
	if mptcp.Disabled() {
		return // Probe has said so
	}
	var names []string
	for _, l := range e.Listeners {
		if l.Mode != mptcp.Off {
			names = append(names, l.Name)
		}
	}
	if len(names) > 0 {
		e.add(OK, check, "", fmt.Sprintf("listeners that use MPTCP (keep the kernel up to date): %s", strings.Join(names, ", ")), "")
	}
}

// features names what this kernel's MPTCP does not have yet.
func (e *examination) features(f mptcp.Features) {
	const check = "kernel"
	switch {
	case !f.Info:
		e.add(Warning, check, "", "this kernel cannot distinguish an MPTCP connection from a fallback (MPTCP_INFO is missing)", "run Linux 5.16 or later; 6.10 or later is better")
	case !f.FullInfo:
		e.add(Warning, check, "", "this kernel does not return all subflows in one call (MPTCP_FULL_INFO is missing): figures are less exact", "run Linux 6.5 or later")
	case !f.IsMPTCP:
		e.add(Warning, check, "", "this kernel reports a fallback only indirectly (TCP_IS_MPTCP is missing)", "run Linux 6.10 or later")
	}
}
