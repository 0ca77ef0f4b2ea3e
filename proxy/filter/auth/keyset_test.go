package auth

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

func TestParseKeys(t *testing.T) {
	k := testKeys()
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(k.p256.Public())
	if err != nil {
		t.Fatal(err)
	}
	encoded := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	jwk := func(key any, use, alg string) string {
		text, err := (jose.JSONWebKey{Key: key, Use: use, Algorithm: alg}).MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	set := func(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }
	good := jwk(k.p256.Public(), "", "")
	for _, tt := range []struct {
		text    string
		secrets bool
		n       int
		want    string
	}{
		{set(good), false, 1, ""},
		{good, false, 1, ""},
		{encoded + encoded, false, 2, ""},
		// What is not known is left out, and a private key is used as a public one.
		{set(`{"kty":"new"}`, good, `{"kty":"RSA"}`, `7`), false, 1, ""},
		{set(jwk(k.p256, "", "")), false, 1, ""},
		{set(jwk(k.secret, "", "")), true, 1, ""},
		{set(jwk(k.secret, "", "")), false, 0, "a shared secret must be in a file"},
		{set(jwk([]byte("short"), "", "")), true, 0, "too short, or fits no algorithm"},
		{set(jwk(small.Public(), "", "")), false, 0, "an RSA key of 1024 bits cannot be used"},
		{set(jwk(k.p256.Public(), "enc", "")), false, 0, "not a key for signatures"},
		{set(jwk(k.p256.Public(), "", "ES384")), false, 0, "fits no algorithm"},
		{set(strings.Replace(good, "{", `{"key_ops":["sign"],`, 1)), false, 0, "not a key for signatures"},
		{set(strings.Replace(good, "{", `{"key_ops":["verify"],`, 1)), false, 1, ""},
		{set(), false, 0, "there is no key in it"},
		{`{}`, false, 0, "there is no key in it"},
		{`[]`, false, 0, "invalid JSON Web Key Set"},
		{``, false, 0, "invalid JSON Web Key Set"},
		{set(strings.TrimSuffix(strings.Repeat(good+",", maxKeys+1), ",")), false, 0, "101 keys are too many"},
		{"-----BEGIN EC PRIVATE KEY-----\nAA==\n-----END EC PRIVATE KEY-----\n", false, 0, "want PUBLIC KEY"},
		{"-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n", false, 0, "invalid PUBLIC KEY"},
		{"-----BEGIN PUBLIC KEY-----\n", false, 0, "there is no key in it"},
	} {
		s, err := parseKeys([]byte(tt.text), tt.secrets)
		if tt.want == "" {
			if err != nil || len(s.keys) != tt.n {
				t.Errorf("%.60s: %v", tt.text, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.60s: %v, want %q", tt.text, err, tt.want)
		}
	}
	path := write(t, "keys", set(good))
	if err := CheckKeys(path, []string{"ES256"}); err != nil {
		t.Error(err)
	}
	if err := CheckKeys(path, []string{"ES256", "HS256"}); err == nil || !strings.Contains(err.Error(), "no key in it fits the algorithm HS256") {
		t.Error(err)
	}
}
