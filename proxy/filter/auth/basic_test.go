package auth

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net/netip"
	"os"
	"strings"
	"sync"
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
		if !h.matches([]byte(password)) || h.matches([]byte(password+"x")) {
			t.Errorf("%s does not match", text)
		}
	}
}

// Nobody can tell from the time whether a user exists.
func TestUnknownUsersTakeAsLong(t *testing.T) {
	b := newBasic(t, write(t, "users", "alice:"+bcryptOf(t, "secret", 9)+"\nbob:"+bcryptOf(t, "secret", 9)))
	least := func(user string) (d time.Duration) {
		for range 5 {
			r := newRequest(t, basic(user+":wrong"))
			start := time.Now()
			if !b.FilterRequest(r) || r.Answer.Status != 401 {
				t.Fatal(r.Answer)
			}
			if took := time.Since(start); d == 0 || took < d {
				d = took
			}
		}
		return d
	}
	known, unknown := least("alice"), least("carol")
	if known > 3*unknown || unknown > 3*known {
		t.Errorf("a known user takes %v, an unknown one %v", known, unknown)
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

// What was verified costs no hash, and no allocation. A new password in the file counts at once.
func TestRememberedUsers(t *testing.T) {
	path := write(t, "users", "alice:"+bcryptOf(t, "secret", 10))
	b := newBasic(t, path)
	r := newRequest(t, basic("alice:secret"))
	if b.FilterRequest(r) {
		t.Fatal(r.Answer)
	}
	start := time.Now()
	n := testing.AllocsPerRun(200, func() {
		if b.FilterRequest(r) {
			t.Fatal(r.Answer)
		}
	})
	if n != 0 && !raceEnabled { // with the race detector a sync.Pool loses things
		t.Errorf("%v allocations, want none", n)
	}
	if took := time.Since(start) / 200; took > time.Millisecond {
		t.Errorf("it takes %v", took)
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

// A changed file is read again; a bad one changes nothing.
func TestUsersFollowTheFile(t *testing.T) {
	one, two := bcryptOf(t, "one", 4), bcryptOf(t, "two", 4)
	path := write(t, "users", "alice:"+one)
	var log said
	meters := telemetry.NewInstruments("test").AuthSource(path)
	u, err := NewUsers(UsersOptions{Path: path, Queue: NewQueue(1), Memory: NewMemory(), Poll: time.Millisecond, Log: log.logger(), Meter: meters})
	if err != nil {
		t.Fatal(err)
	}
	running(t, u.Run)
	b := NewBasic(BasicOptions{Users: u})
	passes := func(password string) bool { return !b.FilterRequest(newRequest(t, basic("alice:"+password))) }
	if !passes("one") {
		t.Fatal("the file was not read")
	}
	rewrite(t, path, "alice:plain text")
	eventually(t, "the bad file is reported", func() bool { return strings.Contains(log.String(), "a password that is not hashed") })
	if !passes("one") {
		t.Error("a bad file has replaced the good one")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the missing file is reported", func() bool { return strings.Contains(log.String(), "no such file") })
	if !passes("one") {
		t.Error("a missing file has replaced the good one")
	}
	rewrite(t, path+".new", "alice:"+two)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new file is read", func() bool { return passes("two") })
	if passes("one") {
		t.Error("the old password still passes")
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 2 {
		t.Errorf("%d errors, want 2:\n%s", n, log.String())
	}
}

func TestUsersFaults(t *testing.T) {
	dir := t.TempDir()
	large := write(t, "large", strings.Repeat("#\n", maxUsersFile/2+1))
	for path, want := range map[string]string{
		dir:                  dir + ": not a regular file",
		dir + "/none":        dir + "/none: no such file",
		large:                "larger than 8 MiB",
		write(t, "e", "\n"):  "there is no user in it",
		write(t, "f", "a:b"): `/f: line 1: user "a": a password that is not hashed`,
	} {
		if err := CheckUsers(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

// slow is a hash that takes until it is let go.
type slow struct {
	begun, end chan struct{}
	n          int64
}

func (s slow) matches([]byte) bool {
	s.begun <- struct{}{}
	<-s.end
	return true
}

func (s slow) threads() int64 { return s.n }

// Requests with the same credentials compute one hash.
func TestSameCredentialsAreCheckedOnce(t *testing.T) {
	u := &Users{queue: NewQueue(1), memory: NewMemory(), flights: map[sum]*flight{}}
	h := slow{make(chan struct{}, 10), make(chan struct{}), 1}
	s := subject{user: &user{hash: h}, known: true}
	var wait sync.WaitGroup
	for range 10 {
		wait.Go(func() {
			if ok, err := u.verify(t.Context(), netip.Addr{}, &s, nil); !ok || err != nil {
				t.Error(ok, err)
			}
		})
	}
	<-h.begun
	close(h.end)
	wait.Wait()
	for len(h.begun) > 0 { // of those that came when the first had ended
		<-h.begun
	}
	if len(u.flights) > 0 {
		t.Error("flights are left")
	}
}

// A request whose check was begun for another client goes on when that one leaves.
func TestClientLeavesDuringACheck(t *testing.T) {
	u := &Users{queue: NewQueue(1), memory: NewMemory(), flights: map[sum]*flight{}}
	h := slow{make(chan struct{}, 10), make(chan struct{}), 1}
	blocker := subject{user: &user{hash: h}, known: true, sum: sum{1}}
	s := subject{user: &user{hash: h}, known: true, sum: sum{2}}
	var wait sync.WaitGroup
	wait.Go(func() { _, _ = u.verify(t.Context(), netip.Addr{}, &blocker, nil) })
	<-h.begun
	ctx, leave := context.WithCancel(t.Context())
	wait.Go(func() {
		if ok, err := u.verify(ctx, netip.Addr{}, &s, nil); ok || !errors.Is(err, context.Canceled) {
			t.Error(ok, err)
		}
	})
	flying := func() bool {
		u.mu.Lock()
		defer u.mu.Unlock()
		return u.flights[s.sum] != nil
	}
	eventually(t, "the check is under way", flying)
	wait.Go(func() {
		if ok, err := u.verify(t.Context(), netip.Addr{}, &s, nil); !ok || err != nil {
			t.Error(ok, err)
		}
	})
	leave()
	close(h.end)
	wait.Wait()
}

func TestQueue(t *testing.T) {
	q := NewQueue(2)
	var wait sync.WaitGroup
	begun, end := make(chan struct{}, 200), make(chan struct{})
	work := func() { begun <- struct{}{}; <-end }
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, byte(i / 256), byte(i)}) }
	run := func(client netip.Addr, threads int64) {
		wait.Go(func() {
			if err := q.run(t.Context(), client, threads, work); err != nil {
				t.Error(err)
			}
		})
	}
	run(at(1), 1)
	run(at(2), 1)
	<-begun
	<-begun
	waiting := func(n int) func() bool {
		return func() bool { q.mu.Lock(); defer q.mu.Unlock(); return q.waiting == n }
	}
	// One client has a part of the places only, and a network of IPv6 is one client.
	mine := netip.MustParsePrefix("2001:db8::/64")
	for i := range maxWaitingPerClient {
		a := mine.Addr().As16()
		a[15] = byte(i)
		run(netip.AddrFrom16(a), 1)
	}
	eventually(t, "all wait", waiting(2+maxWaitingPerClient))
	if err := q.run(t.Context(), netip.MustParseAddr("2001:db8::1:2:3"), 1, work); !errors.Is(err, errBusy) {
		t.Errorf("%v, want errBusy", err)
	}
	for i := range maxWaiting - maxWaitingPerClient {
		run(at(100+i), 16) // more than there are: it takes all
	}
	eventually(t, "the queue is full", waiting(2+maxWaiting))
	if err := q.run(t.Context(), at(9), 1, work); !errors.Is(err, errBusy) {
		t.Errorf("%v, want errBusy", err)
	}
	if n := len(begun); n != 0 {
		t.Errorf("%d more than 2 run", n)
	}
	close(end)
	wait.Wait()
	if q.waiting != 0 || len(q.clients) != 0 {
		t.Errorf("%d wait, of %d clients", q.waiting, len(q.clients))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.run(ctx, at(1), 1, work); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
}

// A request that gets no turn is answered with 503, and a request of somebody who is remembered is
// not hindered.
func TestBusy(t *testing.T) {
	b := newBasic(t, write(t, "users", "alice:"+bcryptOf(t, "secret", 4)))
	if r := newRequest(t, basic("alice:secret")); b.FilterRequest(r) {
		t.Fatal(r.Answer)
	}
	b.users.queue.waiting = maxWaiting + 1
	r := newRequest(t, basic("alice:wrong"))
	if !b.FilterRequest(r) || r.Answer.Status != 503 || r.Answer.End != telemetry.EndLimited {
		t.Errorf("%+v", r.Answer)
	}
	if r := newRequest(t, basic("alice:secret")); b.FilterRequest(r) {
		t.Error(r.Answer)
	}
}

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
