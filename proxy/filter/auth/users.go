package auth

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"mpgate/telemetry"
)

// Users are the users of an htpasswd file.
type Users struct {
	file   file
	queue  *Queue
	memory *Memory
	table  atomic.Pointer[userTable]

	mu      sync.Mutex // guards flights
	flights map[sum]*flight
}

// UsersOptions describe Users. Only Log, Meter and Poll may be zero.
type UsersOptions struct {
	Path   string
	Queue  *Queue
	Memory *Memory
	Log    *slog.Logger // nil: none
	Meter  *telemetry.AuthSourceMeter
	Poll   time.Duration // how often to look whether the file has changed, 1 s
}

// NewUsers reads an htpasswd file. Its error names the file, and the line of each fault.
func NewUsers(o UsersOptions) (*Users, error) {
	u := &Users{queue: o.Queue, memory: o.Memory, flights: map[sum]*flight{}}
	u.file = newFile(o.Path, maxUsersFile, o.Poll, o.Log, o.Meter)
	u.file.apply = func(data []byte) error {
		t, err := parseUsers(data)
		if err == nil {
			u.table.Store(t)
		}
		return err
	}
	return u, u.file.load()
}

func newFile(path string, most int64, poll time.Duration, log *slog.Logger, meter *telemetry.AuthSourceMeter) file {
	if poll == 0 {
		poll = time.Second
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return file{path: path, most: most, poll: poll, log: log, meter: meter}
}

// CheckUsers reports why an htpasswd file cannot be used.
func CheckUsers(path string) error {
	_, err := NewUsers(UsersOptions{Path: path})
	return err
}

// Run follows the file until ctx ends.
func (u *Users) Run(ctx context.Context) error { return u.file.follow(ctx) }

// subject is whose password is checked.
type subject struct {
	*user
	known bool
	sum   sum // of the name, the hash and the password
}

// What a sum is about.
var (
	unknownUser   = []byte("unknown user")
	rightPassword = []byte("password")
	validToken    = []byte("token")
)

// find looks a user up. For an unknown one it returns a user of the file, always the same for the
// same name: the check takes the time that it takes for known users.
func (u *Users) find(c *mac, name, password []byte) (s subject) {
	t := u.table.Load()
	if s.user, s.known = t.byName[string(name)]; !s.known {
		h := c.of(unknownUser, name)
		s.user = t.list[binary.LittleEndian.Uint64(h[:])%uint64(len(t.list))]
	}
	s.sum = c.of(rightPassword, name, s.text, password)
	return s
}

// remembers reports whether the password was found to be right before.
func (u *Users) remembers(s *subject, now time.Time) bool {
	return s.known && u.memory.get(&s.sum, now) != nil
}

// flight is a check under way, for all requests with the same credentials.
type flight struct {
	done chan struct{}
	ok   bool
	err  error
}

// verify computes the hash, which takes long. Its error is errBusy, or that of ctx.
func (u *Users) verify(ctx context.Context, client netip.Addr, s *subject, password []byte) (ok bool, err error) {
	for {
		f, first := u.join(s.sum)
		if first {
			u.fly(ctx, f, client, s, password)
			return f.ok, f.err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return false, ctx.Err()
		}
		if f.err == nil || errors.Is(f.err, errBusy) {
			return f.ok, f.err
		}
		// The client that it was for has left.
	}
}

func (u *Users) join(s sum) (f *flight, first bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if f = u.flights[s]; f == nil {
		f, first = &flight{done: make(chan struct{}), err: errBusy}, true // should it panic
		u.flights[s] = f
	}
	return f, first
}

func (u *Users) fly(ctx context.Context, f *flight, client netip.Addr, s *subject, password []byte) {
	defer func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.flights, s.sum)
		close(f.done)
	}()
	var ok bool
	err := u.queue.run(ctx, client, s.hash.threads(u.queue.size), func() { ok = s.hash.matches(password, u.queue.size) })
	f.ok, f.err = ok && s.known, err
	if f.ok && f.err == nil {
		u.memory.add(&remembered{sum: s.sum}, time.Now())
	}
}
