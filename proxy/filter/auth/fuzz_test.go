package auth

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

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

func FuzzCredentials(f *testing.F) {
	for _, s := range []string{"Basic YTpi", "basic  YTpi", "Basic", "Basic =", "Bearer x", "Basic YQ=="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		r := newRequest(t, "Authorization: "+value)
		got, fault := credentials(&r.Header, "Basic")
		if fault != "" {
			return
		}
		var c mac
		name, password, ok := decode(&c, got)
		if ok && (len(name)+len(password) >= maxCredentials || hasControl(name) || hasControl(password) || bytes.Contains(name, colon)) {
			t.Errorf("%q is %q and %q", value, name, password)
		}
	})
}

func FuzzParseUsers(f *testing.F) {
	for _, s := range []string{"a:" + bcryptSecret, "a:" + argonSecret, "a:b:c\n#\n\n", "a:$argon2id$v=19$m=,t=,p=$$", ":"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		table, err := parseUsers(data)
		if err != nil {
			return
		}
		if len(table.list) == 0 || len(table.list) != len(table.byName) {
			t.Errorf("%d users, %d names", len(table.list), len(table.byName))
		}
		for _, u := range table.list {
			if a, ok := u.hash.(*argon2idHash); ok && (a.memory > maxArgon2Memory || a.memory*a.passes > maxArgon2Work) {
				t.Errorf("unbounded: %+v", a)
			}
		}
	})
}
