package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"mpgate/proxy/target"
)

// use is the purpose of an address.
type use int

const (
	listenAddress use = iota // host and port may be left open
	dialAddress
)

func listened(s, dir string) (Address, string) { return parseAddress(s, dir, listenAddress) }
func dialed(s, dir string) (Address, string)   { return parseAddress(s, dir, dialAddress) }

// dialedText is the text of an address to dial; "" for none.
func dialedText(a Address) string {
	if a == (Address{}) {
		return ""
	}
	return a.String()
}

// adminAddress parses the address of the admin socket; it is zero for "off".
func adminAddress(s, dir string) (Address, string) {
	if s == "off" {
		return Address{}, ""
	}
	a, problem := listened(s, dir)
	if a.Last != 0 {
		return Address{}, "has a range of ports; write one port"
	}
	return a, problem
}

func adminText(a Address) string {
	if a == (Address{}) {
		return "off"
	}
	return a.String()
}

// dnsServer parses the host and port of a DNS server.
func dnsServer(s, dir string) (Address, string) {
	a, problem := dialed(s, dir)
	if a.IsUnix() {
		return Address{}, "is a unix socket; must be host and port of a DNS server"
	}
	return a, problem
}

// maxUnixPath is the longest path in sockaddr_un, without the NUL.
const maxUnixPath = 107

// parseAddress parses host:port, [v6]:port, :port and unix:/path. problem has the form "what is
// wrong; what would be right"; it is empty for a valid address.
func parseAddress(s, dir string, u use) (a Address, problem string) {
	bad := func(format string, args ...any) (Address, string) {
		return Address{}, fmt.Sprintf(format, args...)
	}
	forms := `"192.0.2.1:8080", "[2001:db8::1]:8080", ":8080" or "unix:/run/x.sock"`
	if u == dialAddress {
		forms = `"192.0.2.1:8080", "[2001:db8::1]:8080", "api.internal:8080" or "unix:/run/x.sock"`
	}
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		return unixAddress(path, dir)
	}
	switch {
	case s == "":
		return bad("is empty; must be %s", forms)
	case strings.Contains(s, "://"):
		return bad("%s", urlAddress(s, u))
	case strings.HasPrefix(s, "/") || strings.HasPrefix(s, "./"):
		return bad("is a path; write %q for a unix socket", "unix:"+s)
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		if ip, perr := netip.ParseAddr(strings.Trim(s, "[]")); perr == nil && ip.Is6() {
			return bad("has no port; write for example %q", "["+ip.String()+"]:8080")
		}
		if !strings.Contains(s, ":") {
			return bad("has no port; must be %s", forms)
		}
		return bad("is not a valid address; must be %s", forms)
	}
	if a.Port, a.Last, problem = ports(port, u); problem != "" {
		return bad("%s", problem)
	}
	if a.Host, problem = addressHost(host, u); problem != "" {
		return bad("%s; must be %s", problem, forms)
	}
	return a, ""
}

// urlAddress says how the address of a URL is written.
func urlAddress(s string, u use) string {
	scheme, host, _ := cutURL(s)
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name, port = host, "80"
		if scheme == "https" {
			port = "443"
		}
	}
	right := net.JoinHostPort(strings.Trim(name, "[]"), port)
	if ip, err := netip.ParseAddr(strings.Trim(name, "[]")); u == listenAddress && (err != nil || !ip.IsValid()) {
		right = ":" + port // a name of the service, which need not be an address of this host
	}
	what := fmt.Sprintf("is a URL; write %q", right)
	switch {
	case scheme == "https" && u == listenAddress:
		what += ", and [listener.tls] for https"
	case scheme == "https":
		what += ", and tls = {} in the backend for https"
	}
	return what
}

// cutURL returns the scheme, the host with its port, and the path of a URL.
func cutURL(s string) (scheme, host, path string) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return "", "", ""
	}
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest, path = rest[:i], rest[i:]
	}
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		rest = rest[i+1:]
	}
	return strings.ToLower(scheme), rest, path
}

// notHost says what is right in place of a URL, or of a host with a path; "" for any other.
func notHost(s string) string {
	_, host, path := cutURL(s)
	what := "is a URL"
	if host == "" {
		i := strings.IndexByte(s, '/')
		if i <= 0 {
			return ""
		}
		host, path, what = s[:i], s[i:], "has a path"
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	right := fmt.Sprintf("%s; write only the name, %q", what, strings.ToLower(host))
	if path != "" && path != "/" {
		right += ", and the path in match.path of a route"
	}
	return right
}

// maxPorts is the most ports of a range. Each is a socket.
const maxPorts = 1024

// ports parses a port, or a range of them, of which last is the end; it is 0 for a single port.
func ports(s string, u use) (first, last uint16, problem string) {
	from, to, isRange := strings.Cut(s, "-")
	a, err := strconv.ParseUint(from, 10, 16)
	if err != nil {
		return 0, 0, "has no port from 0 to 65535; write the port as a number"
	}
	switch {
	case u == dialAddress && isRange:
		return 0, 0, "has a range of ports, which is for listeners; write one port"
	case u == dialAddress && a == 0:
		return 0, 0, "has the port 0; write the server's port"
	case !isRange:
		return uint16(a), 0, ""
	}
	b, err := strconv.ParseUint(to, 10, 16)
	switch {
	case err != nil || a == 0 || b <= a:
		return 0, 0, `has no valid range of ports; write the first and the last, for example ":9000-9010"`
	case b-a >= maxPorts:
		return 0, 0, fmt.Sprintf("has a range of %d ports; must be at most %d", b-a+1, maxPorts)
	}
	return uint16(a), uint16(b), ""
}

func unixAddress(path, dir string) (a Address, problem string) {
	switch {
	case path == "" || path == "@":
		return a, `has no path; must be for example "unix:/run/x.sock"`
	case strings.IndexByte(path, 0) >= 0:
		return a, "is not a valid path; a path has no NUL in it"
	}
	if path[0] != '@' {
		path = absolute(dir, path)
	}
	if len(path) > maxUnixPath {
		return a, fmt.Sprintf("is too long for a unix socket: the path has %d bytes; must be at most %d", len(path), maxUnixPath)
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
		return "", "has no valid IPv6 address in the brackets"
	}
	if host == "*" {
		return "", "has * for a host"
	}
	// A name with a dot at its end is absolute for the resolver: search domains are not tried.
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

// hostName checks a DNS name and returns it in the canonical form of package target. With wildcard,
// the name may begin with "*.".
func hostName(s string, wildcard bool) (canonical, problem string) {
	if problem := notHost(s); problem != "" {
		return "", problem
	}
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			if p, err := idna.Lookup.ToASCII(s); err == nil && utf8.ValidString(s) {
				return "", fmt.Sprintf("has non-ASCII characters; write it as punycode: %q", p)
			}
			return "", "has invalid non-ASCII bytes; write an international name as punycode (xn--…)"
		}
	}
	name, prefix := s, ""
	if rest, ok := strings.CutPrefix(s, "*."); ok && wildcard {
		name, prefix = rest, "*."
	}
	switch {
	case strings.HasPrefix(name, "~") && wildcard:
		return "", `is a regular expression, which hosts cannot be; write names, "*.example.org" or a list of them`
	case strings.Contains(name, "*") && wildcard:
		return "", `has a * that is not the whole first label; write "*.example.org", which stands for one label`
	case strings.Contains(name, "*"):
		return "", "has a *; write the whole name"
	case strings.HasSuffix(name, "."):
		return "", "ends in a dot; remove the dot"
	}
	if i := strings.IndexFunc(name, notInHost); i >= 0 {
		return "", fmt.Sprintf("has %q in it", name[i:i+1])
	}
	var scratch []byte
	host, _, err := target.Host([]byte(name), &scratch)
	switch {
	case err == target.ErrHostLong:
		return "", "is longer than 253 letters"
	case err == target.ErrHostLabel || err == target.ErrHostEmpty:
		return "", "has an empty label"
	case err != nil:
		return "", strings.TrimPrefix(err.Error(), "host: ")
	}
	if problem := labelProblem(string(host)); problem != "" {
		return "", problem
	}
	return prefix + string(host), ""
}

// notInHost reports whether a character is not valid in a name. An underscore is valid, because
// names of containers have it.
func notInHost(r rune) bool {
	var scratch []byte
	_, _, err := target.Host([]byte{'x', byte(r)}, &scratch)
	return err == target.ErrHostByte || r == ':'
}

// labelProblem checks the rules of DNS for the labels of a canonical name.
func labelProblem(name string) string {
	last := ""
	for label := range strings.SplitSeq(name, ".") {
		switch {
		case len(label) > 63:
			return "has a label longer than 63 letters"
		case label[0] == '-' || label[len(label)-1] == '-':
			return "has a label that begins or ends with -"
		}
		last = label
	}
	if strings.Trim(last, "0123456789") == "" {
		return "ends in a number and is not an IPv4 address"
	}
	return ""
}

// matchHost parses the host of a request or the SNI of a handshake. ipToo allows addresses, which
// an SNI never is.
func matchHost(s string, ipToo bool) (canonical, problem string) {
	if s == "*" {
		return "", "matches every host; leave it out for that"
	}
	if problem := notHost(s); problem != "" {
		return "", problem
	}
	bare := s
	if strings.HasPrefix(bare, "[") && strings.HasSuffix(bare, "]") {
		bare = bare[1 : len(bare)-1]
	}
	if ip, err := netip.ParseAddr(bare); err == nil && (bare == s || ip.Is6()) {
		switch {
		case !ipToo:
			return "", "is an address; must be a name: a TLS handshake names no addresses"
		case ip.Zone() != "":
			return "", "has a zone; write the address without it"
		case ip.Is4():
			return ip.String(), ""
		}
		return "[" + ip.String() + "]", ""
	}
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		return "", fmt.Sprintf("has a port; write %q", s[:i])
	}
	return hostName(s, true)
}

// serverName parses the SNI of a handshake, or AnySNI.
func serverName(s, _ string) (string, string) {
	if s == AnySNI {
		return s, ""
	}
	return matchHost(s, false)
}

// certHost parses a name that a certificate may contain.
func certHost(s, _ string) (string, string) {
	switch {
	case s == "":
		return "", "is empty; must be a name"
	case strings.Contains(s, "_"):
		return "", "has an underscore; no certificate is made for such a name"
	}
	return matchHost(s, false)
}

// localName parses a name or an address.
func localName(s, _ string) (string, string) {
	if ip, err := netip.ParseAddr(s); err == nil {
		return ip.Unmap().String(), ""
	}
	if s == "" {
		return "", "is empty; must be a name or an address"
	}
	return matchHost(s, false)
}

// certName parses any name in a certificate.
func certName(s, _ string) (string, string) {
	if s == "" {
		return "", "is empty; must be a name that is in the certificate"
	}
	return s, ""
}

// absoluteName parses a DNS name and returns it with a dot at its end.
func absoluteName(s, _ string) (string, string) {
	name, problem := hostName(strings.TrimSuffix(s, "."), false)
	if problem != "" {
		return "", problem
	}
	return name + ".", ""
}

// ips are addresses without a port.
var ips = func() codec {
	c := of(func(s, _ string) (netip.Addr, string) {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Addr{}, `is not an IP address; write for example "192.0.2.7" or "2001:db8::7", without a port`
		}
		return a.Unmap(), ""
	}, func(a netip.Addr) string {
		if !a.IsValid() {
			return ""
		}
		return a.String()
	})
	c.empty = true
	return c
}()

// device parses the name of a network interface.
func device(s, _ string) (string, string) {
	// The rules are those of dev_valid_name in the kernel.
	if len(s) > 15 || s == "." || s == ".." || strings.ContainsAny(s, "/: \t\n\v\f\r\x00") {
		return "", `is not a valid interface name; must be one that "ip link" shows, at most 15 long`
	}
	return s, ""
}
