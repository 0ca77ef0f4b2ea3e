package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// resolve makes the exported values of the raw ones, table by table, and faults what is wrong with each for itself.
func (l *loader) resolve(raw *rawConfig) *Config {
	c := &Config{
		StateDir: l.filePath(raw.StateDir),
		Log:      l.log(&raw.Log),
		Admin:    l.admin(&raw.Admin),
		Shutdown: Shutdown{Drain: l.duration(raw.Shutdown.Drain, 0)},
		Limits:   l.limits(&raw.Limits),
		MPTCP:    l.mptcp(&raw.MPTCP),
	}
	if c.StateDir == "" {
		c.StateDir = l.user.stateDir()
	}
	for _, r := range raw.Listeners {
		c.Listeners = append(c.Listeners, l.listener(r))
	}
	for _, r := range raw.Routes {
		c.Routes = append(c.Routes, l.route(r))
	}
	for _, r := range raw.Backends {
		c.Backends = append(c.Backends, l.backend(r))
	}
	return c
}

func (l *loader) log(r *rawLog) Log {
	level := oneOf(l, r.Level, "debug", "info", "warn", "error")
	out := Log{Format: oneOf(l, r.Format, LogJSON, LogText)}
	if err := out.Level.UnmarshalText([]byte(level)); err != nil && level != "" {
		l.fault(r.Level.At, "%v", err)
	}
	words := []string{AccessStdout, AccessStderr, AccessOff}
	switch s := r.Access.V; {
	case s == AccessStdout || s == AccessStderr || s == AccessOff:
		out.Access = s
	case s == "":
		l.fault(r.Access.At, `is empty; must be "stdout", "stderr", "off" or a file`)
	case nearest(s, words) != "":
		// A file of that name is possible, a slip of the pen likely, and it would be found out only when the log is missed.
		l.fault(r.Access.At, `is not a known word (got %q); did you mean %q? Write "./%s" for a file of that name`, s, nearest(s, words), s)
	default:
		out.Access = l.filePath(r.Access)
	}
	return out
}

func (l *loader) admin(r *rawAdmin) Admin {
	s := r.Address
	if s.V == "" && !s.At.written {
		s.V = l.user.adminAddress()
	}
	if s.V == "off" {
		return Admin{Off: true, Written: true}
	}
	return Admin{Address: l.address(s, listenAddress), Written: s.At.written}
}

func (l *loader) limits(r *rawLimits) Limits {
	return Limits{
		HeaderBytes:          l.size(r.HeaderBytes, 1<<10, 1<<20),
		HeaderFields:         l.number(r.HeaderFields, 1, 100_000),
		HeaderTime:           l.duration(r.HeaderTime, 10*time.Millisecond),
		IdleTime:             l.duration(r.IdleTime, 10*time.Millisecond),
		MinRate:              l.size(r.MinRate, 0, 1<<30),
		Connections:          l.number(r.Connections, 0, 1<<30),
		ConnectionsPerClient: l.number(r.ConnectionsPerClient, 0, 1<<30),
	}
}

func (l *loader) mptcp(r *rawMPTCP) MPTCP {
	out := MPTCP{
		Enabled:  r.Enabled.V,
		Manage:   oneOf(l, r.Manage, ManageOff, ManageWatch, ManageSync),
		Adopt:    r.Adopt.V,
		Keep:     r.Keep.V,
		Failover: oneOf(l, r.Failover, FailoverOff, FailoverLink, FailoverActive),
		Fullmesh: r.Fullmesh.V,
		Limits: MPTCPLimits{
			Subflows:        l.number(r.Limits.Subflows, 0, 8), // the kernel's MPTCP_PM_ADDR_MAX
			AddAddrAccepted: l.number(r.Limits.AddAddrAccepted, 0, 8),
		},
	}
	names := map[string]*place{}
	for _, p := range r.Paths {
		path := l.path(p)
		at := p.At
		if p.Name.At.written {
			at = p.Name.At
		}
		if first := names[path.Name]; first != nil && path.Name != "" {
			l.fault(at, "is the second path of the name %q (the first: %s:%d); give one of them another name", path.Name, first.file, first.line)
		} else {
			names[path.Name] = at
		}
		out.Paths = append(out.Paths, path)
	}
	if len(r.Paths) > 8 {
		l.fault(r.Paths[8].At, "is path 9 of %d; the kernel takes 8 at most", len(r.Paths))
	}
	return out
}

func (l *loader) path(r *rawPath) Path {
	out := Path{
		Interface: l.device(r.Interface),
		Address:   l.ip(r.Address),
		Role:      oneOf(l, r.Role, RoleBoth, RoleListener, RoleBackend),
		Backup:    r.Backup.V,
		Announce:  r.Announce.V,
		Port:      uint16(l.number(r.Port, 0, 65535)),
	}
	out.Name = r.Name.V
	switch {
	case r.Name.V != "":
		l.name(r.Name)
	case out.Interface != "":
		out.Name = out.Interface
	case out.Address.IsValid():
		out.Name = out.Address.String()
	}
	if r.Interface.V == "" && r.Address.V == "" && !r.Interface.At.unset && !r.Address.At.unset {
		l.fault(r.At, `has neither interface nor address; name the one that the path leaves by, for example { interface = "eth0" }`)
	}
	if a := out.Address; a.IsValid() && (a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast()) {
		l.fault(r.Address.At, "is no address that another host can reach (got %q); must be one of global scope", r.Address.V)
	}
	if out.Role == RoleBackend {
		if out.Announce {
			l.fault(r.Announce.At, `needs a role with listeners (the role is "backend"): only clients are told of addresses; leave one of the two out`)
		}
		if out.Port != 0 {
			l.fault(r.Port.At, `needs a role with listeners (the role is "backend"): only an announced address has a port; leave one of the two out`)
		}
	}
	return out
}

// The values that occur in several tables.

// got is ` (got "x")` for faults, or nothing for a secret.
func (s str) got() string {
	if s.At.secret {
		return ""
	}
	return fmt.Sprintf(" (got %q)", s.V)
}

// wrong faults a value with a problem of the form "what is wrong; what would be right".
func (l *loader) wrong(s str, problem string) {
	what, right, ok := strings.Cut(problem, "; ")
	if ok {
		right = "; " + right
	}
	l.fault(s.At, "%s%s%s", what, s.got(), right)
}

// oneOf is an enumeration.
func oneOf[T ~string](l *loader, s str, values ...T) T {
	names := make([]string, len(values))
	for i, v := range values {
		if string(v) == s.V {
			return v
		}
		names[i] = string(v)
	}
	if near := nearest(s.V, names); near != "" {
		l.fault(s.At, "is not one of its values%s; did you mean %q? Must be %s", s.got(), near, orList(names))
	} else {
		l.fault(s.At, "is not one of its values%s; must be %s", s.got(), orList(names))
	}
	return ""
}

// orList is `"a", "b" or "c"`.
func orList(names []string) string {
	var b strings.Builder
	for i, n := range names {
		switch {
		case i == 0:
		case i == len(names)-1:
			b.WriteString(" or ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(strconv.Quote(n))
	}
	return b.String()
}

// duration is a time of at least least, which is 0 or more.
func (l *loader) duration(s str, least time.Duration) time.Duration {
	d, err := time.ParseDuration(s.V)
	switch {
	case err != nil:
		l.fault(s.At, `is no length of time%s; write a number and a unit, for example "500ms", "10s" or "2m"`, s.got())
		return 0
	case d < least:
		l.fault(s.At, "is too short%s; must be at least %v", s.got(), least)
		return 0
	}
	return d
}

var units = []struct {
	name  string
	bytes int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"B", 1}}

// size is a number of bytes.
func (l *loader) size(s str, least, most int64) int64 {
	n, ok := parseSize(s.V)
	switch {
	case !ok:
		l.fault(s.At, `is no size%s; write a whole number and B, KiB, MiB or GiB, for example "32KiB", or "0"`, s.got())
		return 0
	case n < least || n > most:
		l.fault(s.At, "is out of range%s; must be from %s to %s", s.got(), formatSize(least), formatSize(most))
		return 0
	}
	return n
}

func parseSize(s string) (int64, bool) {
	if s == "0" {
		return 0, true
	}
	for _, u := range units {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 32)
		return int64(n) * u.bytes, err == nil
	}
	return 0, false
}

func formatSize(n int64) string {
	switch {
	case n == 0:
		return "0"
	case n%(1<<30) == 0:
		return strconv.FormatInt(n>>30, 10) + "GiB"
	case n%(1<<20) == 0:
		return strconv.FormatInt(n>>20, 10) + "MiB"
	case n%(1<<10) == 0:
		return strconv.FormatInt(n>>10, 10) + "KiB"
	}
	return strconv.FormatInt(n, 10) + "B"
}

func (l *loader) number(n num, least, most int64) int {
	if n.V < least || n.V > most {
		l.fault(n.At, "is out of range (got %d); must be from %d to %d", n.V, least, most)
		return int(least)
	}
	return int(n.V)
}

// name checks the name of an entry.
func (l *loader) name(s str) string {
	if s.V == "" {
		l.fault(s.At, `is missing; every entry needs a name, for example name = "web"`)
		return ""
	}
	if !isName(s.V) {
		l.fault(s.At, "is no name%s; must be of a-z, 0-9, _ and -, begin with a letter or a digit, and be 63 long at most", s.got())
	}
	return s.V
}

func isName(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		alnum := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if !alnum && (i == 0 || c != '_' && c != '-') {
			return false
		}
	}
	return s != "" && len(s) <= 63
}

// filePath is the absolute path of a file that a key names, "" for none.
func (l *loader) filePath(s str) string {
	if s.V == "" {
		return ""
	}
	if strings.IndexByte(s.V, 0) >= 0 {
		l.fault(s.At, "is no path%s; a path has no NUL in it", s.got())
		return ""
	}
	return absolute(s.At.dir, s.V)
}

func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

// ip is an address without port, not valid for none.
func (l *loader) ip(s str) netip.Addr {
	if s.V == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s.V)
	if err != nil {
		l.fault(s.At, `is no IP address%s; write for example "192.0.2.7" or "2001:db8::7", without a port`, s.got())
		return netip.Addr{}
	}
	return a.Unmap()
}

// device is the name of a network interface, "" for none.
func (l *loader) device(s str) string {
	if s.V == "" {
		return ""
	}
	// The kernel's dev_valid_name.
	if len(s.V) > 15 || s.V == "." || s.V == ".." || strings.ContainsAny(s.V, "/: \t\n\v\f\r\x00") {
		l.fault(s.At, `is no name of a network interface%s; must be one that "ip link" shows, 15 long at most`, s.got())
		return ""
	}
	return s.V
}

// prefixes are networks; a single address stands for itself.
func (l *loader) prefixes(s list) []netip.Prefix {
	var out []netip.Prefix
	for _, e := range s.V {
		if a, err := netip.ParseAddr(e.V); err == nil && a.Zone() == "" {
			a = a.Unmap()
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(e.V)
		switch {
		case err != nil:
			l.fault(e.At, `is no network%s; write for example "10.0.0.0/8", "2001:db8::/32" or one address`, e.got())
		case p != p.Masked():
			l.fault(e.At, "has bits beyond its length%s; must be %q", e.got(), p.Masked())
		default:
			if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 { // IPv4 addresses are compared as such
				p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
			}
			if p.Bits() == 0 {
				l.warn(e.At, "is every address%s: anybody is believed who comes to the socket; name the networks of your own proxies", e.got())
			}
			out = append(out, p)
		}
	}
	return out
}
