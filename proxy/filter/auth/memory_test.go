package auth

import (
	"bytes"
	"encoding/base64"
	"testing"
	"time"
)

func TestMemory(t *testing.T) {
	m := NewMemory()
	now := time.Now()
	c := m.mac()
	defer m.put(c)
	ab, a, other := c.of([]byte("a"), []byte("b")), c.of([]byte("ab")), NewMemory().mac().of([]byte("ab"))
	if ab == a || a == other {
		t.Error("sums do not differ")
	}
	m.add(&remembered{sum: a, until: now.Add(time.Minute), value: "x"}, now)
	if r := m.get(&a, now); r == nil || r.value != "x" {
		t.Error("it is forgotten")
	}
	if m.get(&ab, now) != nil || m.get(&a, now.Add(time.Minute)) != nil || m.get(&a, now) != nil {
		t.Error("it remembers what is not valid")
	}
	// It is bounded, also in one set.
	for i := range 100 {
		s := a
		s[31] = byte(i)
		m.add(&remembered{sum: s}, now)
	}
	held := 0
	for i := range m.sets {
		for j := range m.sets[i] {
			if m.sets[i][j].Load() != nil {
				held++
			}
		}
	}
	if held != ways {
		t.Errorf("%d entries in a set, want %d", held, ways)
	}
}

// What was verified costs no hash, and no allocation. A new password in the file counts at once.
func TestRememberedUsers(t *testing.T) {
	path := write(t, "users", "alice:"+bcryptOf(t, "secret", 10))
	b := newBasic(t, path)
	r := newRequest(t, basic("alice:secret"))
	if b.FilterRequest(r) {
		t.Fatal(r.Answer)
	}
	hashes := count(b.users)
	n := testing.AllocsPerRun(200, func() {
		if b.FilterRequest(r) {
			t.Fatal(r.Answer)
		}
	})
	if n != 0 && !raceEnabled { // with the race detector a sync.Pool loses things
		t.Errorf("%v allocations, want none", n)
	}
	if hashes.Load() != 0 {
		t.Errorf("%d hashes were computed, want none", hashes.Load())
	}
	rewrite(t, path, "alice:"+bcryptOf(t, "new", 4))
	if err := b.users.file.load(); err != nil {
		t.Fatal(err)
	}
	if !b.FilterRequest(r) {
		t.Error("the old password still passes")
	}
	r = newRequest(t, basic("alice:new"))
	if b.FilterRequest(r) {
		t.Error("the new password does not pass")
	}
	rewrite(t, path, "bob:"+bcryptOf(t, "new", 4))
	if err := b.users.file.load(); err != nil {
		t.Fatal(err)
	}
	if !b.FilterRequest(newRequest(t, basic("alice:new"))) {
		t.Error("a user who was removed still passes")
	}
}

// No plain credentials stay in what is used again.
func TestCredentialsAreCleared(t *testing.T) {
	m := NewMemory()
	c := m.mac()
	if _, _, ok := decode(c, []byte(base64.StdEncoding.EncodeToString([]byte("alice:secret")))); !ok {
		t.Fatal("not decoded")
	}
	m.put(c)
	if bytes.Contains(c.plain[:cap(c.plain)], []byte("secret")) {
		t.Error("the password is still there")
	}
}
