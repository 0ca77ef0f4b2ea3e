package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"reflect"
	"slices"

	"mpgate/config"
	"mpgate/listener"
	"mpgate/mptcp"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/files"
	"mpgate/proxy/limits"
	"mpgate/telemetry"
)

// generation is what was built from one version of the configuration.
type generation struct {
	number    uint64
	config    *config.Config
	backends  map[string]*pool
	listeners map[string]*front
	leases    map[leaseKey]lease
	filters   map[string]*keptFilter // by key and route
	sources   map[string]*authSource // of users and keys, by kind and name
	meters    []*telemetry.AuthMeter // of its filters
	routes    *proxy.Routes
	passed    *proxy.Passthroughs    // by server name; nil: none
	tcp       *proxy.Passthroughs    // by TCP listener; nil: none
	passedAt  map[string]bool        // the listeners that routes by server name name; "" is all
	ownNames  []string               // see ownNames
	contents  map[string]fs.FileInfo // files that are bodies of answers, as they were read
	fileRoots []*files.Root          // directories of the action files
}

// pool is a backend and its maintenance task.
type pool struct {
	options config.Backend
	mptcp   bool          // whether MPTCP was enabled when it was made
	limits  limits.Limits // of answers' heads
	key     []byte        // that signs the cookie; nil: no cookie
	*backend.Backend
	task *running
}

// lease is shared by the exchanges on a route that one of its backends serves. It is kept while a
// reload changes neither the route, weights aside, nor that backend.
type lease struct {
	*proxy.Lease
	route config.Route // without backends
	pool  *pool
}

type leaseKey struct{ route, backend string }

// front is a listener: its sockets, and its part in the data plane.
type front struct {
	sockets *listener.Listener
	proxy   *proxy.Listener
	open    listener.Options      // what the sockets were opened with
	view    proxy.ListenerOptions // options of the data plane
	tls     *tlsSet               // nil: none
	task    *running
	leave   bool // another process continues with the sockets: unix ones stay in the file system
}

// build makes a generation from cfg, with what is equal in old. It starts nothing, and undoes
// everything on an error.
func (g *Gateway) build(ctx context.Context, old *generation, cfg *config.Config) (_ *generation, err error) {
	next := &generation{
		number: 1, config: cfg, backends: map[string]*pool{}, listeners: map[string]*front{}, leases: map[leaseKey]lease{}, filters: map[string]*keptFilter{}, sources: map[string]*authSource{},
		passedAt: map[string]bool{}, ownNames: ownNames(cfg), contents: map[string]fs.FileInfo{},
	}
	if old != nil {
		next.number = old.number + 1
	}
	defer func() {
		if err != nil {
			next.closeNew(old)
		}
	}()
	var faults config.Errors
	note := func(err error) {
		var more config.Errors
		if errors.As(err, &more) {
			faults = append(faults, more...)
		}
	}
	for _, b := range cfg.Backends {
		p, err := g.buildBackend(old, cfg, b)
		if err != nil {
			faults = appendFaults(faults, cfg, "backend."+b.Name, err)
			continue
		}
		next.backends[b.Name] = p
	}
	if len(faults) > 0 { // routes need them
		return nil, faults
	}
	note((&builder{generation: next, gateway: g, old: old}).build())
	for i := range cfg.Listeners {
		f, err := g.buildFront(ctx, old, next, &cfg.Listeners[i])
		if err != nil {
			note(err)
			continue
		}
		next.listeners[f.open.Name] = f
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return next, nil
}

func (g *Gateway) buildBackend(old *generation, cfg *config.Config, b config.Backend) (*pool, error) {
	answer := answerLimits(cfg.Limits)
	key, err := stickyKey(cfg, &b)
	if err != nil {
		return nil, err
	}
	if old != nil {
		if p, ok := old.backends[b.Name]; ok && p.mptcp == cfg.MPTCP.Enabled && p.limits == answer && bytes.Equal(p.key, key) && reflect.DeepEqual(p.options, b) {
			return p, nil
		}
	}
	o := g.backendOptions(b, cfg.MPTCP.Enabled)
	o.Restore = g.earlierStates(old, b.Name)
	o.Limits = answer
	if b.Sticky != nil {
		o.Sticky = backend.StickyOptions{Cookie: b.Sticky.Cookie, Key: key}
	}
	made, err := backend.New(o)
	if err != nil {
		return nil, err
	}
	return &pool{options: b, mptcp: cfg.MPTCP.Enabled, limits: answer, key: key, Backend: made}, nil
}

// answerLimits are the limits of response heads, with a minimum that servers commonly need.
func answerLimits(l limits.Limits) limits.Limits {
	out := limits.Servers
	out.HeaderBytes, out.HeaderFields = max(l.HeaderBytes, out.HeaderBytes), max(l.HeaderFields, out.HeaderFields)
	return out
}

func (g *Gateway) backendOptions(b config.Backend, enabled bool) backend.Options {
	o := backend.Options{
		Name: b.Name, Balance: string(b.Balance), ConnectTimeout: b.ConnectTimeout, ResponseTimeout: b.ResponseTimeout, IdleTimeout: b.IdleTimeout,
		Protocol: map[config.Protocol]backend.Protocol{
			config.H2: backend.HTTP2, config.H2C: backend.HTTP2, config.Auto: backend.Auto,
		}[b.Protocol],
		Instruments: g.metrics, Live: &g.back, Memory: &g.memory, ConnLimit: &g.places, SourceSelector: sourceSelector{g}, TLS: g.backendTLS(&b), SendProxy: uint8(b.SendProxy),
		Names: &g.names, Resolve: resolveOptions(&b),
	}
	setLimits(&o, &b)
	g.logServers(&o)
	healthOptions(&o, &b)
	if g.group != nil {
		o.Streams = &g.streams
	}
	for _, s := range b.Servers {
		o.Servers = append(o.Servers, backend.ServerOptions{
			Address: serverAddress(&s), All: s.All, SRV: s.SRV, Weight: weight(s.Weight), Backup: s.Backup, MPTCP: mode(s.MPTCP, enabled), Source: s.Source, Interface: s.Interface,
			MaxRequests: s.MaxRequests,
		})
	}
	return o
}

// weight returns the weight of a server for package backend, where 0 means 1.
func weight(w int) int {
	if w == 0 {
		return -1
	}
	return w
}

// logServers logs which servers cannot be reached, and why.
func (g *Gateway) logServers(o *backend.Options) {
	g.logHealth(o)
	g.logNames(o)
}

// mode returns the mode to request from the kernel, given the operator's kill switches.
func mode(m mptcp.Mode, enabled bool) mptcp.Mode {
	if !enabled || mptcp.Disabled() {
		return mptcp.Off
	}
	return m
}

// passthroughs returns the server names that are passed through at a listener; nil if there are
// none, so that the listener does not wait for a ClientHello.
func (n *generation) passthroughs(l *config.Listener) *proxy.Passthroughs {
	if !l.TakesTLS() || !n.passedAt[""] && !n.passedAt[l.Name] {
		return nil
	}
	return n.passed
}

func (g *Gateway) buildFront(ctx context.Context, old, next *generation, l *config.Listener) (_ *front, err error) {
	f := &front{open: g.listenerOptions(next.config, l)}
	if f.tls, err = g.buildTLS(next.config, l); err != nil {
		return nil, err
	}
	f.view = next.view(l)
	f.view.RequireMPTCP, f.view.Challenge = f.open.MPTCP == mptcp.Require, g.challenge
	if f.tls != nil {
		f.view.TLS = f.tls // not a nil *tlsSet in an interface
	}
	var before *front
	if old != nil {
		before = old.listeners[l.Name]
	}
	switch {
	case before == nil:
		f.sockets, err = listener.Open(ctx, f.open, g.options.Inherited)
		if old != nil {
			err = f.explain(err)
		}
	case sameSockets(before.open, f.open):
		f.sockets, f.proxy, f.task = before.sockets, before.proxy, before.task
	default:
		f.proxy = before.proxy
		f.sockets, err = g.reopenFront(ctx, before, f)
	}
	if err != nil {
		f.closeTLS()
		return nil, g.fault(next.config, "listener."+l.Name, err)
	}
	return f, nil
}

// view is options of the data plane of a listener, as far as the configuration says it.
func (n *generation) view(l *config.Listener) proxy.ListenerOptions {
	o := proxy.ListenerOptions{
		Trusted: config.Prefixes(l.TrustedProxies), TrustUnix: l.TrustsUnix(), TrustCertificate: l.TrustsCertificate(), OwnNames: n.ownNames, HealthPath: l.HealthPath,
		RedirectHTTPS: l.RedirectHTTPS, Routes: n.routes, Passthrough: n.passthroughs(l),
		H2C: l.Accepts(config.H2C), NoH1: !l.Accepts(config.H1),
		ProxyHeader: l.ProxyProtocol, ProxyHeaderFrom: l.ProxyProtocolFrom,
	}
	if l.AcceptsTCP() {
		o.TCP = n.tcp
	}
	return o
}

func (f *front) closeTLS() {
	if f.tls != nil {
		f.tls.Close()
	}
}

func (g *Gateway) listenerOptions(cfg *config.Config, l *config.Listener) listener.Options {
	o := listener.Options{
		Name: l.Name, Systemd: l.Systemd, FileMode: l.Mode, MPTCP: mode(l.MPTCP, cfg.MPTCP.Enabled), Interface: l.Interface,
		Gate: g.gate, Failed: g.metrics.AcceptErrors.Inc, Log: g.log,
	}
	for _, a := range l.Addresses {
		for _, one := range a.Each() {
			o.Addresses = append(o.Addresses, one.String())
		}
	}
	return o
}

// sameSockets reports whether sockets opened with a also fit b.
func sameSockets(a, b listener.Options) bool {
	return a.Name == b.Name && slices.Equal(a.Addresses, b.Addresses) && a.Systemd == b.Systemd &&
		a.FileMode == b.FileMode && a.MPTCP == b.MPTCP && a.Interface == b.Interface
}

// start activates the generation, and starts what is new in it.
func (n *generation) start(g *Gateway) {
	for name, k := range n.filters {
		k.start(g, name)
	}
	for name, s := range n.sources {
		if s.task == nil {
			s.task = g.tasks.keep(name, s.run)
		}
	}
	for name, p := range n.backends {
		if p.task == nil {
			p.task = g.tasks.keep("backend "+name, p.Run)
		}
	}
	for name, f := range n.listeners {
		if f.tls != nil {
			f.tls.Start()
		}
		if f.proxy == nil {
			f.proxy = g.proxy.NewListener(name, f.view)
		} else {
			f.proxy.Update(f.view)
		}
		if f.task == nil {
			seen := f.proxy
			f.task = g.tasks.keep("listener "+name, func(ctx context.Context) error {
				return f.sockets.Serve(ctx, func(c net.Conn, s *listener.Socket) {
					g.proxy.Accept(c, seen, s.Info().Transport == mptcp.MPTCP)
				})
			})
		}
	}
}

// stopAccepting stops those listeners from accepting.
func (n *generation) stopAccepting(which func(*front) bool) {
	for _, f := range n.listeners {
		if which(f) {
			f.stop()
		}
	}
}

// stop stops accepting; it may be called twice.
func (f *front) stop() {
	f.task.stop()
	if f.leave {
		_ = f.sockets.Release()
		return
	}
	_ = f.sockets.Close()
}

// close ends everything of the generation.
func (n *generation) close() {
	for _, f := range n.listeners {
		f.stop()
		f.closeTLS()
		if f.proxy != nil {
			f.proxy.Close()
		}
	}
	n.releaseFilters(nil)
	for _, s := range n.sources {
		s.task.stop()
	}
	for _, p := range n.backends {
		p.task.stop()
	}
	n.closeFiles()
}

// releaseMeters gives the meters of the filters back.
func (n *generation) releaseMeters() {
	for _, m := range n.meters {
		m.Release()
	}
}

// closeNew undoes a build: it closes the sockets and the backends that old does not have.
func (n *generation) closeNew(old *generation) {
	n.closeFiles()
	n.releaseFilters(old)
	for name, p := range n.backends {
		if old == nil || old.backends[name] != p {
			p.Discard()
		}
	}
	n.releaseMeters()
	for name, s := range n.sources {
		if old == nil || old.sources[name] != s {
			s.meter.Release()
		}
	}
	for name, f := range n.listeners {
		f.closeTLS()
		if old == nil || old.listeners[name] == nil || old.listeners[name].sockets != f.sockets {
			_ = f.sockets.Abandon()
		}
	}
}

func hostUsable() string {
	h := mptcp.Host()
	if h.Usable {
		return "yes"
	}
	return fmt.Sprintf("no: %s", h.Why)
}
