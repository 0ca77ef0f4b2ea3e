package auth

import (
	"encoding/base64"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mpgate/proxy/message"
	"mpgate/telemetry"
)

// newBasic is a filter for the users of a file.
func newBasic(t testing.TB, path string) *Basic {
	t.Helper()
	u, err := NewUsers(UsersOptions{Path: path, Queue: NewQueue(1), Memory: NewMemory(), Poll: 2 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return NewBasic(BasicOptions{Path: path, Users: u, Realm: `a "realm"\`})
}

func TestBasic(t *testing.T) {
	long := strings.Repeat("x", 100)
	b := newBasic(t, write(t, "users", "alice:"+bcryptOf(t, "secret", 4)+"\nbob:"+HashPassword([]byte("a:b:ü"))+
		"\nempty:"+bcryptOf(t, "", 4)+"\nlong:"+HashPassword([]byte(long))))
	const (
		ok      = ""
		none    = "credentials are required"
		invalid = "the credentials are not valid"
		wrong   = "the user or the password is wrong"
	)
	encode := base64.StdEncoding.EncodeToString
	for _, tt := range []struct {
		name   string
		fields []string
		want   string
	}{
		{"right", []string{basic("alice:secret")}, ok},
		{"right, remembered", []string{basic("alice:secret")}, ok},
		{"colons and UTF-8", []string{basic("bob:a:b:ü")}, ok},
		{"scheme in another case", []string{"authorization: bASIC   " + encode([]byte("alice:secret"))}, ok},
		{"empty password", []string{basic("empty:")}, ok},
		{"long password", []string{basic("long:" + long)}, ok},
		{"long password, cut", []string{basic("long:" + long[1:])}, wrong},
		{"wrong password", []string{basic("alice:Secret")}, wrong},
		{"another's password", []string{basic("bob:secret")}, wrong},
		{"unknown user", []string{basic("carol:secret")}, wrong},
		{"unknown user with a known password", []string{basic("Alice:secret")}, wrong},
		{"no user", []string{basic(":secret")}, wrong},
		{"nothing", nil, none},
		{"another scheme", []string{"Authorization: Bearer abc"}, none},
		{"another scheme that begins so", []string{"Authorization: Basics " + encode([]byte("alice:secret"))}, none},
		{"no credentials", []string{"Authorization: Basic"}, none},
		{"empty credentials", []string{"Authorization: Basic "}, invalid},
		{"no base64", []string{"Authorization: Basic alice:secret"}, invalid},
		{"no padding", []string{"Authorization: Basic " + strings.TrimRight(encode([]byte("alice:secre")), "=")}, invalid},
		{"no colon", []string{basic("alice")}, invalid},
		{"NUL", []string{basic("alice:secret\x00")}, invalid},
		{"line break", []string{basic("alice\n:secret")}, invalid},
		{"too long", []string{basic("alice:" + strings.Repeat("x", maxCredentials))}, invalid},
		{"twice", []string{basic("alice:secret"), basic("alice:secret")}, "there is more than one Authorization field"},
		{"with another", []string{"Authorization: Bearer abc", basic("alice:secret")}, "there is more than one Authorization field"},
		{"another name", []string{"Proxy-" + basic("alice:secret")}, none},
	} {
		r := newRequest(t, tt.fields...)
		done := b.FilterRequest(r)
		if done != (tt.want != ok) || r.Answer.Text != tt.want {
			t.Errorf("%s: %v %+v, want %q", tt.name, done, r.Answer, tt.want)
		}
		challenge := fieldsOf(&r.Fields, "WWW-Authenticate")
		switch {
		case !done && challenge != "":
			t.Errorf("%s: a challenge in spite of it: %s", tt.name, challenge)
		case done && (r.Answer.Status != 401 || r.Answer.End != telemetry.EndUnauthorized):
			t.Errorf("%s: %+v", tt.name, r.Answer)
		case done && challenge != `Basic realm="a \"realm\"\\", charset="UTF-8"`:
			t.Errorf("%s: the challenge is %s", tt.name, challenge)
		case !done && !r.Header.Has(message.Authorization):
			t.Errorf("%s: the server does not get the field", tt.name)
		}
	}
}

// What other programs have hashed is understood.
func TestHashesOfOthers(t *testing.T) {
	for _, text := range []string{
		// U*U, of the tests of crypt_blowfish
		"$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
		// password, of the tests of the reference implementation
		"$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
	} {
		h, err := parseHash(text)
		if err != nil {
			t.Error(err)
			continue
		}
		password := map[byte]string{'2': "U*U", 'a': "password"}[text[1]]
		if !h.matches([]byte(password), 1) || h.matches([]byte(password+"x"), 1) {
			t.Errorf("%s does not match", text)
		}
	}
}

// counted is a hash that counts how often it is computed.
type counted struct {
	passwordHash
	n *atomic.Int64
}

func (c counted) matches(password []byte, threads int64) bool {
	c.n.Add(1)
	return c.passwordHash.matches(password, threads)
}

// count makes the hashes of the users count.
func count(u *Users) (n *atomic.Int64) {
	n = new(atomic.Int64)
	for _, one := range u.table.Load().list {
		one.hash = counted{one.hash, n}
	}
	return n
}

// Time does not tell whether a user exists: in both cases one hash of the file is computed.
func TestUnknownUsersTakeAsLong(t *testing.T) {
	b := newBasic(t, write(t, "users", "alice:"+bcryptOf(t, "secret", 4)+"\nbob:"+bcryptOf(t, "secret", 4)))
	n := count(b.users)
	for i, user := range []string{"alice", "carol", "", "bob"} {
		r := newRequest(t, basic(user+":wrong"))
		if !b.FilterRequest(r) || r.Answer.Status != 401 {
			t.Fatal(r.Answer)
		}
		if n.Load() != int64(i+1) {
			t.Errorf("%q: %d hashes in all, want %d", user, n.Load(), i+1)
		}
	}
}

// The user by whose hash an unknown one is checked stays the same, and is of the same file.
func TestUnknownUsersAreSpread(t *testing.T) {
	hash := bcryptOf(t, "secret", 4)
	u := newBasic(t, write(t, "users", "a:"+hash+"\nb:"+hash+"\nc:"+hash)).users
	seen := map[*user]bool{}
	for i := range 100 {
		var c [2]*user
		for j := range c {
			m := u.memory.mac()
			s := u.find(m, []byte{'x', byte('0' + i)}, []byte("p"))
			u.memory.put(m)
			c[j] = s.user
			if s.known {
				t.Fatal("known")
			}
		}
		if c[0] != c[1] {
			t.Fatal("it changes")
		}
		seen[c[0]] = true
	}
	if len(seen) != 3 {
		t.Errorf("%d of 3 users stand in for unknown ones", len(seen))
	}
}

// slow is a hash that takes until it is let go.
type slow struct {
	begun, end chan struct{}
	n          int64
}

func (s slow) matches([]byte, int64) bool {
	s.begun <- struct{}{}
	<-s.end
	return true
}

func (s slow) threads(int64) int64 { return s.n }

func TestBasicExplains(t *testing.T) {
	b := NewBasic(BasicOptions{Path: "/etc/users"})
	var notes []string
	for _, f := range []string{basic("alice:secret"), basic("alice")} {
		r := newRequest(t, f)
		r.Explain = func(note string) { notes = append(notes, note) }
		if done := b.FilterRequest(r); done != (f == basic("alice")) {
			t.Error(f, r.Answer)
		}
	}
	if len(notes) != 1 || notes[0] != "basic_auth looks the password of alice up in /etc/users" {
		t.Errorf("%q", notes)
	}
}

func BenchmarkBasicRemembered(b *testing.B) {
	f := newBasic(b, write(b, "users", "alice:"+bcryptOf(b, "secret", 4)))
	r := newRequest(b, basic("alice:secret"))
	if f.FilterRequest(r) {
		b.Fatal(r.Answer)
	}
	b.ReportAllocs()
	for b.Loop() {
		f.FilterRequest(r)
	}
}
