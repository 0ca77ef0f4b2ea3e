package auth

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"mpgate/proxy/filter"
	"mpgate/proxy/message"
	"mpgate/telemetry"
)

// JWT admits requests with a valid JSON Web Token. Only the filter sets the header fields of its
// claims: those of clients are removed.
type JWT struct {
	keys       *Keys // nil: only explained
	source     string
	algorithms []jose.SignatureAlgorithm
	expected   expected
	header     []byte // the field with the token; nil: a cookie
	cookie     string
	fields     fields
	claims     []string // by field
	memory     *Memory
	id         []byte
	meter      *telemetry.AuthMeter
}

// JWTOptions describe a JWT.
type JWTOptions struct {
	Source string // of the keys, for explanations
	Keys   *Keys  // nil: the filter is only asked to explain
	Memory *Memory
	// Algorithms are those that are allowed; empty: all that use public keys.
	Algorithms []string
	Issuer     string   // "": any
	Audience   []string // one of them must be in the token; empty: any
	From       string   // a header field, or "cookie.NAME"; "": Authorization
	Claims     []Claim
	Meter      *telemetry.AuthMeter
}

// Claim is a claim that becomes a header field. Name may lead into objects, as "realm.roles".
type Claim struct{ Field, Name string }

// NewJWT makes a filter.
func NewJWT(o JWTOptions) (*JWT, error) {
	j := &JWT{
		keys: o.Keys, source: o.Source, expected: expected{o.Issuer, o.Audience}, memory: o.Memory, meter: o.Meter,
		header: []byte("Authorization"),
	}
	if name, ok := strings.CutPrefix(o.From, "cookie."); ok {
		j.header, j.cookie = nil, name
	} else if o.From != "" {
		j.header = []byte(o.From)
	}
	for _, a := range Algorithms {
		if slices.Contains(o.Algorithms, a) || len(o.Algorithms) == 0 && !Symmetric(a) {
			j.algorithms = append(j.algorithms, jose.SignatureAlgorithm(a))
		}
	}
	var names []string
	for _, c := range o.Claims {
		names = append(names, c.Field)
		j.claims = append(j.claims, c.Name)
	}
	var err error
	if j.fields, err = newFields(names); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(j.fields, func(f []byte) bool { return alike(f, j.header) }) {
		return nil, fmt.Errorf("the header field %s brings the token, and cannot be set by a claim too", j.header)
	}
	if j.memory != nil {
		j.id = j.memory.filterID()
	}
	return j, nil
}

// Name implements filter.Filter.
func (*JWT) Name() string { return "jwt" }

// FilterTrailer implements filter.TrailerFilter.
func (j *JWT) FilterTrailer(trailer *message.Header) { j.fields.strip(trailer) }

// FilterRequest implements filter.RequestFilter.
func (j *JWT) FilterRequest(r *filter.Request) (done bool) {
	j.fields.strip(&r.Header)
	text, fault := j.find(&r.Header)
	if fault != "" {
		return j.refuse(r, fault)
	}
	if r.Explain != nil {
		return j.explain(r, text)
	}
	now := time.Now()
	c := j.memory.mac()
	s := c.of(validToken, j.id, text)
	j.memory.put(c)
	if m := j.memory.get(&s, now); m != nil {
		if v := m.value.(*validated); v.by == j.keys.set.Load() {
			j.meter.Count(telemetry.AuthRemembered)
			j.set(&r.Header, v)
			return false
		}
	}
	return j.check(r, text, s, now)
}

// validated is a valid token.
type validated struct {
	by     *keySet  // that it was verified with
	values [][]byte // by field; nil: it is not set
}

func (j *JWT) set(h *message.Header, v *validated) {
	for i, value := range v.values {
		if value != nil {
			h.AddName(j.fields[i], value)
		}
	}
}

// check verifies a token that is not remembered.
func (j *JWT) check(r *filter.Request, text []byte, s sum, now time.Time) (done bool) {
	v, until, err := j.validate(r, text, now)
	switch {
	case errors.Is(err, errNoKeys):
		j.meter.Count(telemetry.AuthFailed)
		return r.End(filter.Answer{Status: 503, End: telemetry.EndBackendConnect, Text: errNoKeys.Error()})
	case errors.Is(err, errGone):
		return r.End(filter.Answer{End: telemetry.EndClientGone})
	case err != nil:
		return j.refuse(r, err.Error())
	}
	size := 0
	for _, value := range v.values {
		size += len(value)
	}
	if size <= maxRemembered {
		j.memory.add(&remembered{sum: s, until: until, value: v}, now)
	}
	j.meter.Count(telemetry.AuthPassed)
	j.set(&r.Header, v)
	return false
}

var (
	errNoKeys = errors.New("the keys for tokens are not available")
	errGone   = errors.New("the client has left")
)

func (j *JWT) validate(r *filter.Request, text []byte, now time.Time) (v *validated, until time.Time, err error) {
	t, err := parseToken(text, j.algorithms)
	if err != nil {
		return nil, until, err
	}
	set, keys, err := j.keysFor(r, &t)
	if err != nil {
		return nil, until, err
	}
	payload, err := t.verify(keys)
	if err != nil {
		return nil, until, err
	}
	c, err := parseClaims(payload)
	if err != nil {
		return nil, until, err
	}
	if until, err = c.check(&j.expected, now); err != nil {
		return nil, until, err
	}
	v = &validated{by: set}
	for _, name := range j.claims {
		value, err := c.field(name)
		if err != nil {
			return nil, until, err
		}
		v.values = append(v.values, value)
	}
	return v, until, nil
}

// keysFor finds the keys of a token, and has newer ones fetched if none is known.
func (j *JWT) keysFor(r *filter.Request, t *token) (set *keySet, keys []*verifyKey, err error) {
	set = j.keys.set.Load()
	known := false
	if set != nil {
		keys, known = set.find(t.id, t.alg)
	}
	if !known {
		ctx, stop := watched(r)
		set = j.keys.newer(ctx, set)
		gone := ctx.Err() != nil
		stop()
		switch {
		case gone:
			return nil, nil, errGone
		case set == nil:
			return nil, nil, errNoKeys
		}
		keys, _ = set.find(t.id, t.alg)
	}
	if len(keys) == 0 {
		return nil, nil, errUnknownKey
	}
	return set, keys, nil
}

// find returns the token of a request, or what is wrong with it.
func (j *JWT) find(h *message.Header) (text []byte, fault string) {
	switch {
	case j.header == nil:
		text, fault = onlyCookie(h, j.cookie)
	case message.Lookup(j.header) == message.Authorization:
		text, fault = credentials(h, "Bearer")
	default:
		text, fault = onlyField(h, j.header)
		if n := len("Bearer "); len(text) > n && message.EqualFold(text[:n], bearer) {
			text = bytes.TrimLeft(text[n:], " ")
		}
	}
	if fault == "" && len(text) == 0 {
		fault = missing
	}
	return text, fault
}

func onlyField(h *message.Header, name []byte) (value []byte, fault string) {
	id, n := message.Lookup(name), 0
	for i := range h.Len() {
		if is, field, v, ok := h.At(i); ok && is == id && message.EqualFold(field, name) {
			value = v
			n++
		}
	}
	if n > 1 {
		return nil, "there is more than one token"
	}
	return value, ""
}

func onlyCookie(h *message.Header, name string) (value []byte, fault string) {
	n := 0
	for i := h.Index(message.Cookie, 0); i >= 0; i = h.Index(message.Cookie, i+1) {
		_, _, rest, _ := h.At(i)
		for len(rest) > 0 {
			var pair []byte
			pair, rest, _ = bytes.Cut(rest, semicolon)
			if key, _, ok := bytes.Cut(pair, equals); ok && string(bytes.Trim(key, " \t")) == name {
				n++
			}
		}
	}
	if n > 1 {
		return nil, "there is more than one token"
	}
	return h.Cookie(name), ""
}

var semicolon, equals, bearer = []byte(";"), []byte("="), []byte("Bearer ")

// refuse answers as RFC 6750 section 3 says: a request without a token is not told of an error.
func (j *JWT) refuse(r *filter.Request, why string) bool {
	if r.Explain == nil {
		j.meter.Count(telemetry.AuthRefused)
	}
	challenge := "Bearer"
	if why != missing {
		challenge = `Bearer error="invalid_token", error_description="` + why + `"`
	}
	r.Fields.AddString(message.WWWAuthenticate, challenge)
	return r.End(filter.Answer{Status: 401, End: telemetry.EndUnauthorized, Text: why})
}

func (j *JWT) explain(r *filter.Request, text []byte) bool {
	if _, err := parseToken(text, j.algorithms); err != nil {
		return j.refuse(r, err.Error())
	}
	note := "jwt verifies the token with the keys of " + j.source
	for i, f := range j.fields {
		note += "; " + string(f) + " is set to the claim " + j.claims[i]
	}
	r.Explain(note)
	return false
}

// Release gives back what the filter holds in the metrics.
func (j *JWT) Release() { j.meter.Release() }
