package certs

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// issuerOptions is an ACME without its domains, checked, and its files read.
type issuerOptions struct {
	ACME
	key     string // identity
	roots   *x509.CertPool
	rootSum string
}

var keyTypes = map[string]certmagic.KeyType{
	"": certmagic.P256, "p256": certmagic.P256, "p384": certmagic.P384,
	"rsa2048": certmagic.RSA2048, "rsa4096": certmagic.RSA4096,
}

func newIssuerOptions(a ACME) (*issuerOptions, error) {
	a.Domains = nil
	io := &issuerOptions{ACME: a}
	if _, ok := keyTypes[a.KeyType]; !ok {
		return nil, fmt.Errorf(`unknown key_type (got %q); one of "p256", "p384", "rsa2048", "rsa4096"`, a.KeyType)
	}
	if a.CARoot != "" {
		var err error
		if io.roots, io.rootSum, err = readRoots(a.CARoot); err != nil {
			return nil, fmt.Errorf("ca_root: %w", err)
		}
	}
	ident, err := json.Marshal(struct {
		A   ACME
		Sum string
	}{a, io.rootSum})
	io.key = fileSum(ident)
	return io, err
}

// issuer is the certmagic.Issuer of one CA and account. It is ours, on
// certmagic's own ACME client acmez: certmagic.ACMEIssuer cannot be kept from
// opening listeners for its challenges, and keeps them, its rate limits and
// its last e-mail address in globals.
type issuer struct {
	m     *Manager
	o     *issuerOptions
	http  *http.Client
	dns   acmez.Solver
	magic *certmagic.Config
	quick *certmagic.Config // the same, but asks no OCSP responder

	mu sync.Mutex
	// plain are names whose last order named the certificate that it
	// replaces, and failed: the next goes without, in case that was why.
	plain map[string]bool
}

func (m *Manager) issuerFor(io *issuerOptions) (*issuer, error) {
	if is := m.issuers[io.key]; is != nil {
		return is, nil
	}
	if m.o.Storage == nil {
		return nil, errors.New("acme needs a state directory or another storage")
	}
	is := &issuer{m: m, o: io, plain: map[string]bool{}}
	is.http = &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 15 * time.Second}).DialContext,
			TLSHandshakeTimeout:   15 * time.Second,
			ResponseHeaderTimeout: 30 * time.Second,
			IdleConnTimeout:       15 * time.Second,
			ForceAttemptHTTP2:     true,
			TLSClientConfig:       &tls.Config{RootCAs: io.roots, MinVersion: tls.VersionTLS12},
		},
	}
	if io.DNS != nil {
		is.dns = newDNSSolver(io.DNS, m)
	}
	if m.magic == nil {
		m.magic = m.newCache()
	}
	cfg := m.magicConfig(is, io.KeyType)
	is.magic = certmagic.New(m.magic, cfg)
	cfg.OCSP.DisableStapling = true
	is.quick = certmagic.New(m.magic, cfg)
	m.issuers[io.key] = is
	return is, nil
}

// newCache makes what certmagic.New insists on. Certificates pass through it,
// see managed.load; should its maintenance meet one, it is told that the
// certificate is got on demand, and leaves it alone.
func (m *Manager) newCache() *certmagic.Cache {
	var idle atomic.Pointer[certmagic.Config]
	cache := certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) {
			return idle.Load(), nil
		},
		RenewCheckInterval: m.o.RenewCheck, // certmagic's idea of when to renew depends on it
		Logger:             zapLogger(m.log),
	})
	cfg := m.magicConfig(&issuer{m: m, o: &issuerOptions{}}, "")
	cfg.OCSP.DisableStapling = true
	cfg.OnDemand = &certmagic.OnDemandConfig{}
	idle.Store(certmagic.New(cache, cfg))
	return cache
}

// magicConfig sets every field that certmagic.Default would fill in.
func (m *Manager) magicConfig(is *issuer, keyType string) certmagic.Config {
	return certmagic.Config{
		RenewalWindowRatio: certmagic.DefaultRenewalWindowRatio,
		Issuers:            []certmagic.Issuer{is},
		IssuerPolicy:       certmagic.UseFirstIssuer,
		KeySource:          certmagic.StandardKeyGenerator{KeyType: keyTypes[keyType]},
		Storage:            m.o.Storage,
		Logger:             zapLogger(m.log),
		OnEvent:            func(context.Context, string, map[string]any) error { return nil },
		ShouldEmitFunc:     func(string) bool { return false },
	}
}

// IssuerKey names the CA in storage, as certmagic does.
func (is *issuer) IssuerKey() string {
	return (&certmagic.ACMEIssuer{CA: is.o.CA}).IssuerKey()
}

func (is *issuer) client(solvers map[string]acmez.Solver) *acmez.Client {
	ua := "mpgate"
	if is.m.o.UserAgent != "" {
		ua = is.m.o.UserAgent
	}
	return &acmez.Client{
		Client: &acme.Client{
			Directory:   is.o.CA,
			HTTPClient:  is.http,
			UserAgent:   ua,
			PollTimeout: 2 * time.Minute,
		},
		ChallengeSolvers: solvers,
	}
}

func (is *issuer) solvers() map[string]acmez.Solver {
	out := map[string]acmez.Solver{}
	for _, c := range is.o.Challenges {
		switch c {
		case DNS01:
			out[acme.ChallengeTypeDNS01] = is.dns
		case HTTP01:
			out[acme.ChallengeTypeHTTP01] = &challengeSolver{is}
		case TLSALPN01:
			out[acme.ChallengeTypeTLSALPN01] = &challengeSolver{is}
		}
	}
	return out
}

// Issue gets a certificate for csr, in one attempt. It is called by certmagic
// while it holds the name's lock.
func (is *issuer) Issue(ctx context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	client := is.client(is.solvers())
	chains, err := is.order(ctx, client, csr)
	var problem acme.Problem
	if errors.As(err, &problem) && problem.Type == acme.ProblemTypeAccountDoesNotExist {
		is.m.log.Warn("the CA no longer knows this ACME account; registering a new one", "ca", is.o.CA)
		if err = is.m.o.Storage.Delete(ctx, is.accountKey()); err == nil {
			chains, err = is.order(ctx, client, csr)
		}
	}
	if err != nil {
		return nil, err
	}
	if len(chains) == 0 {
		return nil, errors.New("the CA sent no certificate")
	}
	return &certmagic.IssuedCertificate{Certificate: chains[0].ChainPEM, Metadata: chains[0]}, nil
}

func (is *issuer) order(ctx context.Context, client *acmez.Client, csr *x509.CertificateRequest) ([]acme.Certificate, error) {
	account, err := is.account(ctx, client.Client)
	if err != nil {
		return nil, err
	}
	params, err := acmez.OrderParametersFromCSR(account, csr)
	if err != nil {
		return nil, err
	}
	params.Profile = is.o.Profile
	name := csr.DNSNames[0]
	params.Replaces = is.replaces(ctx, name)
	chains, err := client.ObtainCertificate(ctx, params)
	is.mu.Lock()
	if err != nil && params.Replaces != nil {
		is.plain[name] = true
	} else {
		delete(is.plain, name)
	}
	is.mu.Unlock()
	return chains, err
}

// replaces returns the certificate that a new one for name takes the place of
// (RFC 9773 section 5), for the CA to exempt it from rate limits.
func (is *issuer) replaces(ctx context.Context, name string) *x509.Certificate {
	is.mu.Lock()
	plain := is.plain[name]
	is.mu.Unlock()
	if plain {
		return nil
	}
	data, err := is.m.o.Storage.Load(ctx, certmagic.StorageKeys.SiteCert(is.IssuerKey(), name))
	if err != nil {
		return nil
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil || len(c.AuthorityKeyId) == 0 {
		return nil
	}
	return c
}

// storedAccount is an account at the CA, as it is kept in storage.
type storedAccount struct {
	Account acme.Account `json:"account"`
	Key     string       `json:"key"`
}

func (is *issuer) prefix() string {
	return path.Join("acme", certmagic.StorageKeys.Safe(is.IssuerKey()))
}

func (is *issuer) accountKey() string {
	who := "default"
	if is.o.Email != "" {
		who = is.o.Email
	}
	if is.o.EABKeyID != "" {
		who += "+" + is.o.EABKeyID
	}
	return path.Join(is.prefix(), "accounts", certmagic.StorageKeys.Safe(who)+".json")
}

func (is *issuer) account(ctx context.Context, client *acme.Client) (acme.Account, error) {
	if a, err := is.loadAccount(ctx); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return a, err
	}
	// Only one of the processes that share the storage creates it.
	lock := "register_" + is.accountKey()
	if err := is.m.o.Storage.Lock(ctx, lock); err != nil {
		return acme.Account{}, fmt.Errorf("lock of the ACME account: %w", err)
	}
	defer func() {
		if err := is.m.o.Storage.Unlock(context.WithoutCancel(ctx), lock); err != nil {
			is.m.log.Warn("cannot release the lock of the ACME account", "err", err.Error())
		}
	}()
	if a, err := is.loadAccount(ctx); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return a, err
	}
	return is.register(ctx, client)
}

func (is *issuer) loadAccount(ctx context.Context) (acme.Account, error) {
	var stored storedAccount
	data, err := is.m.o.Storage.Load(ctx, is.accountKey())
	if err != nil {
		return acme.Account{}, err
	}
	if err := json.Unmarshal(data, &stored); err != nil {
		return acme.Account{}, fmt.Errorf("stored ACME account %s: %w", is.accountKey(), err)
	}
	stored.Account.PrivateKey, err = certmagic.PEMDecodePrivateKey([]byte(stored.Key))
	if err != nil {
		return acme.Account{}, fmt.Errorf("stored ACME account %s: %w", is.accountKey(), err)
	}
	return stored.Account, nil
}

func (is *issuer) register(ctx context.Context, client *acme.Client) (acme.Account, error) {
	key, err := certmagic.StandardKeyGenerator{KeyType: certmagic.P256}.GenerateKey()
	if err != nil {
		return acme.Account{}, err
	}
	keyPEM, err := certmagic.PEMEncodePrivateKey(key)
	if err != nil {
		return acme.Account{}, err
	}
	// Configuring a CA counts as agreement to its terms.
	a := acme.Account{TermsOfServiceAgreed: true, PrivateKey: key.(crypto.Signer)}
	if is.o.Email != "" {
		a.Contact = []string{"mailto:" + is.o.Email}
	}
	if is.o.EABKeyID != "" {
		if err := a.SetExternalAccountBinding(ctx, client, acme.EAB{KeyID: is.o.EABKeyID, MACKey: is.o.EABKey}); err != nil {
			return a, fmt.Errorf("binding to the external account %q: %w", is.o.EABKeyID, err)
		}
	}
	if a, err = client.NewAccount(ctx, a); err != nil {
		return a, fmt.Errorf("registering an account at %s: %w", is.o.CA, err)
	}
	data, err := json.Marshal(storedAccount{a, string(keyPEM)})
	if err != nil {
		return a, err
	}
	if err := is.m.o.Storage.Store(ctx, is.accountKey(), data); err != nil {
		return a, fmt.Errorf("storing the ACME account: %w", err)
	}
	is.m.log.Info("ACME account registered", "ca", is.o.CA, "email", is.o.Email, "location", a.Location)
	return a, nil
}

// uses reports whether the issuer may solve a type of challenge.
func (is *issuer) uses(challenge string) bool { return slices.Contains(is.o.Challenges, challenge) }
