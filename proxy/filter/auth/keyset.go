package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

const (
	maxKeys     = 100
	maxKeysFile = 1 << 20
	minRSABits  = 2048
	maxRSABits  = 8192
	// maxTried bounds the keys that are tried for one token that names none.
	maxTried = 8
)

// Algorithms are the algorithms for tokens (RFC 7518 section 3.1, RFC 8037), in the order of the
// documentation. Those that begin with HS use a shared secret.
var Algorithms = []string{
	"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512",
}

// Symmetric reports whether an algorithm uses a shared secret.
func Symmetric(algorithm string) bool { return strings.HasPrefix(algorithm, "HS") }

// verifyKey is a key that tokens are verified with.
type verifyKey struct {
	id  string // "": it has none
	alg string // "": any that fits its type
	key any    // *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey or []byte
}

// fits reports whether tokens of an algorithm can be signed with the key. A public key is never a
// shared secret.
func (k *verifyKey) fits(alg string) bool {
	if k.alg != "" && k.alg != alg {
		return false
	}
	switch key := k.key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(alg, "RS") || strings.HasPrefix(alg, "PS")
	case *ecdsa.PublicKey:
		return alg == map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[key.Curve.Params().BitSize]
	case ed25519.PublicKey:
		return alg == "EdDSA"
	case []byte:
		// RFC 7518 section 3.2
		return Symmetric(alg) && len(key) >= map[string]int{"HS256": 32, "HS384": 48, "HS512": 64}[alg]
	}
	return false
}

// keySet is the contents of a file or an answer, immutable.
type keySet struct {
	keys []verifyKey
	text []byte // that it was parsed from
}

// find returns the keys for a token: those with its key ID and those without one, or all if the
// token has none. known is false if a newer set may have others.
func (s *keySet) find(id, alg string) (found []*verifyKey, known bool) {
	for i := range s.keys {
		k := &s.keys[i]
		same := id == "" || k.id == "" || k.id == id
		known = known || same
		if same && k.fits(alg) && len(found) < maxTried {
			found = append(found, k)
		}
	}
	return found, known
}

// parseKeys parses a JSON Web Key Set (RFC 7517), a single key, or public keys in PEM. Keys for
// other purposes, and of kinds that are not known, are left out (section 5). Shared secrets count
// only in files.
func parseKeys(text []byte, secrets bool) (*keySet, error) {
	s := &keySet{text: text}
	var err error
	if bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("-----BEGIN ")) {
		err = s.addPEM(text)
	} else {
		err = s.addJSON(text, secrets)
	}
	if err == nil && len(s.keys) == 0 {
		err = errors.New("there is no key in it that tokens can be verified with")
	}
	return s, err
}

func (s *keySet) addJSON(text []byte, secrets bool) error {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
		Type string            `json:"kty"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return fmt.Errorf("invalid JSON Web Key Set: %w", err)
	}
	if set.Type != "" {
		set.Keys = []json.RawMessage{text}
	}
	if len(set.Keys) > maxKeys {
		return fmt.Errorf("%d keys are too many; the most are %d", len(set.Keys), maxKeys)
	}
	var faults []error
	for i, raw := range set.Keys {
		if err := s.addJWK(raw, secrets); err != nil {
			faults = append(faults, fmt.Errorf("key %d: %w", i, err))
		}
	}
	if len(s.keys) == 0 {
		return errors.Join(faults...)
	}
	return nil
}

func (s *keySet) addJWK(raw json.RawMessage, secrets bool) error {
	var k jose.JSONWebKey
	if err := json.Unmarshal(raw, &k); err != nil {
		return errors.New("not a key of a known kind")
	}
	var more struct {
		Operations []string `json:"key_ops"`
	}
	if err := json.Unmarshal(raw, &more); err != nil {
		return errors.New("invalid key_ops")
	}
	if k.Use != "" && k.Use != "sig" || len(more.Operations) > 0 && !slices.Contains(more.Operations, "verify") {
		return errors.New("not a key for signatures")
	}
	if _, secret := k.Key.([]byte); secret {
		if !secrets {
			return errors.New("a shared secret must be in a file")
		}
	} else if !k.IsPublic() {
		k = k.Public()
	}
	return s.add(verifyKey{id: k.KeyID, alg: k.Algorithm, key: k.Key})
}

func (s *keySet) addPEM(text []byte) error {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil
		}
		text = rest
		if block.Type != "PUBLIC KEY" {
			return fmt.Errorf("a PEM block of type %q cannot be used; want PUBLIC KEY", block.Type)
		}
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return fmt.Errorf("invalid PUBLIC KEY: %w", err)
		}
		if err := s.add(verifyKey{key: key}); err != nil {
			return err
		}
		if len(s.keys) > maxKeys {
			return fmt.Errorf("more than %d keys", maxKeys)
		}
	}
}

func (s *keySet) add(k verifyKey) error {
	if key, ok := k.key.(*rsa.PublicKey); ok {
		if n := key.N.BitLen(); n < minRSABits || n > maxRSABits {
			return fmt.Errorf("an RSA key of %d bits cannot be used; want %d to %d", n, minRSABits, maxRSABits)
		}
	}
	if !slices.ContainsFunc(Algorithms, k.fits) {
		return errors.New("the key is too short, or fits no algorithm for tokens")
	}
	s.keys = append(s.keys, k)
	return nil
}
