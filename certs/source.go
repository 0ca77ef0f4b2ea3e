package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Kinds of certificates in Status.
const (
	FromFile  = "file"
	FromACME  = "acme"
	FromLocal = "local"
)

// Status is what is known of one certificate.
type Status struct {
	// Name is how the configuration names it: the certificate file, the ACME
	// domain, or "local". It is the label of metrics.
	Name string
	Kind string // FromFile, FromACME or FromLocal
	// Names are its subject alternative names; none while there is no
	// certificate.
	Names               []string
	Issuer              string
	NotBefore, NotAfter time.Time
	// RenewAt is the time that the CA suggests (ACME Renewal Information),
	// or zero.
	RenewAt time.Time
	// Err is why the last attempt to renew or reload failed, at ErrAt; nil
	// after one that succeeded. Next is when it is tried again.
	Err         error
	ErrAt, Next time.Time
}

// source yields one certificate that may be replaced at any time.
type source struct {
	kind, name string
	m          *Manager
	// claims are names that it answers for while it has no certificate.
	claims []string
	cur    atomic.Pointer[tls.Certificate]

	mu       sync.Mutex
	policies map[*policy]struct{} // to be told of new names
	st       Status
	warned   time.Time
	refs     int // guarded by m.mu
}

func (s *source) init(m *Manager, kind, name string) {
	s.m, s.kind, s.name = m, kind, name
	s.policies = map[*policy]struct{}{}
	s.st = Status{Name: name, Kind: kind}
}

// publish makes c the certificate from the next handshake on. c has its Leaf.
func (s *source) publish(c tls.Certificate) {
	s.put(&c) // a copy of our own: handshakes read it without a lock
}

func (s *source) put(c *tls.Certificate) {
	told, fresh := s.store(c)
	if !fresh {
		return
	}
	for _, p := range told {
		p.reindex()
	}
	if f := s.m.o.Hooks.NotAfter; f != nil {
		f(s.name, c.Leaf.NotAfter)
	}
	s.checkExpiry(time.Now())
}

// store reports whether the certificate has changed, and which policies use it.
func (s *source) store(c *tls.Certificate) (told []*policy, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh = !sameCert(s.cur.Load(), c)
	s.cur.Store(c)
	s.st.Names, s.st.Issuer = allSANs(c.Leaf), c.Leaf.Issuer.String()
	s.st.NotBefore, s.st.NotAfter = c.Leaf.NotBefore, c.Leaf.NotAfter
	if fresh {
		s.warned = time.Time{}
	}
	for p := range s.policies {
		told = append(told, p)
	}
	return told, fresh
}

func sameCert(a, b *tls.Certificate) bool {
	return a != nil && b != nil && a.Leaf.Equal(b.Leaf) && string(a.OCSPStaple) == string(b.OCSPStaple)
}

// failed records why the certificate could not be obtained; nil clears it.
func (s *source) failed(err error, next time.Time) {
	s.mu.Lock()
	had := s.st.Err != nil
	s.st.Err, s.st.Next = err, next
	if err != nil {
		s.st.ErrAt = time.Now()
	}
	s.mu.Unlock()
	if f := s.m.o.Hooks.Error; f != nil && (had || err != nil) {
		f(s.kind, s.name, err)
	}
}

// checkExpiry warns of a certificate that ends soon, once a day: within 14
// days, or the last fifth of a shorter life.
func (s *source) checkExpiry(now time.Time) {
	c := s.cur.Load()
	if c == nil {
		return
	}
	soon := min(14*24*time.Hour, c.Leaf.NotAfter.Sub(c.Leaf.NotBefore)/5)
	left := c.Leaf.NotAfter.Sub(now)
	s.mu.Lock()
	due := left < soon && now.Sub(s.warned) > 24*time.Hour
	if due {
		s.warned = now
	}
	s.mu.Unlock()
	if !due {
		return
	}
	level, msg := slog.LevelWarn, "certificate expires soon"
	if left < 0 {
		level, msg = slog.LevelError, "certificate has expired"
	}
	s.m.log.Log(s.m.ctx, level, msg, "name", s.name, "kind", s.kind, "not_after", c.Leaf.NotAfter, "left", left.Round(time.Second).String())
}

func (s *source) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.st
}

func (s *source) addPolicy(p *policy) {
	s.mu.Lock()
	s.policies[p] = struct{}{}
	s.mu.Unlock()
}

func (s *source) dropPolicy(p *policy) {
	s.mu.Lock()
	delete(s.policies, p)
	s.mu.Unlock()
}

// names are the names that it serves now: those of its certificate, and those it claims.
func (s *source) names() (dns []string, ips []netip.Addr) {
	dns = append(dns, s.claims...)
	c := s.cur.Load()
	if c == nil {
		return dns, nil
	}
	for _, n := range c.Leaf.DNSNames {
		dns = append(dns, strings.ToLower(strings.TrimSuffix(n, ".")))
	}
	if len(c.Leaf.DNSNames) == 0 && c.Leaf.Subject.CommonName != "" && len(c.Leaf.IPAddresses) == 0 {
		// Old private CAs: no client accepts the common name for a name any
		// more, but it can still choose among several pairs.
		dns = append(dns, strings.ToLower(c.Leaf.Subject.CommonName))
	}
	for _, ip := range c.Leaf.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			ips = append(ips, a.Unmap())
		}
	}
	return dns, ips
}

var errNoLeaf = errors.New("no certificate in the chain")

// withLeaf makes sure that c.Leaf is set.
func withLeaf(c *tls.Certificate) error {
	if c.Leaf != nil {
		return nil
	}
	if len(c.Certificate) == 0 {
		return errNoLeaf
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	c.Leaf = leaf
	return err
}
