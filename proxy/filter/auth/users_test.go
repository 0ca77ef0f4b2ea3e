package auth

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"mpgate/telemetry"
)

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
