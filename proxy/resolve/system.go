package resolve

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// recheck is the time between two looks at a file of the system.
	recheck = time.Second
	// hostsTTL is how long addresses from /etc/hosts are used.
	hostsTTL = 2 * time.Second
	// maxFile bounds the bytes that are read of a file.
	maxFile = 4 << 20

	maxServers  = 8
	maxAttempts = 5
	maxNdots    = 15
)

// config is what resolv.conf says.
type config struct {
	servers  []netip.AddrPort
	domains  []string // without the dot at their ends
	ndots    int      // dots from which a name is first looked up as it is
	attempts int
	timeout  time.Duration
	rotate   bool
	tcp      bool // no UDP
}

// system is what the files of the system say. They are read again when they change.
type system struct {
	mu         sync.Mutex // guards what follows
	resolvConf file
	hosts      file
	conf       *config
	addrs      map[string][]netip.Addr // by name, in lower case
}

// file is a file that is read again when it has changed.
type file struct {
	name    string
	checked time.Time
	info    os.FileInfo
}

// changed returns the content of the file if it is not the one of the last call, and nil otherwise.
// A file that cannot be read counts as empty.
func (f *file) changed() []byte {
	if !f.checked.IsZero() && time.Since(f.checked) < recheck {
		return nil
	}
	first := f.checked.IsZero()
	f.checked = time.Now()
	info, err := os.Stat(f.name)
	if err != nil {
		if !first && f.info == nil {
			return nil
		}
		f.info = nil
		return []byte{}
	}
	if before := f.info; before != nil && os.SameFile(before, info) && before.ModTime().Equal(info.ModTime()) && before.Size() == info.Size() {
		return nil
	}
	opened, err := os.Open(f.name)
	if err != nil {
		f.info = nil
		return []byte{}
	}
	defer opened.Close()
	f.info = info
	content, _ := io.ReadAll(io.LimitReader(opened, maxFile)) // never nil
	return content
}

// config returns what resolv.conf says.
func (s *system) config() *config {
	s.mu.Lock()
	defer s.mu.Unlock()
	if text := s.resolvConf.changed(); text != nil || s.conf == nil {
		s.conf = parseResolvConf(text)
	}
	return s.conf
}

// lookup returns the addresses of a name in /etc/hosts. localhost is always there (RFC 6761
// section 6.3).
func (s *system) lookup(host string) (list []netip.Addr, ok bool) {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	s.mu.Lock()
	defer s.mu.Unlock()
	if text := s.hosts.changed(); text != nil || s.addrs == nil {
		s.addrs = parseHosts(text)
	}
	list = s.addrs[host]
	if list == nil && (host == "localhost" || strings.HasSuffix(host, ".localhost")) {
		list = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	return list, list != nil
}

var notInHosts error = &net.DNSError{Err: "no such address in /etc/hosts", IsNotFound: true}

// parseHosts reads hosts(5).
func parseHosts(text []byte) map[string][]netip.Addr {
	all := map[string][]netip.Addr{}
	for line := range lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		a, err := netip.ParseAddr(fields[0])
		if a = a.Unmap(); err != nil || !usable(a) {
			continue
		}
		for _, name := range fields[1:] {
			name = strings.ToLower(strings.TrimSuffix(name, "."))
			if len(all[name]) < MaxRecords {
				all[name] = append(all[name], a)
			}
		}
	}
	return all
}

// parseResolvConf reads resolv.conf(5).
func parseResolvConf(text []byte) *config {
	c := &config{ndots: 1, attempts: 3, timeout: maxWait}
	for line := range lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch values := fields[1:]; fields[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(values[0]); err == nil && len(c.servers) < maxServers {
				c.servers = append(c.servers, netip.AddrPortFrom(a, 53))
			}
		case "domain":
			c.setDomains(values[:1])
		case "search":
			c.setDomains(values)
		case "options":
			for _, o := range values {
				c.setOption(o)
			}
		}
	}
	if len(c.servers) == 0 { // resolv.conf(5): the server on this host
		c.servers = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 53)}
	}
	return c
}

func (c *config) setDomains(list []string) {
	c.domains = nil
	for _, d := range list {
		if d = strings.Trim(d, "."); d != "" && len(c.domains) < maxServers {
			c.domains = append(c.domains, d)
		}
	}
}

func (c *config) setOption(o string) {
	name, value, _ := strings.Cut(o, ":")
	n, err := strconv.Atoi(value)
	ok := err == nil && n >= 0
	switch {
	case name == "ndots" && ok:
		c.ndots = min(n, maxNdots)
	case name == "timeout" && ok:
		c.timeout = min(max(time.Duration(min(n, 60))*time.Second, time.Second), maxWait)
	case name == "attempts" && ok:
		c.attempts = min(max(n, 1), maxAttempts)
	case name == "rotate":
		c.rotate = true
	case name == "use-vc" || name == "usevc" || name == "tcp":
		c.tcp = true
	}
}

// lines yields the lines of a file without comments.
func lines(text []byte) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		s := bufio.NewScanner(bytes.NewReader(text))
		s.Buffer(nil, maxFile)
		for s.Scan() {
			line := s.Text()
			if i := strings.IndexAny(line, "#;"); i >= 0 {
				line = line[:i]
			}
			if !yield(line) {
				return
			}
		}
	}
}
