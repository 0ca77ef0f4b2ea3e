package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// use is what an address is for.
type use int

const (
	listenAddress use = iota // host and port may be left open
	dialAddress
)

// address parses what a key says, the zero Address when that is wrong.
func (l *loader) address(s str, u use) Address {
	a, problem := parseAddress(s.V, s.At.dir, u)
	if problem != "" {
		l.fault(s.At, "%s", problem)
		return Address{}
	}
	return a
}

// maxUnixPath is what fits into sockaddr_un with its NUL.
const maxUnixPath = 107

// parseAddress parses host:port, [v6]:port, :port and unix:/path. problem says what is wrong, "" for nothing.
func parseAddress(s, dir string, u use) (a Address, problem string) {
	bad := func(format string, args ...any) (Address, string) {
		return Address{}, fmt.Sprintf(format, args...)
	}
	forms := `"192.0.2.1:8080", "[2001:db8::1]:8080", ":8080" or "unix:/run/x.sock"`
	if u == dialAddress {
		forms = `"192.0.2.1:8080", "[2001:db8::1]:8080", "api.internal:8080" or "unix:/run/x.sock"`
	}
	if s == "" {
		return bad("is empty; must be %s", forms)
	}
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		return unixAddress(s, path, dir)
	}
	switch {
	case strings.Contains(s, "://"):
		return bad("is a URL (got %q); must be %s", s, forms)
	case strings.HasPrefix(s, "/") || strings.HasPrefix(s, "./"):
		return bad("is a path (got %q); write %q for a unix socket", s, "unix:"+s)
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		if ip, perr := netip.ParseAddr(strings.Trim(s, "[]")); perr == nil && ip.Is6() {
			return bad("has no port (got %q); write for example %q", s, "["+ip.String()+"]:8080")
		}
		if !strings.Contains(s, ":") {
			return bad("has no port (got %q); must be %s", s, forms)
		}
		return bad("is no address (got %q); must be %s", s, forms)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return bad("has no port from 0 to 65535 (got %q); write the port as a number", s)
	}
	if u == dialAddress && n == 0 {
		return bad("has the port 0 (got %q); write the server's port", s)
	}
	a.Port = uint16(n)
	if a.Host, problem = addressHost(host, u); problem != "" {
		return bad("%s (got %q); must be %s", problem, s, forms)
	}
	return a, ""
}

func unixAddress(s, path, dir string) (Address, string) {
	switch {
	case path == "" || path == "@":
		return Address{}, fmt.Sprintf(`has no path (got %q); must be for example "unix:/run/x.sock"`, s)
	case strings.IndexByte(path, 0) >= 0:
		return Address{}, fmt.Sprintf("is no path (got %q); a path has no NUL in it", s)
	}
	if path[0] != '@' {
		path = absolute(dir, path)
	}
	if len(path) > maxUnixPath {
		return Address{}, fmt.Sprintf("is too long for a unix socket (got %q, %d bytes); must be %d at most", path, len(path), maxUnixPath)
	}
	return Address{Path: path}, ""
}

func addressHost(host string, u use) (canonical, problem string) {
	if host == "" {
		if u == dialAddress {
			return "", "has no host"
		}
		return "", ""
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().String(), ""
	}
	if strings.Contains(host, ":") {
		return "", "has no IPv6 address between the brackets"
	}
	if host == "*" {
		return "", "has * for a host"
	}
	// A name with the dot at its end is absolute for the resolver, so that search domains are not tried.
	name, problem := hostName(strings.TrimSuffix(host, "."), false)
	if problem != "" {
		wrong, _, _ := strings.Cut(problem, "; ")
		return "", "has no valid host: it " + wrong
	}
	if strings.HasSuffix(host, ".") {
		name += "."
	}
	return name, ""
}

// hostName checks a DNS name and gives it in lower case. With wildcard, "*." may stand before it.
func hostName(s string, wildcard bool) (canonical, problem string) {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			if p, err := idna.Lookup.ToASCII(s); err == nil && utf8.ValidString(s) {
				return "", fmt.Sprintf("has letters outside ASCII; write it as punycode: %q", p)
			}
			return "", "has bytes outside ASCII; write an international name as punycode (xn--…)"
		}
	}
	s = strings.ToLower(s)
	name := s
	if rest, ok := strings.CutPrefix(s, "*."); ok && wildcard {
		name = rest
	}
	switch {
	case strings.Contains(name, "*") && wildcard:
		return "", `has * elsewhere than as the whole first label; write "*.example.org", which stands for one label`
	case strings.Contains(name, "*"):
		return "", "has a *; write the whole name"
	case strings.HasSuffix(name, "."):
		return "", "ends in a dot; leave that off"
	case len(name) > 253:
		return "", "is longer than 253 letters"
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if problem := labelProblem(label); problem != "" {
			return "", problem
		}
	}
	if last := labels[len(labels)-1]; strings.Trim(last, "0123456789") == "" {
		return "", "ends in a number and is no IPv4 address"
	}
	return s, ""
}

func labelProblem(label string) string {
	switch {
	case label == "":
		return "has an empty label"
	case len(label) > 63:
		return "has a label longer than 63 letters"
	case label[0] == '-' || label[len(label)-1] == '-':
		return "has a label that begins or ends with -"
	}
	for i := 0; i < len(label); i++ {
		c := label[i]
		// The underscore is no letter of host names, but is met in those of containers.
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return fmt.Sprintf("has %q in it", string(c))
		}
	}
	return ""
}

// matchHost is the host of a request or the SNI of a handshake that a key names, "" for none. ipToo allows addresses, which SNI never is.
func (l *loader) matchHost(s str, ipToo bool) string {
	if s.V == "" {
		return ""
	}
	bad := func(problem string) string {
		l.wrong(s, problem)
		return ""
	}
	if s.V == "*" {
		return bad("stands for every host; leave it out for that")
	}
	bare := s.V
	if strings.HasPrefix(bare, "[") && strings.HasSuffix(bare, "]") {
		bare = bare[1 : len(bare)-1]
	}
	if ip, err := netip.ParseAddr(bare); err == nil && (bare == s.V || ip.Is6()) {
		switch {
		case !ipToo:
			return bad("is an address; must be a name: a TLS handshake names no addresses")
		case ip.Zone() != "":
			return bad("has a zone; write the address without it")
		case ip.Is4():
			return ip.String()
		}
		return "[" + ip.String() + "]"
	}
	if i := strings.LastIndexByte(s.V, ':'); i >= 0 {
		return bad(fmt.Sprintf("has a port; write %q", s.V[:i]))
	}
	name, problem := hostName(s.V, true)
	if problem != "" {
		return bad(problem)
	}
	return name
}

// hosts are the names of a list.
func (l *loader) hosts(s list) []string {
	var out []string
	for _, e := range s.V {
		if e.V == "" {
			l.fault(e.At, "is empty; must be a name")
		} else if strings.Contains(e.V, "_") {
			l.fault(e.At, "has an underscore%s; no certificate is made for such a name", e.got())
		} else if h := l.matchHost(e, false); h != "" {
			out = append(out, h)
		}
	}
	return out
}
