//go:build linux

package paths

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// Kept is a lab that stays up for users who want to look.
type Kept struct {
	site *site
}

func (s *site) kept() *Kept { return &Kept{s} }

// Text gives the places names that `ip netns` knows, and says how to enter them and what is there.
func (k *Kept) Text() (string, error) {
	s := k.site
	if err := s.use(variant{mptcp: true, all: true}); err != nil {
		return "", err
	}
	prefix := "mpgate"
	if _, err := os.Stat("/run/netns/mpgate-client"); err == nil {
		prefix = fmt.Sprintf("mpgate%d", os.Getpid()) // another lab has the name
	}
	if err := s.lab.Name(prefix); err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "The lab is up: %s, several paths: %s. A shell in each place:\n", s.scenario.About, s.side)
	for _, p := range s.lab.Places() {
		var addrs []string
		for _, a := range p.Addrs() {
			addrs = append(addrs, a.String())
		}
		fmt.Fprintf(&b, "  ip netns exec %s-%s bash    # %s\n", prefix, p.Name(), strings.Join(addrs, " "))
	}
	to := netip.AddrPortFrom(s.front[0].AddrB.Addr(), gatewayPort)
	fmt.Fprintf(&b, "mpgate (process %d, %s/mpgate.toml) listens on port %d of the gateway, for example from the client:\n", s.gateway.PID, s.dir, gatewayPort)
	fmt.Fprintf(&b, "  ip netns exec %s-client mptcpize run curl -o /dev/null --max-time 5 http://%v/mptcp/stream\n", prefix, to)
	fmt.Fprintf(&b, "  ip netns exec %s-client curl -o /dev/null http://%v/tcp1/bytes/1000\n", prefix, to)
	fmt.Fprintf(&b, "  ip netns exec %s-gateway ss -tiM\n", prefix)
	fmt.Fprintf(&b, "  ip netns exec %s-client ip link set front1 down\n", prefix)
	b.WriteString("Ctrl-C takes all of it down.\n")
	return b.String(), nil
}
