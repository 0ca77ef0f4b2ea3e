package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"mpgate/proxy/backend"
	"mpgate/proxy/message"
	"mpgate/proxy/target"
	"mpgate/telemetry"
)

// Keys are the keys that tokens are verified with: of a file, or of a URL, where they are fetched
// in the background.
type Keys struct {
	file  file // of a URL: only log and meter
	fetch *KeyServer
	name  string
	set   atomic.Pointer[keySet] // nil: none were ever read
	wake  chan struct{}

	mu      sync.Mutex    // guards what follows
	started time.Time     // when the last attempt began
	running bool          // it is under way
	attempt chan struct{} // closed at the end of the next attempt to end
}

// KeysOptions describe Keys: of a file or of a server. Log, Meter and Poll may be zero.
type KeysOptions struct {
	Name   string // the file or the URL, for logs and metrics
	File   string
	Server *KeyServer
	Log    *slog.Logger
	Meter  *telemetry.AuthSourceMeter
	Poll   time.Duration // how often to look whether the file has changed, 1 s
}

// KeyServer is where keys are fetched. The durations have defaults.
type KeyServer struct {
	Backend *backend.Backend
	URL     target.URL
	Timeout time.Duration // of one attempt, 10 s
	Refresh time.Duration // between attempts, 10 min
	Retry   time.Duration // after a failed attempt, 5 s; then longer, up to 1 min
	// Unknown is the least time between attempts when tokens name unknown keys, 10 s.
	Unknown time.Duration
}

// NewKeys makes keys. Those of a file are read at once; its error then is that of the file. Those
// of a URL are fetched by Run.
func NewKeys(o KeysOptions) (*Keys, error) {
	k := &Keys{fetch: o.Server, name: o.Name, wake: make(chan struct{}, 1), attempt: make(chan struct{})}
	k.file = newFile(o.File, maxKeysFile, o.Poll, o.Log, o.Meter)
	if k.fetch != nil {
		s := *o.Server
		setDefault(&s.Timeout, 10*time.Second)
		setDefault(&s.Refresh, 10*time.Minute)
		setDefault(&s.Retry, 5*time.Second)
		setDefault(&s.Unknown, 10*time.Second)
		k.fetch = &s
		return k, nil
	}
	k.file.apply = func(data []byte) error { return k.use(data, true) }
	return k, k.file.load()
}

func setDefault(d *time.Duration, v time.Duration) {
	if *d == 0 {
		*d = v
	}
}

// CheckKeys reports why a file of keys cannot be used with the algorithms.
func CheckKeys(path string, algorithms []string) error {
	k, err := NewKeys(KeysOptions{File: path})
	if err != nil {
		return err
	}
	return k.Usable(algorithms)
}

// Usable reports an algorithm that no key fits, if keys are there.
func (k *Keys) Usable(algorithms []string) error {
	s := k.set.Load()
	if s == nil {
		return nil
	}
	for _, a := range algorithms {
		fits := false
		for i := range s.keys {
			fits = fits || s.keys[i].fits(a)
		}
		if !fits {
			return fmt.Errorf("%s: no key in it fits the algorithm %s", k.name, a)
		}
	}
	return nil
}

// use takes a new set, unless it says the same as the one that is there: what was verified by that
// stays remembered.
func (k *Keys) use(text []byte, secrets bool) error {
	if s := k.set.Load(); s != nil && bytes.Equal(s.text, text) {
		return nil
	}
	s, err := parseKeys(text, secrets)
	if err == nil {
		k.set.Store(s)
	}
	return err
}

// Run keeps the keys up to date until ctx ends.
func (k *Keys) Run(ctx context.Context) error {
	if k.fetch == nil {
		return k.file.follow(ctx)
	}
	pause := k.fetch.Retry
	failing := false
	for ctx.Err() == nil {
		k.begin()
		err := k.refresh(ctx)
		k.end()
		if ctx.Err() != nil {
			break
		}
		k.file.meter.Read(time.Now(), err)
		wait := k.fetch.Refresh
		switch {
		case err != nil:
			wait = pause
			pause = min(2*pause, max(time.Minute, k.fetch.Retry))
			k.logFailure(err, failing)
		case failing:
			k.file.log.Info("keys fetched again", "url", k.name)
			fallthrough
		default:
			pause = k.fetch.Retry
		}
		failing = err != nil
		k.rest(ctx, wait)
	}
	return nil
}

func (k *Keys) logFailure(err error, again bool) {
	text := "keys cannot be fetched; the last ones remain in use"
	if k.set.Load() == nil {
		text = "keys cannot be fetched; requests with tokens are refused"
	}
	if again {
		k.file.log.Debug(text, "url", k.name, "err", err)
		return
	}
	k.file.log.Error(text, "url", k.name, "err", err)
}

// rest waits until the next attempt is due: after that time, or when somebody wants it.
func (k *Keys) rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-k.wake:
	case <-ctx.Done():
	}
}

func (k *Keys) begin() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.started, k.running = time.Now(), true
	select { // who asked until now gets this attempt
	case <-k.wake:
	default:
	}
}

// end lets those go on who wait for the attempt.
func (k *Keys) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running = false
	close(k.attempt)
	k.attempt = make(chan struct{})
}

// refresh fetches the keys.
func (k *Keys) refresh(ctx context.Context) error {
	var a backend.Ask
	get(&a.Request, &k.fetch.URL)
	a.Request.Header.AddString(message.Accept, "application/jwk-set+json, application/json")
	a.Timeout, a.MaxBody = k.fetch.Timeout, maxKeysFile
	if err := k.fetch.Backend.Ask(ctx, &a); err != nil {
		return err
	}
	if a.Response.Status != 200 {
		return fmt.Errorf("the server answered with status %d; want 200", a.Response.Status)
	}
	if a.Response.Header.Has(message.ContentEncoding) {
		return errors.New("the server compressed the answer, which was not asked for")
	}
	return k.use(bytes.Clone(a.Body), false)
}

// maxKeyWait bounds the wait of a request for keys.
const maxKeyWait = 3 * time.Second

// newer waits for an attempt that begins, or is under way, after the keys in old were read, and
// returns the keys then. If the last attempt was a moment ago it returns at once.
func (k *Keys) newer(ctx context.Context, old *keySet) *keySet {
	if k.fetch == nil {
		return k.set.Load()
	}
	wait := k.ask(old)
	if wait == nil {
		return k.set.Load()
	}
	timer := time.NewTimer(maxKeyWait)
	defer timer.Stop()
	select {
	case <-wait:
	case <-timer.C:
	case <-ctx.Done():
	}
	return k.set.Load()
}

// ask asks for an attempt, and returns what is closed at its end; nil: there will be none.
func (k *Keys) ask(old *keySet) <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.set.Load() != old:
		return nil
	case k.running:
		return k.attempt
	case !k.started.IsZero() && time.Since(k.started) < k.fetch.Unknown:
		return nil
	}
	select {
	case k.wake <- struct{}{}:
	default:
	}
	return k.attempt
}
