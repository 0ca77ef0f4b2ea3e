//go:build linux

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"time"

	"golang.org/x/crypto/bcrypt"

	"mpgate/bench/peers"
)

// secrets are what clients prove who they are with, and what mpgate verifies it by. They are new in
// each run.
type secrets struct {
	basic, bearer  string // fields of requests
	htpasswd, keys peers.File
}

func makeSecrets() (*secrets, error) {
	password := rand.Text()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	token, err := signToken(key, fmt.Sprintf(`{"iss":"https://issuer.example","sub":"bench","aud":"bench","exp":%d}`, time.Now().Add(24*time.Hour).Unix()))
	if err != nil {
		return nil, err
	}
	return &secrets{
		basic:    "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("bench:"+password)),
		bearer:   "Authorization: Bearer " + token,
		htpasswd: peers.File{Name: "htpasswd", Text: "bench:" + string(hash) + "\n"},
		keys:     peers.File{Name: "keys.pem", Text: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))},
	}, nil
}

// signToken makes a token signed with ES256 (RFC 7518 section 3.4).
func signToken(key *ecdsa.PrivateKey, claims string) (string, error) {
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"ES256","typ":"JWT"}`)) + "." + encode([]byte(claims))
	digest := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		return "", err
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + encode(signature), nil
}
