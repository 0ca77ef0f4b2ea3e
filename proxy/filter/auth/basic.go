package auth

import (
	"bytes"
	"context"
	"encoding/base64"
	"strings"

	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/telemetry"
)

// Basic admits users who send their name and password (RFC 7617). The field Authorization goes on
// to the server.
type Basic struct {
	users     *Users // nil: only explained
	path      string
	challenge []byte
	meter     *telemetry.AuthMeter
}

// BasicOptions describe a Basic.
type BasicOptions struct {
	Path  string // of the users, for explanations
	Users *Users // nil: the filter is only asked to explain
	Realm string // shown by browsers; without control characters
	Meter *telemetry.AuthMeter
}

// NewBasic makes a filter.
func NewBasic(o BasicOptions) *Basic {
	challenge := `Basic realm="` + quote.Replace(o.Realm) + `", charset="UTF-8"`
	return &Basic{users: o.Users, path: o.Path, challenge: []byte(challenge), meter: o.Meter}
}

// quote escapes what ends a quoted-string (RFC 9110 section 5.6.4).
var quote = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// Name implements filter.Filter.
func (*Basic) Name() string { return "basic_auth" }

// FilterRequest implements filter.RequestFilter.
func (b *Basic) FilterRequest(r *filter.Request) (done bool) {
	value, fault := credentials(&r.Header, "Basic")
	if fault != "" {
		return b.refuse(r, fault)
	}
	if r.Explain != nil {
		return b.explain(r, value)
	}
	m := b.users.memory
	c := m.mac()
	defer m.put(c)
	name, password, ok := decode(c, value)
	if !ok {
		return b.refuse(r, "the credentials are not valid")
	}
	s := b.users.find(c, name, password)
	if b.users.remembers(&s, r.Record.Time) {
		b.meter.Count(telemetry.AuthRemembered)
		return false
	}
	return b.check(r, s, password)
}

// check computes the hash, and ends the exchange unless the password is right.
func (b *Basic) check(r *filter.Request, s subject, password []byte) (done bool) {
	ctx, stop := watched(r)
	ok, err := b.users.verify(ctx, r.Record.Client, &s, password)
	gone := ctx.Err() != nil
	stop()
	switch {
	case gone:
		return r.End(filter.Answer{End: telemetry.EndClientGone})
	case err != nil:
		b.meter.Count(telemetry.AuthLimited)
		return r.End(filter.Answer{Status: 503, End: telemetry.EndLimited, Text: "too many passwords are being checked"})
	case !ok:
		return b.refuse(r, "the user or the password is wrong")
	}
	b.meter.Count(telemetry.AuthPassed)
	return false
}

// watched is the context of a request that ends when the client leaves.
func watched(r *filter.Request) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(r.Context)
	if r.Client == nil {
		return ctx, cancel
	}
	r.Client.WatchClient(cancel)
	return ctx, func() {
		r.Client.StopWatchClient()
		cancel()
	}
}

func (b *Basic) refuse(r *filter.Request, why string) bool {
	if r.Explain == nil {
		b.meter.Count(telemetry.AuthRefused)
	}
	r.Fields.Add(message.WWWAuthenticate, b.challenge)
	return r.End(filter.Answer{Status: 401, End: telemetry.EndUnauthorized, Text: why})
}

func (b *Basic) explain(r *filter.Request, value []byte) bool {
	var c mac
	name, _, ok := decode(&c, value)
	if !ok {
		return b.refuse(r, "the credentials are not valid")
	}
	r.Explain("basic_auth looks the password of " + string(name) + " up in " + b.path)
	return false
}

// Release gives back what the filter holds in the metrics.
func (b *Basic) Release() { b.meter.Release() }

// credentials returns what follows the scheme in the field Authorization, or what is wrong with it.
func credentials(h *message.Header, scheme string) (value []byte, fault string) {
	i := h.Index(message.Authorization, 0)
	if i < 0 {
		return nil, missing
	}
	if h.Index(message.Authorization, i+1) >= 0 {
		return nil, "there is more than one Authorization field"
	}
	_, _, value, _ = h.At(i)
	n := bytes.IndexByte(value, ' ')
	if n < 0 || !message.EqualFold(value[:n], scheme) {
		return nil, missing
	}
	return bytes.TrimLeft(value[n:], " "), ""
}

const missing = "credentials are required"

// decode splits user and password, which lie in c.plain.
func decode(c *mac, value []byte) (name, password []byte, ok bool) {
	n := base64.StdEncoding.DecodedLen(len(value))
	if n > maxCredentials+2 { // with padding
		return nil, nil, false
	}
	if cap(c.plain) < n {
		c.plain = make([]byte, maxCredentials+2)
	}
	c.plain = c.plain[:n]
	n, err := base64.StdEncoding.Decode(c.plain, value)
	if err != nil || n > maxCredentials || hasControl(c.plain[:n]) {
		return nil, nil, false
	}
	return bytes.Cut(c.plain[:n], colon)
}

var colon = []byte(":")
