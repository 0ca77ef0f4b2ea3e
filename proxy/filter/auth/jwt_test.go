package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"mpgate/proxy/message"
	"mpgate/telemetry"
)

// testKeys are made once: RSA keys take long.
var testKeys = sync.OnceValue(func() (k struct {
	rsa, rsa2           *rsa.PrivateKey
	p256, p384, p521, b *ecdsa.PrivateKey
	ed                  ed25519.PrivateKey
	secret              []byte
}) {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	var err error
	k.rsa, err = rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	k.rsa2, err = rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	for to, curve := range map[**ecdsa.PrivateKey]elliptic.Curve{&k.p256: elliptic.P256(), &k.b: elliptic.P256(), &k.p384: elliptic.P384(), &k.p521: elliptic.P521()} {
		*to, err = ecdsa.GenerateKey(curve, rand.Reader)
		must(err)
	}
	_, k.ed, err = ed25519.GenerateKey(rand.Reader)
	must(err)
	k.secret = []byte(strings.Repeat("a secret", 8))
	return k
})

// newJWT is a filter whose keys are those of testKeys, in a file.
func newJWT(t testing.TB, o JWTOptions) *JWT {
	t.Helper()
	k := testKeys()
	return newJWTOf(t, o, keySetText(t, map[string]any{
		"rsa": k.rsa, "p256": k.p256, "p384": k.p384, "p521": k.p521, "ed": k.ed, "secret": k.secret,
	}))
}

func newJWTOf(t testing.TB, o JWTOptions, keys string) *JWT {
	t.Helper()
	var err error
	if o.Keys, err = NewKeys(KeysOptions{File: write(t, "keys", keys), Poll: time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	if o.Memory == nil {
		o.Memory = NewMemory()
	}
	j, err := NewJWT(o)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// claimsFor are valid claims, with changes; nil removes one.
func claimsFor(change map[string]any) map[string]any {
	now := time.Now()
	c := map[string]any{
		"sub": "alice", "iss": "https://issuer.example", "aud": "api",
		"exp": now.Add(time.Hour).Unix(), "iat": now.Unix(), "nbf": now.Unix(),
	}
	maps.Copy(c, change)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

// says asks the filter, and returns why it refused; "": it did not.
func says(t *testing.T, j *JWT, fields ...string) string {
	t.Helper()
	r := newRequest(t, fields...)
	if !j.FilterRequest(r) {
		return ""
	}
	challenge := fieldsOf(&r.Fields, "WWW-Authenticate")
	want := "Bearer"
	if r.Answer.Text != missing {
		want = `Bearer error="invalid_token", error_description="` + r.Answer.Text + `"`
	}
	if r.Answer.Status != 401 || r.Answer.End != telemetry.EndUnauthorized || challenge != want {
		t.Errorf("%+v with the challenge %s", r.Answer, challenge)
	}
	return r.Answer.Text
}

func withToken(token string) string { return "Authorization: Bearer " + token }

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

// Claims become fields, and nobody else can set those.
func TestClaimFields(t *testing.T) {
	k := testKeys()
	j := newJWT(t, JWTOptions{Claims: []Claim{
		{"X-User", "sub"}, {"X-Roles", "realm.roles"}, {"X-Dotted", "https://a.example/tier"}, {"X-Age", "age"}, {"X-Admin", "admin"}, {"X-None", "none.x"},
	}})
	client := []string{
		"x-user: root", "X_User: root", "X.USER: root", "X-Roles: admin", "X-None: 1", "X-Usera: kept",
	}
	more := map[string]any{
		"realm": map[string]any{"roles": []string{"a", "b c"}}, "https://a.example/tier": "gold", "age": 12345678901234567, "admin": false, "none": "x",
	}
	token := withToken(sign(t, "ES256", k.p256, "p256", claimsFor(more)))
	for range 2 {
		r := newRequest(t, append(client, token)...)
		if j.FilterRequest(r) {
			t.Fatal(r.Answer)
		}
		for name, want := range map[string]string{
			"X-User": "alice", "X_User": "", "X.User": "", "X-Roles": "a,b c", "X-Dotted": "gold", "X-Age": "12345678901234567", "X-Admin": "false",
			"X-None": "", "X-Usera": "kept",
		} {
			if got := fieldsOf(&r.Header, name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
	}
	// Fields of the client go also where the request is refused, or only explained, and with its
	// trailer.
	r := newRequest(t, client...)
	if !j.FilterRequest(r) || fieldsOf(&r.Header, "X-User")+fieldsOf(&r.Header, "X_User") != "" {
		t.Error("the client's field is still there")
	}
	r = newRequest(t, append(client, token)...)
	var notes []string
	r.Explain = func(note string) { notes = append(notes, note) }
	if j.FilterRequest(r) || fieldsOf(&r.Header, "X-User") != "" || len(notes) != 1 || !strings.Contains(notes[0], "X-User is set to the claim sub") {
		t.Errorf("%+v %q", r.Answer, notes)
	}
	r = newRequest(t, client...)
	j.FilterTrailer(&r.Header)
	if fieldsOf(&r.Header, "X-User")+fieldsOf(&r.Header, "X_User") != "" || fieldsOf(&r.Header, "X-Usera") != "kept" {
		t.Error("the trailer's field is still there")
	}
	for _, bad := range []any{"a\r\nX-Admin: 1", "a\x00", " alice", "alice ", "\talice", "alice\x7f", []string{"a,b"}, []string{"a", ""}, []any{1, nil}} {
		if got := says(t, j, withToken(sign(t, "ES256", k.p256, "p256", claimsFor(map[string]any{"sub": bad})))); got != errCarry.Error() {
			t.Errorf("sub = %q: %q", bad, got)
		}
	}
	for _, unset := range []any{nil, "", map[string]any{"a": "b"}, []string{}} {
		r := newRequest(t, append(client, withToken(sign(t, "ES256", k.p256, "p256", claimsFor(map[string]any{"sub": unset}))))...)
		if j.FilterRequest(r) || fieldsOf(&r.Header, "X-User") != "" {
			t.Errorf("sub = %v: X-User is %q, %+v", unset, fieldsOf(&r.Header, "X-User"), r.Answer)
		}
	}
}

func TestWhereTokensAre(t *testing.T) {
	k := testKeys()
	token := sign(t, "EdDSA", k.ed, "ed", claimsFor(nil))
	field, cookie := newJWT(t, JWTOptions{From: "X-Assertion"}), newJWT(t, JWTOptions{From: "cookie.session"})
	for _, tt := range []struct {
		name   string
		j      *JWT
		fields []string
		want   string
	}{
		{"field", field, []string{"x-assertion: " + token}, ""},
		{"field with a scheme", field, []string{"X-Assertion: bearer  " + token}, ""},
		{"another field", field, []string{withToken(token)}, missing},
		{"two fields", field, []string{"X-Assertion: " + token, "x-assertion: " + token}, "there is more than one token"},
		{"cookie", cookie, []string{"Cookie: a=b; session=" + token + "; c=d"}, ""},
		{"another cookie", cookie, []string{"Cookie: Session=" + token}, missing},
		{"two cookies", cookie, []string{"Cookie: session=x; session=" + token}, "there is more than one token"},
		{"cookies in two fields", cookie, []string{"Cookie: session=" + token, "Cookie: session=x"}, "there is more than one token"},
		{"no cookie", cookie, []string{withToken(token)}, missing},
	} {
		if got := says(t, tt.j, tt.fields...); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestJWTFaults(t *testing.T) {
	for field, want := range map[string]string{
		"Authorization": "brings the token", "Host": "is set by mpgate itself", "x-forwarded-for": "is set by mpgate itself", "X_User": "want letters, digits and -",
		"": "needs a name", "Transfer-Encoding": "frames the message", "X-Forwarded-Uri": "about the message",
	} {
		if _, err := NewJWT(JWTOptions{Claims: []Claim{{field, "sub"}}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", field, err, want)
		}
	}
}

// A token is verified once; until it ends, and while the keys stay as they are.
func TestRememberedTokens(t *testing.T) {
	k := testKeys()
	memory := NewMemory()
	j := newJWT(t, JWTOptions{Memory: memory, Claims: []Claim{{"X-User", "sub"}}})
	token := sign(t, "ES256", k.p256, "p256", claimsFor(nil))
	r := newRequest(t, withToken(token))
	if j.FilterRequest(r) {
		t.Fatal(r.Answer)
	}
	value := []byte("Bearer " + token)
	n := testing.AllocsPerRun(200, func() {
		r.Header.Reset()
		r.Header.Add(message.Authorization, value)
		if j.FilterRequest(r) {
			t.Fatal(r.Answer)
		}
	})
	if n != 0 && !raceEnabled { // with the race detector a sync.Pool loses things
		t.Errorf("%v allocations, want none", n)
	}
	// Another filter with the same memory expects something else of the same token.
	other := newJWT(t, JWTOptions{Memory: memory, Audience: []string{"another"}})
	if got := says(t, other, withToken(token)); got != errAudience.Error() {
		t.Errorf("another filter says %q", got)
	}
	// A key that was removed counts no more.
	rewrite(t, j.keys.file.path, keySetText(t, map[string]any{"rsa": k.rsa}))
	if err := j.keys.file.load(); err != nil {
		t.Fatal(err)
	}
	if got := says(t, j, withToken(token)); got != errUnknownKey.Error() {
		t.Errorf("with a key that was removed: %q", got)
	}
	// Its end counts though it is remembered.
	now := time.Now()
	c := memory.mac()
	s := c.of([]byte("x"))
	memory.put(c)
	memory.add(&remembered{sum: s, until: now.Add(time.Second)}, now)
	if memory.get(&s, now) == nil || memory.get(&s, now.Add(time.Second)) != nil {
		t.Error("the end does not count")
	}
}

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

func FuzzToken(f *testing.F) {
	k := testKeys()
	f.Add("a.b.c")
	f.Add(forged(`{"alg":"none"}`, "{}", nil))
	f.Add(forged(`{"alg":"ES256","kid":"p256","crit":["b64"],"b64":false}`, `{"exp":1e400}`, make([]byte, 64)))
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: "ES256", Key: k.p256}, nil)
	if err != nil {
		f.Fatal(err)
	}
	o, err := s.Sign([]byte(`{"exp":99999999999,"aud":["a"]}`))
	if err != nil {
		f.Fatal(err)
	}
	valid, err := o.CompactSerialize()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(valid)
	j := newJWT(f, JWTOptions{})
	f.Fuzz(func(t *testing.T, text string) {
		r := newRequest(t, withToken(text))
		if !j.FilterRequest(r) && text != valid && strings.TrimLeft(text, " ") != valid {
			t.Errorf("%q passes", text)
		}
	})
}

func FuzzClaims(f *testing.F) {
	for _, s := range []string{`{"exp":99999999999,"aud":["a"],"a":{"b":[1,"x"]}}`, `{"exp":"","nbf":{}}`, `{"exp":1e999}`, `{"a.b":"c"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		c, err := parseClaims(payload)
		if err != nil {
			return
		}
		_, _ = c.check(&expected{issuer: "i", audience: []string{"a"}}, time.Now())
		for _, name := range []string{"sub", "a.b", "a.b.c", "."} {
			if v, err := c.field(name); err == nil && !fieldValue(v) {
				t.Errorf("%q of %q is %q", name, payload, v)
			}
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AAAA"},{"kty":"EC","crv":"P-256"}]}`))
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parseKeys(text, false)
		if err != nil {
			return
		}
		for i := range s.keys {
			for _, alg := range Algorithms {
				if Symmetric(alg) && s.keys[i].fits(alg) {
					t.Errorf("a shared secret of %q", text)
				}
			}
		}
	})
}

func BenchmarkJWT(b *testing.B) {
	k := testKeys()
	j := newJWT(b, JWTOptions{})
	r := newRequest(b, withToken(sign(b, "ES256", k.p256, "p256", claimsFor(nil))))
	b.Run("remembered", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if j.FilterRequest(r) {
				b.Fatal(r.Answer)
			}
		}
	})
	b.Run("verified", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			j.id[0]++ // as if it were another filter
			if j.FilterRequest(r) {
				b.Fatal(r.Answer)
			}
		}
	})
}
