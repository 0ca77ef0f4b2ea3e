package gateway

import (
	"cmp"
	"context"
	"net"
	"slices"
	"strconv"
	"time"

	"mpgate/config"
	"mpgate/mptcp"
	"mpgate/proxy/filter"
	"mpgate/proxy/filter/auth"
	"mpgate/proxy/target"
	"mpgate/telemetry"
)

// authSource is users or keys, and the task that keeps them up to date. Routes share it, and it is
// kept by a reload.
type authSource struct {
	users *auth.Users
	keys  *auth.Keys
	pool  *pool // that keys are fetched by
	meter *telemetry.AuthSourceMeter
	task  *running
}

func (s *authSource) run(ctx context.Context) error {
	if s.users != nil {
		return s.users.Run(ctx)
	}
	return s.keys.Run(ctx)
}

// source returns the source of that kind and name: that of this generation, or of the old one, or a
// new one.
func (b *builder) source(kind, name string, p *pool, create func(*telemetry.AuthSourceMeter) (*authSource, error)) (*authSource, error) {
	key := kind + " " + name
	if s := b.sources[key]; s != nil {
		return s, nil
	}
	if b.old != nil {
		if s := b.old.sources[key]; s != nil && s.pool == p {
			b.sources[key] = s
			return s, nil
		}
	}
	meter := b.gateway.metrics.AuthSource(name)
	s, err := create(meter)
	if err != nil {
		meter.Release()
		return nil, err
	}
	s.pool, s.meter = p, meter
	b.sources[key] = s
	return s, nil
}

// meter counts for a filter of a route, until the generation ends.
func (b *builder) meter(r *config.Route, name string) *telemetry.AuthMeter {
	if b.gateway == nil {
		return nil
	}
	m := b.gateway.metrics.Auth(r.Name, name)
	b.meters = append(b.meters, m)
	return m
}

func newBasicAuth(b *builder, r *config.Route) (filter.Filter, error) {
	c := r.BasicAuth
	if c == nil {
		return nil, nil
	}
	o := auth.BasicOptions{Path: c.Users, Realm: c.Realm, Meter: b.meter(r, "basic_auth")}
	if g := b.gateway; g != nil {
		s, err := b.source("users", c.Users, nil, func(m *telemetry.AuthSourceMeter) (*authSource, error) {
			u, err := auth.NewUsers(auth.UsersOptions{Path: c.Users, Queue: g.hashing, Memory: g.credentials, Log: g.log, Meter: m})
			return &authSource{users: u}, err
		})
		if err == nil {
			err = auth.CheckUsers(c.Users) // those of before a reload may be better than the file
		}
		if err != nil {
			return nil, &keyError{"basic_auth.users", err}
		}
		o.Users = s.users
	}
	return auth.NewBasic(o), nil
}

func newJWT(b *builder, r *config.Route) (filter.Filter, error) {
	c := r.JWT
	if c == nil {
		return nil, nil
	}
	o := auth.JWTOptions{
		Source: cmp.Or(c.JWKS, c.Keys), Algorithms: c.Algorithms, Issuer: c.Issuer, Audience: c.Audience, From: c.From,
		Meter: b.meter(r, "jwt"),
	}
	for field, name := range c.Claims {
		o.Claims = append(o.Claims, auth.Claim{Field: field, Name: name})
	}
	slices.SortFunc(o.Claims, func(x, y auth.Claim) int { return cmp.Compare(x.Field, y.Field) })
	if b.gateway != nil {
		var err error
		if o.Keys, err = b.keys(r, c); err != nil {
			return nil, err
		}
		o.Memory = b.gateway.credentials
	}
	f, err := auth.NewJWT(o)
	if err != nil {
		return nil, &keyError{"jwt.claims", err}
	}
	return f, nil
}

// keys are those of a file or of a URL.
func (b *builder) keys(r *config.Route, c *config.JWT) (*auth.Keys, error) {
	if c.Keys != "" {
		s, err := b.source("keys", c.Keys, nil, func(m *telemetry.AuthSourceMeter) (*authSource, error) {
			k, err := auth.NewKeys(auth.KeysOptions{Name: c.Keys, File: c.Keys, Log: b.gateway.log, Meter: m})
			return &authSource{keys: k}, err
		})
		if err == nil {
			err = auth.CheckKeys(c.Keys, c.Algorithms)
		}
		if err != nil {
			return nil, &keyError{"jwt.keys", err}
		}
		return s.keys, nil
	}
	p, u, err := b.asked(c.JWKS, c.CA)
	if err != nil {
		return nil, &keyError{"jwt.jwks", err}
	}
	name := c.JWKS
	if c.CA != "" {
		name += " by " + c.CA
	}
	s, err := b.source("keys", name, p, func(m *telemetry.AuthSourceMeter) (*authSource, error) {
		k, err := auth.NewKeys(auth.KeysOptions{
			Name: name, Server: &auth.KeyServer{Backend: p.Backend, URL: u}, Log: b.gateway.log, Meter: m,
		})
		return &authSource{keys: k}, err
	})
	if err != nil {
		return nil, &keyError{"jwt.jwks", err}
	}
	return s.keys, nil
}

func newForwardAuth(b *builder, r *config.Route) (filter.Filter, error) {
	c := r.ForwardAuth
	if c == nil {
		return nil, nil
	}
	o := auth.ForwardOptions{
		Label: c.URL, Copy: c.Copy, Send: slices.Concat([]string{}, c.Send), Timeout: c.Timeout, Meter: b.meter(r, "forward_auth"),
	}
	var err error
	switch {
	case c.Backend != "":
		o.Label = "backend " + c.Backend
		p := b.backends[c.Backend]
		o.Backend, o.Key = p.Backend, p.options.Hash
		o.URL, err = target.ParsePath(cmp.Or(c.Path, "/"))
	case b.gateway != nil:
		var p *pool
		if p, o.URL, err = b.asked(c.URL, c.CA); err == nil {
			o.Backend = p.Backend
		}
	}
	if err != nil {
		return nil, &keyError{"forward_auth", err}
	}
	f, err := auth.NewForward(o)
	if err != nil {
		return nil, &keyError{"forward_auth", err}
	}
	return f, nil
}

// asked returns the pool of the server of a URL. It is a backend like those of the configuration,
// named by the URL without its path, which filters of all routes share.
func (b *builder) asked(url, ca string) (*pool, target.URL, error) {
	u, err := target.ParseURL(url)
	if err != nil {
		return nil, u, err
	}
	host, port, err := net.SplitHostPort(u.Address())
	if err != nil {
		return nil, u, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, u, err
	}
	c := config.Backend{
		Name: u.Origin(), Balance: config.RoundRobin, Protocol: config.H1, MPTCP: mptcp.Prefer,
		ConnectTimeout: 5 * time.Second, ResponseTimeout: time.Minute, IdleTimeout: time.Minute,
		Servers: []config.Server{{Address: config.Address{Host: host, Port: uint16(number)}, Weight: 1, MPTCP: mptcp.Prefer}},
	}
	if u.Scheme == "https" {
		c.Protocol, c.TLS = config.Auto, &config.BackendTLS{CA: ca, Verify: true}
		if ca != "" {
			c.Name += " by " + ca
		}
	}
	if p := b.backends[c.Name]; p != nil {
		return p, u, nil
	}
	p, err := b.gateway.buildBackend(b.old, b.config, c)
	if err != nil {
		return nil, u, err
	}
	b.backends[c.Name] = p
	return p, u, nil
}
