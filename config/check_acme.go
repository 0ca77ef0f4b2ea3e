package config

import (
	"slices"
	"strings"
)

// checkACME checks a table acme. hosts are the hosts of its policy, and hostsNode is their node.
func (l *loader) checkACME(a *ACME, n *node, hosts []string, hostsNode *node) {
	domains, challenges := n.get("domains"), n.get("challenges")
	if !domains.at.written && len(hosts) > 0 {
		a.Domains, domains = slices.Clone(hosts), hostsNode
	}
	if len(a.Domains) == 0 {
		l.fault(domains.at, `is empty; name the hosts to get certificates for, for example domains = [ "example.org" ]`)
	}
	if a.DNS != nil && !challenges.at.written {
		a.Challenges = []Challenge{DNS01}
	}
	if len(a.Challenges) == 0 {
		l.fault(challenges.at, `is empty; name at least one of "http-01", "tls-alpn-01" and "dns-01", or leave it out`)
	}
	dns := slices.Contains(a.Challenges, DNS01)
	for i, name := range a.Domains {
		if strings.HasPrefix(name, "*.") && !dns && !challenges.at.unset {
			l.fault(domains.item(i).at, `is a wildcard%s, which only the challenge "dns-01" can prove; add that to challenges, and acme.dns`, domains.item(i).got())
		}
	}
	a.Domains, a.Challenges = compact(a.Domains), compact(a.Challenges)
	switch {
	case a.DNS == nil && dns:
		l.fault(challenges.at, `has "dns-01" without acme.dns; set there who writes the records: rfc2136, exec or webhook`)
	case a.DNS != nil && !dns:
		l.fault(n.get("dns").at, `is set, but challenges has no "dns-01"; add it, or leave this out`)
	}
	if a.DNS != nil {
		l.checkDNS(a.DNS, n.get("dns"))
	}
}

func (l *loader) checkDNS(d *DNS, n *node) {
	if n.has("webhook_token") && !n.has("webhook") {
		l.fault(n.get("webhook_token").at, "is set without webhook; leave it out")
	}
	if len(d.Exec) > 0 {
		d.Exec[0] = l.program(n.get("exec").item(0))
	}
}

// program returns the path of a program. A bare name is looked up in PATH when the program is run.
func (l *loader) program(n *node) string {
	s := n.text()
	if s == "" {
		l.wrong(n, "is empty; must be the program to run")
	}
	if !strings.Contains(s, "/") {
		return s
	}
	path, problem := filePath(s, n.at.dir)
	if problem != "" {
		l.wrong(n, problem)
	}
	return path
}
