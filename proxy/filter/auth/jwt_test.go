package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

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
