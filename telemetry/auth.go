package telemetry

import (
	"sync/atomic"
	"time"
)

// AuthResult is what a filter that authenticates requests decided.
type AuthResult uint8

const (
	AuthPassed     AuthResult = iota // checked, and passed
	AuthRemembered                   // passed by an earlier check
	AuthRefused                      // without credentials, or with wrong ones
	AuthLimited                      // not checked: too many others were being checked
	AuthFailed                       // not checked: keys or the authentication server were missing
	authCount
)

var authNames = [authCount]string{"passed", "remembered", "refused", "limited", "failed"}

type authKey struct{ route, filter string }

// AuthMeter counts the decisions of a filter of a route.
type AuthMeter struct {
	in      *Instruments
	key     authKey
	results [authCount]atomic.Uint64
}

// Auth returns the meter of a filter of a route, like Exchange.
func (in *Instruments) Auth(route, filter string) *AuthMeter {
	if in == nil {
		return nil
	}
	k := authKey{route, filter}
	return in.auths.take(k, func() *AuthMeter { return &AuthMeter{in: in, key: k} })
}

// Count counts a decision.
func (m *AuthMeter) Count(r AuthResult) {
	if m != nil && r < authCount {
		m.results[r].Add(1)
	}
}

// Release gives the handle back; see Instruments.Auth.
func (m *AuthMeter) Release() {
	if m != nil {
		m.in.auths.release(m.key, m)
	}
}

func (m *AuthMeter) keep() bool {
	for i := range m.results {
		if m.results[i].Load() > 0 {
			return true
		}
	}
	return false
}

func (m *AuthMeter) collect(s sink) {
	for i := range m.results {
		if n := m.results[i].Load(); n > 0 {
			s.counter(descAuth, n, m.key.route, m.key.filter, authNames[i])
		}
	}
}

// AuthSourceMeter says when users or keys were last read. A source is named by its file or URL.
type AuthSourceMeter struct {
	in     *Instruments
	name   string
	readAt atomic.Int64 // Unix time in ns of the last success; 0: none
	failed atomic.Bool
}

// AuthSource returns the meter of a source, like Exchange.
func (in *Instruments) AuthSource(name string) *AuthSourceMeter {
	if in == nil {
		return nil
	}
	return in.authSources.take(name, func() *AuthSourceMeter { return &AuthSourceMeter{in: in, name: name} })
}

// Read notes the outcome of an attempt to read the source.
func (m *AuthSourceMeter) Read(now time.Time, err error) {
	if m == nil {
		return
	}
	m.failed.Store(err != nil)
	if err == nil {
		m.readAt.Store(now.UnixNano())
	}
}

// Release gives the handle back; see Instruments.AuthSource.
func (m *AuthSourceMeter) Release() {
	if m != nil {
		m.in.authSources.release(m.name, m)
	}
}

func (m *AuthSourceMeter) keep() bool { return false }

func (m *AuthSourceMeter) collect(s sink) {
	at := m.readAt.Load()
	if at > 0 {
		s.gauge(descAuthSourceTime, float64(at)/1e9, m.name)
	}
	if at > 0 || m.failed.Load() {
		s.gauge(descAuthSourceOK, boolValue(!m.failed.Load()), m.name)
	}
}
