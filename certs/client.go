package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// ClientOptions is TLS to a server. The zero value but for ServerName verifies
// the server by the system's CAs.
type ClientOptions struct {
	// CA is a PEM file; "" is the system's CAs.
	CA string
	// ServerName is sent (SNI) and verified. For a server known by address it
	// is that address: verified, and not sent. It may be empty only with SAN
	// or SkipVerify.
	ServerName string
	// SAN are patterns as for Policy.ClientSAN. Where set, one of them must
	// match a name of the server's certificate, and ServerName is sent but
	// need not match: what is pinned may be a URI (SPIFFE).
	SAN []string
	// Cert and Key are PEM files of the client certificate, or empty.
	Cert, Key string
	// SkipVerify accepts any server. It is no default and cannot go with CA
	// or SAN.
	SkipVerify bool
	// MinVersion is "1.2" (the default) or "1.3".
	MinVersion string
	// ALPN is what to offer, as "h2" and "http/1.1".
	ALPN []string
	// Log gets a line when changed files cannot be used; nil: nothing is logged.
	Log *slog.Logger
	// FilePoll is how often a handshake may look whether files changed; 0 is
	// 5s. It is looked at when there is a handshake, by no goroutine.
	FilePoll time.Duration
}

// ClientConfig returns a configuration for tls.Client, for one server name.
// Use one for all connections to a server: it holds the sessions to resume.
// Do not change it or its clones' ServerName, which is what is verified.
//
// When CA, Cert or Key change on disk, handshakes from then on use the new
// ones, and sessions made with the old ones are not resumed. Files that cannot
// be used leave the old ones in place.
func ClientConfig(o ClientOptions) (*tls.Config, error) {
	c := &client{o: o}
	var err error
	if c.sans, err = parseSANs(o.SAN); err != nil {
		return nil, Fault{"san", err}
	}
	switch {
	case o.SkipVerify && (o.CA != "" || len(o.SAN) > 0):
		return nil, errors.New("verify = false cannot be combined with ca or san")
	case !o.SkipVerify && o.ServerName == "" && len(o.SAN) == 0:
		return nil, errors.New("server_name or san must be set: there is no name to verify")
	case (o.Cert == "") != (o.Key == ""):
		return nil, fmt.Errorf("cert and key must be set together (got cert = %q, key = %q)", o.Cert, o.Key)
	}
	if c.o.FilePoll <= 0 {
		c.o.FilePoll = 5 * time.Second
	}
	c.cache.look = c.look
	c.cache.reset()
	if err := c.read(); err != nil {
		return nil, err
	}
	c.looked = time.Now()
	cfg := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         o.ServerName,
		CipherSuites:       suites12,
		CurvePreferences:   groups,
		NextProtos:         o.ALPN,
		ClientSessionCache: &c.cache,
		// crypto/tls has one pool for the life of a Config, and takes no pins
		// in place of a name. So c.verify does what it would do, on resumed
		// connections too.
		InsecureSkipVerify: true,
		VerifyConnection:   c.verify,
	}
	switch o.MinVersion {
	case "", "1.2":
	case "1.3":
		cfg.MinVersion = tls.VersionTLS13
	default:
		return nil, fmt.Errorf(`min_version: unknown version (got %q); "1.2" or "1.3"`, o.MinVersion)
	}
	if o.Cert != "" {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return c.files.Load().cert, nil
		}
	}
	return cfg, nil
}

type client struct {
	o     ClientOptions
	sans  []sanPattern
	cache sessions
	files atomic.Pointer[clientFiles]

	mu     sync.Mutex // guards looking for new files
	looked time.Time
	err    string // of the last look, to report it once
	watch  []watched
}

type clientFiles struct {
	roots *x509.CertPool // nil: the system's
	cert  *tls.Certificate
}

func (c *client) read() error {
	var (
		f     clientFiles
		watch []watched
		err   error
	)
	if c.o.CA != "" {
		w := watched{path: c.o.CA}
		w.note()
		watch = append(watch, w)
		if f.roots, _, err = readRoots(c.o.CA); err != nil {
			return Fault{"ca", err}
		}
	}
	if c.o.Cert != "" {
		lp, err := readPair(Pair{c.o.Cert, c.o.Key})
		if err != nil {
			return Fault{"cert", err}
		}
		f.cert = lp.cert
		watch = append(watch, lp.certFile, lp.keyFile)
	}
	c.watch = watch
	c.files.Store(&f)
	return nil
}

// look reads the files again if they changed, at most once in FilePoll.
func (c *client) look() {
	if !c.mu.TryLock() {
		return // another handshake is reading them
	}
	defer c.mu.Unlock()
	if time.Since(c.looked) < c.o.FilePoll {
		return
	}
	c.looked = time.Now()
	changed := c.err != ""
	for i := range c.watch {
		changed = changed || c.watch[i].changed()
	}
	if !changed {
		return
	}
	text := ""
	if err := c.read(); err != nil {
		text = err.Error()
	} else {
		c.cache.reset()
	}
	if text != c.err && text != "" && c.o.Log != nil {
		c.o.Log.Error("changed TLS files for a server cannot be used; the old ones remain active", "server_name", c.o.ServerName, "err", text)
	}
	c.err = text
}

func (c *client) verify(cs tls.ConnectionState) error {
	if c.o.SkipVerify {
		return nil
	}
	if len(cs.PeerCertificates) == 0 {
		return errors.New("the server sent no certificate")
	}
	opts := x509.VerifyOptions{Roots: c.files.Load().roots, Intermediates: x509.NewCertPool()}
	if len(c.sans) == 0 {
		opts.DNSName = verifyName(c.o.ServerName)
	}
	for _, ic := range cs.PeerCertificates[1:] {
		opts.Intermediates.AddCert(ic)
	}
	leaf := cs.PeerCertificates[0]
	if _, err := leaf.Verify(opts); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: cs.PeerCertificates, Err: err}
	}
	if len(c.sans) > 0 && !matchSAN(c.sans, leaf) {
		return &tls.CertificateVerificationError{UnverifiedCertificates: cs.PeerCertificates,
			Err: fmt.Errorf("none of the certificate's names %q is pinned (%q)", allSANs(leaf), c.o.SAN)}
	}
	return nil
}

// verifyName puts an address into brackets, which x509 needs to recognize it.
func verifyName(name string) string {
	if net.ParseIP(name) != nil {
		return "[" + name + "]"
	}
	return name
}

// sessions is a cache that can be emptied. Get is the first thing that a
// handshake does with its configuration, so it is where changed files are
// noticed: before an old session is offered.
type sessions struct {
	look func()
	lru  atomic.Pointer[tls.ClientSessionCache]
}

func (s *sessions) reset() {
	c := tls.NewLRUClientSessionCache(32)
	s.lru.Store(&c)
}

func (s *sessions) Get(key string) (*tls.ClientSessionState, bool) {
	s.look()
	return (*s.lru.Load()).Get(key)
}

func (s *sessions) Put(key string, cs *tls.ClientSessionState) { (*s.lru.Load()).Put(key, cs) }
