package certs

import (
	"crypto/tls"
	"sync"
)

// Set is the TLS of one listener in one generation of the configuration.
//
// Its life is Open, Start, Close. Sets with equal options share their parts, by identity.
type Set struct {
	m        *Manager
	listener string
	shape    *shape
	once     sync.Once
}

// shape is what a Set is: shared by all sets of equal options, so that
// ServerConfig is the same pointer in each generation.
type shape struct {
	key      string
	def      *policy
	policies []*policy // def first
	byName   nameTable[*policy]
	cfg      *tls.Config
	refs     int // guarded by m.mu
}

func (sh *shape) lookup(name []byte) *policy {
	if len(sh.policies) == 1 {
		return sh.def
	}
	if p, ok := sh.byName.get(name); ok {
		return p
	}
	return sh.def
}

func (sh *shape) lookupName(name string) *policy {
	if len(sh.policies) == 1 {
		return sh.def
	}
	var buf [maxName]byte
	return sh.lookup(foldHost(buf[:0], []byte(name)))
}

// ServerConfig is for tls.Server on every connection that the listener
// accepts. It is stable: the same pointer as long as nothing about the
// listener's TLS changes.
func (s *Set) ServerConfig() *tls.Config { return s.shape.cfg }

// PolicyFor returns the policy that holds for the host of a request, which
// may have a port and any case. It allocates nothing. Host "" is that of a
// request without one.
func (s *Set) PolicyFor(host []byte) PolicyID {
	if len(s.shape.policies) == 1 {
		return s.shape.def.id
	}
	var buf [maxName]byte
	if len(host) > maxName {
		return s.shape.def.id
	}
	return s.shape.lookup(foldHost(buf[:0], host)).id
}

// PolicyForName is PolicyFor for a string, such as ConnectionState.ServerName.
func (s *Set) PolicyForName(name string) PolicyID { return s.shape.lookupName(name).id }

// Single reports that one policy holds for every name, so that no request can be misdirected.
func (s *Set) Single() bool { return len(s.shape.policies) == 1 }

// Has reports whether a policy is one of this set. A connection whose policy is gone after a reload
// ends after its current request: what was verified for it no longer holds.
func (s *Set) Has(id PolicyID) bool {
	for _, p := range s.shape.policies {
		if p.id == id {
			return true
		}
	}
	return false
}

// Start begins to obtain and renew what this set needs and none before it did.
// It returns at once. Call it when the generation is about to be swapped in.
func (s *Set) Start() { s.m.start(s.shape) }

// Close ends the use of the set. What no other set uses is stopped; existing connections continue.
func (s *Set) Close() { s.once.Do(func() { s.m.release(s.shape) }) }

// configFor is tls.Config.GetConfigForClient.
func (sh *shape) configFor(m *Manager, hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == ALPNChallenge {
		return m.challenges.config(hello), nil
	}
	return sh.lookupName(hello.ServerName).cfg, nil
}
