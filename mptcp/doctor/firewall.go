package doctor

import (
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
)

// firewall looks for rules of this host that drop or remove the option.
func (e *examination) firewall() {
	const check = "firewall"
	before := len(e.findings)
	out, err := e.Command(e.ctx, "nft", "-a", "list", "ruleset")
	readable := err == nil
	if readable {
		e.nftables(string(out))
	}
	legacy := false
	for _, program := range []string{"iptables-save", "ip6tables-save"} {
		if out, err := e.Command(e.ctx, program); err == nil {
			legacy = true
			e.iptables(strings.TrimSuffix(program, "-save"), string(out))
		}
	}
	switch {
	case len(e.findings) > before:
	case readable || legacy:
		e.add(OK, check, "", "no firewall rule of this host drops or removes the MPTCP option", "")
	case errors.Is(err, exec.ErrNotFound):
		e.add(OK, check, "", "no firewall program is installed: not examined", "")
	default:
		e.add(OK, check, "", "this user cannot read the firewall rules: not examined", "")
	}
}

var (
	nftOption = regexp.MustCompile(`\btcp option (mptcp|30)\b`)
	nftBad    = regexp.MustCompile(`\b(drop|reject|reset tcp option (mptcp|30))\b`)
	nftHandle = regexp.MustCompile(`# handle (\d+)`)
)

// nftables reads the text of `nft -a list ruleset`.
func (e *examination) nftables(text string) {
	var table, chain string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		f := strings.Fields(line)
		switch {
		case len(f) > 2 && f[0] == "table":
			table = f[1] + " " + f[2]
		case len(f) > 1 && f[0] == "chain":
			chain = f[1]
		case nftOption.MatchString(line) && nftBad.MatchString(line):
			rule, _, _ := strings.Cut(line, " # handle")
			remedy := ""
			if h := nftHandle.FindStringSubmatch(line); h != nil {
				remedy = fmt.Sprintf("nft delete rule %s %s handle %s", table, chain, h[1])
			}
			e.add(Warning, "firewall", "", fmt.Sprintf("nftables (%s %s) drops or removes the MPTCP option: %s", table, chain, rule), remedy)
		}
	}
}

// iptables reads the text of iptables-save.
func (e *examination) iptables(program, text string) {
	table := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "*"); ok {
			table = rest
			continue
		}
		option := strings.Contains(line, "--tcp-option 30") || strings.Contains(line, "--strip-options") && strings.Contains(line, "30")
		bad := strings.Contains(line, "-j DROP") || strings.Contains(line, "-j REJECT") || strings.Contains(line, "-j TCPOPTSTRIP")
		if rest, ok := strings.CutPrefix(line, "-A "); ok && option && bad {
			e.add(Warning, "firewall", "", fmt.Sprintf("%s (%s) drops or removes the MPTCP option: %s", program, table, rest),
				fmt.Sprintf("%s -t %s -D %s", program, table, rest))
		}
	}
}
