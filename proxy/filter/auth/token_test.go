package auth

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func TestTokenAlgorithms(t *testing.T) {
	k := testKeys()
	keys := map[string]struct {
		id  string
		key any
	}{
		"RS256": {"rsa", k.rsa}, "RS384": {"rsa", k.rsa}, "RS512": {"rsa", k.rsa}, "PS256": {"rsa", k.rsa}, "PS384": {"rsa", k.rsa},
		"PS512": {"rsa", k.rsa}, "ES256": {"p256", k.p256}, "ES384": {"p384", k.p384}, "ES512": {"p521", k.p521},
		"EdDSA": {"ed", k.ed}, "HS256": {"secret", k.secret}, "HS384": {"secret", k.secret}, "HS512": {"secret", k.secret},
	}
	all, public := newJWT(t, JWTOptions{Algorithms: Algorithms}), newJWT(t, JWTOptions{})
	for _, alg := range Algorithms {
		for _, id := range []string{keys[alg].id, ""} {
			token := sign(t, alg, keys[alg].key, id, claimsFor(nil))
			if got := says(t, all, withToken(token)); got != "" {
				t.Errorf("%s, key %q: %s", alg, id, got)
			}
			want := ""
			if Symmetric(alg) {
				want = errAlgorithm.Error() // not without being named
			}
			if got := says(t, public, withToken(token)); got != want {
				t.Errorf("%s by default: %q, want %q", alg, got, want)
			}
			only := newJWT(t, JWTOptions{Algorithms: []string{map[bool]string{true: "ES256", false: "RS256"}[alg != "ES256"]}})
			if got := says(t, only, withToken(token)); got != errAlgorithm.Error() {
				t.Errorf("%s where another is allowed: %q", alg, got)
			}
		}
	}
}

// forged is a token of a head and claims as they are, with a signature.
func forged(head, payload string, signature []byte) string {
	e := base64.RawURLEncoding.EncodeToString
	return e([]byte(head)) + "." + e([]byte(payload)) + "." + e(signature)
}

// What attackers try with tokens.
func TestForgedTokens(t *testing.T) {
	k := testKeys()
	j := newJWT(t, JWTOptions{Algorithms: Algorithms})
	public, err := x509.MarshalPKIXPublicKey(k.rsa.Public())
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
	pemOnly := newJWTOf(t, JWTOptions{Algorithms: Algorithms}, text)
	good := sign(t, "ES256", k.p256, "p256", claimsFor(nil))
	head, rest, _ := strings.Cut(good, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	raw, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil {
		t.Fatal(err)
	}
	const claims = `{"sub":"alice","exp":99999999999}`
	embedded := func() string {
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: "ES256", Key: k.b}, &jose.SignerOptions{EmbedJWK: true})
		if err != nil {
			t.Fatal(err)
		}
		o, err := s.Sign([]byte(claims))
		if err != nil {
			t.Fatal(err)
		}
		text, err := o.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}()
	critical := func(name string) string {
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: "ES256", Key: jose.JSONWebKey{Key: k.p256, KeyID: "p256"}},
			(&jose.SignerOptions{}).WithCritical(name).WithHeader(jose.HeaderKey(name), true))
		if err != nil {
			t.Fatal(err)
		}
		o, err := s.Sign([]byte(claims))
		if err != nil {
			t.Fatal(err)
		}
		text, err := o.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	both := func(fields ...string) []string { return fields }
	for _, tt := range []struct {
		name   string
		j      *JWT
		fields []string
		want   error
	}{
		{"none", j, both(withToken(forged(`{"alg":"none"}`, claims, nil))), errAlgorithm},
		{"none with a signature", j, both(withToken(forged(`{"alg":"none","kid":"p256"}`, claims, raw))), errAlgorithm},
		{"nOnE", j, both(withToken(forged(`{"alg":"nOnE"}`, claims, nil))), errAlgorithm},
		{"no algorithm", j, both(withToken(forged(`{}`, claims, raw))), errAlgorithm},
		{"HS256 by the public key", j, both(withToken(signText(t, "HS256", public, "rsa", claims))), errUnknownKey},
		{"HS256 by its PEM", pemOnly, both(withToken(signText(t, "HS256", []byte(text), "", claims))), errUnknownKey},
		{"HS256 by its modulus", j, both(withToken(signText(t, "HS256", k.rsa.N.Bytes(), "", claims))), errSignature},
		{"ES256 named as the RSA key", j, both(withToken(signText(t, "ES256", k.p256, "rsa", claims))), errUnknownKey},
		{"another curve", j, both(withToken(signText(t, "ES256", k.b, "p384", claims))), errUnknownKey},
		{"another key", j, both(withToken(signText(t, "ES256", k.b, "p256", claims))), errSignature},
		{"another RSA key", j, both(withToken(signText(t, "RS256", k.rsa2, "rsa", claims))), errSignature},
		{"unknown key", j, both(withToken(signText(t, "ES256", k.p256, "other", claims))), errUnknownKey},
		{"key in the token", j, both(withToken(embedded)), errSignature},
		{"critical extension", j, both(withToken(critical("exp2"))), errCritical},
		{"critical b64", j, both(withToken(critical("b64"))), errCritical},
		{"two algorithms", j, both(withToken(forged(`{"alg":"none","alg":"ES256"}`, claims, raw))), errMalformed},
		{"head of another case", j, both(withToken(forged(`{"ALG":"ES256","kid":"p256"}`, claims, raw))), errAlgorithm},
		{"zero signature", j, both(withToken(forged(`{"alg":"ES256","kid":"p256"}`, claims, make([]byte, 64)))), errSignature},
		{"short signature", j, both(withToken(head + "." + payload + "." + signature[:40])), errSignature},
		{"signature of DER", j, both(withToken(forged(`{"alg":"ES256","kid":"p256"}`, claims, append([]byte{0x30, 68}, make([]byte, 68)...)))), errSignature},
		{"no signature", j, both(withToken(head + "." + payload + ".")), errSignature},
		{"other claims", j, both(withToken(head + "." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + "." + signature)), errSignature},
		{"two parts", j, both(withToken(head + "." + payload)), errMalformed},
		{"five parts", j, both(withToken(good + ".a.b")), errMalformed},
		{"JSON", j, both(withToken(`{"payload":"","protected":"","signature":""}`)), errMalformed},
		{"padding", j, both(withToken(good + "==")), errMalformed},
		{"white space", j, both(withToken(head + " ." + payload + "." + signature)), errMalformed},
		{"standard base64", j, both(withToken(strings.ReplaceAll(good, signature, strings.Repeat("+/", 43)))), errMalformed},
		{"too long", j, both(withToken(good + strings.Repeat("A", maxToken))), errMalformed},
		{"no JSON", j, both(withToken(signText(t, "ES256", k.p256, "p256", "alice"))), errClaims},
		{"a list", j, both(withToken(signText(t, "ES256", k.p256, "p256", "[]"))), errClaims},
		{"null", j, both(withToken(signText(t, "ES256", k.p256, "p256", "null"))), errClaims},
		{"more behind", j, both(withToken(signText(t, "ES256", k.p256, "p256", claims+"{}"))), errClaims},
	} {
		if got := says(t, tt.j, tt.fields...); got != tt.want.Error() {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	for _, fields := range [][]string{nil, {"Authorization: Basic YTpi"}, {"Authorization: Bearer"}, {"Authorization: Bearer "}, {"authorization: " + good}} {
		if got := says(t, j, fields...); got != missing {
			t.Errorf("%q: %q", fields, got)
		}
	}
	for _, fields := range [][]string{{withToken(good), withToken(good)}, {withToken(good), "authorization: Basic YTpi"}} {
		if got := says(t, j, fields...); got != "there is more than one Authorization field" {
			t.Errorf("%q: %q", fields, got)
		}
	}
}

func TestTokenClaims(t *testing.T) {
	k := testKeys()
	now := time.Now()
	strict := newJWT(t, JWTOptions{Issuer: "https://issuer.example", Audience: []string{"web", "api"}})
	open := newJWT(t, JWTOptions{})
	for _, tt := range []struct {
		name         string
		change       map[string]any
		strict, open error
	}{
		{"as they are", nil, nil, nil},
		{"expired", map[string]any{"exp": now.Add(-2 * time.Minute).Unix()}, errExpired, errExpired},
		{"expired a moment ago", map[string]any{"exp": now.Add(-30 * time.Second).Unix()}, nil, nil},
		{"no end", map[string]any{"exp": nil}, errNoExpiry, errNoExpiry},
		{"end of no time", map[string]any{"exp": "tomorrow"}, errClaims, errClaims},
		{"end of a fraction", map[string]any{"exp": float64(now.Unix()) + 3600.5}, nil, nil},
		{"end beyond all time", map[string]any{"exp": 1e300}, errClaims, errClaims},
		{"begins later", map[string]any{"nbf": now.Add(2 * time.Minute).Unix()}, errNotYet, errNotYet},
		{"begins in a moment", map[string]any{"nbf": now.Add(30 * time.Second).Unix()}, nil, nil},
		{"issued later", map[string]any{"iat": now.Add(2 * time.Minute).Unix()}, errNotYet, errNotYet},
		{"without begin", map[string]any{"nbf": nil, "iat": nil}, nil, nil},
		{"begin of no time", map[string]any{"nbf": true}, errClaims, errClaims},
		{"another issuer", map[string]any{"iss": "https://issuer.example/"}, errIssuer, nil},
		{"no issuer", map[string]any{"iss": nil}, errIssuer, nil},
		{"issuer of a list", map[string]any{"iss": []string{"https://issuer.example"}}, errIssuer, nil},
		{"another audience", map[string]any{"aud": "api2"}, errAudience, nil},
		{"no audience", map[string]any{"aud": nil}, errAudience, nil},
		{"audiences", map[string]any{"aud": []string{"x", "web"}}, nil, nil},
		{"no audiences", map[string]any{"aud": []string{}}, errAudience, nil},
		{"audiences of a list", map[string]any{"aud": [][]string{{"web"}}}, errAudience, nil},
	} {
		token := withToken(sign(t, "ES256", k.p256, "p256", claimsFor(tt.change)))
		for range 2 { // the second time it may be remembered
			for j, want := range map[*JWT]error{strict: tt.strict, open: tt.open} {
				text := ""
				if want != nil {
					text = want.Error()
				}
				if got := says(t, j, token); got != text {
					t.Errorf("%s: %q, want %q", tt.name, got, text)
				}
			}
		}
	}
}
