package certs

import (
	"crypto/rand"
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
)

// PolicyID is the identity of a policy in this process: equal for two names
// when the same policy holds for both, and the same across reloads as long as
// nothing about the policy changed. The zero value is no policy.
type PolicyID uint64

var lastPolicyID atomic.Uint64

// policy is what holds for some names of a listener. It does not change, but
// for the certificates behind its sources and its ticket keys.
type policy struct {
	id      PolicyID
	ident   string // key in Manager.policies
	r       *resolved
	sources []*source // in order of preference
	owned   []any     // what to release: *pair, *managed, *local
	cfg     *tls.Config
	index   atomic.Pointer[certIndex]
	indexMu sync.Mutex

	tickets ticketKeys
	refs    int // guarded by m.mu
}

// certIndex finds sources by name.
type certIndex struct {
	names nameTable[[]*source]
	ips   map[netip.Addr][]*source
}

func newPolicy(ident string, r *resolved) *policy {
	p := &policy{id: PolicyID(lastPolicyID.Add(1)), ident: ident, r: r}
	p.cfg = &tls.Config{
		MinVersion:       r.minVer,
		MaxVersion:       tls.VersionTLS13,
		CipherSuites:     suites12,
		CurvePreferences: groups,
		NextProtos:       r.Protos,
		ClientAuth:       r.auth,
		GetCertificate:   p.certificate,
	}
	if r.clients != nil {
		p.cfg.ClientCAs = r.clients.pool
		p.cfg.VerifyConnection = r.clients.verify
	}
	p.tickets.rotate(p.cfg)
	return p
}

// suites12 are for TLS 1.2: forward secrecy and AEAD. Those of TLS 1.3 are all secure and cannot be
// chosen.
var suites12 = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// groups are the key exchanges; crypto/tls prefers the hybrid one whatever the
// order here.
var groups = []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384}

func (p *policy) attach() {
	for _, s := range p.sources {
		s.addPolicy(p)
	}
	p.reindex()
}

func (p *policy) detach() {
	for _, s := range p.sources {
		s.dropPolicy(p)
	}
}

// reindex is called when a source has a new certificate, which may have other names.
func (p *policy) reindex() {
	p.indexMu.Lock()
	defer p.indexMu.Unlock()
	ix := &certIndex{ips: map[netip.Addr][]*source{}}
	for _, s := range p.sources {
		dns, ips := s.names()
		for _, n := range dns {
			table, key := ix.names.slot(n)
			if list := table[key]; len(list) == 0 || list[len(list)-1] != s {
				table[key] = append(list, s)
			}
		}
		for _, ip := range ips {
			ix.ips[ip] = append(ix.ips[ip], s)
		}
	}
	p.index.Store(ix)
}

// find returns the sources that cover what the client asks for.
func (p *policy) find(hello *tls.ClientHelloInfo) []*source {
	ix := p.index.Load()
	if hello.ServerName == "" {
		if len(ix.ips) == 0 || hello.Conn == nil {
			return nil
		}
		return ix.ips[localIP(hello.Conn)]
	}
	var buf [maxName]byte
	found, _ := ix.names.get(foldHost(buf[:0], []byte(hello.ServerName)))
	return found
}

func localIP(c net.Conn) netip.Addr {
	if a, ok := c.LocalAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// certificate is tls.Config.GetCertificate. Where it returns nil without an
// error, crypto/tls refuses the handshake with the alert unrecognized_name;
// with an error it would say internal_error, which tells a client nothing.
func (p *policy) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	candidates := p.find(hello)
	if candidates == nil {
		if p.r.RefuseUnknown {
			return nil, nil
		}
		candidates = p.sources
	}
	var unsuited *tls.Certificate
	for _, s := range candidates {
		c := s.cur.Load()
		if c == nil {
			continue
		}
		if len(candidates) == 1 || hello.SupportsCertificate(c) == nil {
			return c, nil
		}
		if unsuited == nil {
			unsuited = c
		}
	}
	return unsuited, nil
}

// covers reports whether a certificate exists for name or is to be obtained.
func (p *policy) covers(name string) bool {
	var buf [maxName]byte
	_, ok := p.index.Load().names.get(foldHost(buf[:0], []byte(name)))
	return ok
}

// uncovered returns the hosts without a certificate, now and later.
func (p *policy) uncovered() []string {
	var out []string
	for _, h := range p.r.Policy.Hosts {
		if table, key := p.index.Load().names.slot(h); table[key] == nil && !p.covers(strings.Replace(h, "*", "x", 1)) {
			out = append(out, h)
		}
	}
	return out
}

// ticketKeys are the keys of one policy: the first seals, both open. A ticket is therefore useless
// after two rotations, and with another policy.
type ticketKeys struct {
	mu   sync.Mutex
	keys [][32]byte
}

func (t *ticketKeys) rotate(cfg *tls.Config) {
	var k [32]byte
	rand.Read(k[:]) // never fails (Go 1.24)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keys = append([][32]byte{k}, t.keys[:min(len(t.keys), 1)]...)
	cfg.SetSessionTicketKeys(t.keys)
}
