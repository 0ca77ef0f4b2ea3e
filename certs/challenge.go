package certs

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

const (
	// ALPNChallenge is the protocol of tls-alpn-01 (RFC 8737). A connection
	// that negotiated it carries no HTTP: close it.
	ALPNChallenge = acmez.ACMETLS1Protocol

	challengePath = "/.well-known/acme-challenge/"
)

// IsACMEChallenge reports whether a request's path is that of an http-01 challenge. It is cheap,
// and also true for challenges of other ACME clients.
func IsACMEChallenge(path []byte) bool {
	return len(path) > len(challengePath) && string(path[:len(challengePath)]) == challengePath
}

// challenges are those that are under way in this process. Those of other
// processes are found in the storage.
type challenges struct {
	m    *Manager
	mu   sync.RWMutex
	http map[string]string           // host and token -> key authorization
	alpn map[string]*tls.Certificate // host -> certificate
}

// challengeSolver presents http-01 and tls-alpn-01 challenges of one issuer.
type challengeSolver struct{ is *issuer }

func (s *challengeSolver) storageKey(c acme.Challenge) string {
	if c.Type == acme.ChallengeTypeHTTP01 {
		return s.is.httpKey(c.Identifier.Value, c.Token)
	}
	return s.is.alpnKey(c.Identifier.Value)
}

func (is *issuer) httpKey(host, token string) string {
	return path.Join(is.prefix(), "challenges", certmagic.StorageKeys.Safe(host), token+".json")
}

func (is *issuer) alpnKey(host string) string {
	return path.Join(is.prefix(), "challenges", certmagic.StorageKeys.Safe(host)+".alpn.json")
}

func (s *challengeSolver) Present(ctx context.Context, c acme.Challenge) error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := s.is.m.o.Storage.Store(ctx, s.storageKey(c), data); err != nil {
		return fmt.Errorf("storing the challenge: %w", err)
	}
	return s.is.m.challenges.add(c)
}

func (s *challengeSolver) CleanUp(ctx context.Context, c acme.Challenge) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	s.is.m.challenges.remove(c)
	return s.is.m.o.Storage.Delete(ctx, s.storageKey(c))
}

func (cs *challenges) add(c acme.Challenge) error {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.http == nil {
		cs.http, cs.alpn = map[string]string{}, map[string]*tls.Certificate{}
	}
	if c.Type == acme.ChallengeTypeHTTP01 {
		cs.http[c.Identifier.Value+" "+c.Token] = c.KeyAuthorization
		return nil
	}
	cert, err := acmez.TLSALPN01ChallengeCert(c)
	if err != nil {
		return err
	}
	cs.alpn[c.Identifier.Value] = cert
	return nil
}

func (cs *challenges) remove(c acme.Challenge) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c.Type == acme.ChallengeTypeHTTP01 {
		delete(cs.http, c.Identifier.Value+" "+c.Token)
	} else {
		delete(cs.alpn, c.Identifier.Value)
	}
}

// issuersOf returns those that get certificates for host by a type of challenge. Storage is read
// for no other name, so that strangers cannot cause reads.
func (m *Manager) issuersOf(host, challenge string) []*issuer {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*issuer
	for _, d := range m.managed {
		if d.domain == host && d.issuer.uses(challenge) {
			out = append(out, d.issuer)
		}
	}
	return out
}

// ChallengeResponse returns the body of the answer (200, text/plain) to a GET of an http-01
// challenge, or false if it is not a challenge of this manager: the request is then like any other.
// host may have a port.
func (m *Manager) ChallengeResponse(ctx context.Context, host, reqPath string) (string, bool) {
	token, ok := strings.CutPrefix(reqPath, challengePath)
	if !ok || !isToken(token) || len(host) > maxName {
		return "", false
	}
	name := string(foldHost(nil, []byte(host)))
	m.challenges.mu.RLock()
	auth, ok := m.challenges.http[name+" "+token]
	m.challenges.mu.RUnlock()
	if ok {
		return auth, true
	}
	for _, is := range m.issuersOf(name, HTTP01) {
		if c, ok := is.stored(ctx, is.httpKey(name, token)); ok && c.Token == token {
			return c.KeyAuthorization, true
		}
	}
	return "", false
}

func (is *issuer) stored(ctx context.Context, key string) (acme.Challenge, bool) {
	var c acme.Challenge
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	data, err := is.m.o.Storage.Load(ctx, key)
	if err != nil || json.Unmarshal(data, &c) != nil {
		return c, false
	}
	return c, true
}

// isToken reports whether a token is base64url (RFC 8555 section 8.3): it becomes part of a file
// name.
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 128
}

// ACMEHandler answers http-01 challenges of this manager, and 404 to everything else. A data plane
// with routes should use ChallengeResponse, which leaves other requests to the routes.
func (m *Manager) ACMEHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := "", false
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			body, ok = m.ChallengeResponse(r.Context(), r.Host, r.URL.Path)
		}
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		if r.Method == http.MethodGet {
			fmt.Fprint(w, body)
		}
	})
}

// config returns the configuration for a tls-alpn-01 validation. Without a certificate in it,
// crypto/tls sends unrecognized_name.
func (cs *challenges) config(hello *tls.ClientHelloInfo) *tls.Config {
	cfg := &tls.Config{
		MinVersion:             tls.VersionTLS12,
		NextProtos:             []string{ALPNChallenge},
		SessionTicketsDisabled: true,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil },
	}
	if hello.ServerName == "" || len(hello.ServerName) > maxName {
		return cfg
	}
	name := string(foldHost(nil, []byte(hello.ServerName)))
	cs.mu.RLock()
	cert := cs.alpn[name]
	cs.mu.RUnlock()
	if cert == nil {
		for _, is := range cs.m.issuersOf(name, TLSALPN01) {
			if c, ok := is.stored(hello.Context(), is.alpnKey(name)); ok {
				cert, _ = acmez.TLSALPN01ChallengeCert(c)
			}
		}
	}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	return cfg
}
