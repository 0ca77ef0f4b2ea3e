package backend

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

// entry is one of Options.Servers. It stands for one server, or for those that a name resolves to
// at present.
type entry struct {
	options  ServerOptions
	fixed    *Server   // the only server; nil: there is a name
	all      *names    // every address is a server
	srv      *services // the target of every record is a server
	port     uint16    // of all
	tls      *tls.Config
	reported []string // addresses of the servers that were last reported as present
	at       time.Time
}

// spec is a server that an entry stands for at present.
type spec struct {
	address  string
	addr     netip.AddrPort // valid if the address is not a name
	weight   int
	priority int // lower ones are preferred
}

// addEntries makes the entries of all servers in the options.
func (b *Backend) addEntries() error {
	for _, o := range b.options.Servers {
		e, err := b.newEntry(o)
		if err != nil {
			return err
		}
		b.entries = append(b.entries, e)
	}
	return nil
}

// newEntry makes the entry of a server or of a name.
func (b *Backend) newEntry(o ServerOptions) (*entry, error) {
	e := &entry{options: o}
	names, resolve := b.options.Names, b.options.Resolve
	var host string
	switch {
	case o.SRV != "" && (o.Address != "" || o.All):
		return nil, fmt.Errorf("server %q: SRV stands alone", o.SRV)
	case o.SRV != "":
		host = ServiceHost(o.SRV)
	case o.All:
		var err error
		if host, e.port, err = hostPort(o.Address); err != nil {
			return nil, err
		}
		if _, err := netip.ParseAddr(host); err == nil {
			return nil, fmt.Errorf("server %q: All needs a name", o.Address)
		}
	default:
		s, err := b.newServer(o)
		e.fixed = s
		return e, err
	}
	var err error
	if e.tls, err = b.tlsFor(host); err != nil {
		return nil, err
	}
	if o.SRV != "" {
		e.srv = names.service(resolve, o.SRV)
	} else {
		e.all = names.host(resolve, host)
	}
	return e, nil
}

// specs returns the servers that a name stands for at present.
func (e *entry) specs() (list []spec) {
	if e.all != nil {
		for _, a := range e.all.last() {
			to := netip.AddrPortFrom(a, e.port)
			list = append(list, spec{address: to.String(), addr: to, weight: e.options.weight()})
		}
		// Servers of DNS rotate the addresses.
		slices.SortFunc(list, func(a, b spec) int { return a.addr.Compare(b.addr) })
		return list
	}
	services := e.srv.last()
	weights := serviceWeights(services)
	for i, s := range services {
		one := spec{address: serviceAddress(s), weight: weights[i], priority: int(s.Priority)}
		if a, err := netip.ParseAddr(s.Target); err == nil { // against RFC 2782, but clear
			one.addr = netip.AddrPortFrom(a, s.Port)
		}
		list = append(list, one)
	}
	return list
}

// answered returns a channel that is closed once it is known what the entry stands for, or that it
// cannot be found out for now.
func (e *entry) answered() <-chan struct{} {
	if e.all != nil {
		return e.all.answered
	}
	return e.srv.answered
}

// discard releases what the entry has, apart from servers that were found.
func (e *entry) discard() {
	switch {
	case e.fixed != nil:
		e.fixed.close()
	case e.all != nil:
		e.all.release()
	case e.srv != nil:
		e.srv.release()
	}
}

// follow keeps the servers of a name up to date until the context ends.
func (b *Backend) follow(ctx context.Context, e *entry) {
	always := func() bool { return true }
	name := e.name()
	report := func(known bool, err error) {
		if f := b.options.Stale; f != nil {
			f(name, known, err)
		}
	}
	after := func() {
		_ = b.assemble() // New has found the errors that it can have
		b.reportServers(e)
	}
	if e.all != nil {
		e.all.keepFresh(ctx, always, report, after)
		return
	}
	e.srv.keepFresh(ctx, always, report, after)
}

func (e *entry) name() string {
	if e.srv != nil {
		return e.options.SRV
	}
	return e.options.Address
}

// assemble makes the list of servers from what all entries stand for. A server stays the same while
// its address does. An address counts once.
func (b *Backend) assemble() error {
	b.membersMu.Lock()
	defer b.membersMu.Unlock()
	if b.discarded {
		return nil
	}
	before := map[string]*Server{}
	if m := b.members.Load(); m != nil {
		for _, s := range m.servers {
			before[s.Address] = s
		}
	}
	var list []*Server
	shares := false // of servers that stay have changed
	seen := map[string]bool{}
	for _, e := range b.entries {
		if e.fixed != nil {
			list, seen[e.fixed.Address] = append(list, e.fixed), true
			continue
		}
		for _, one := range e.specs() {
			if seen[one.address] {
				continue
			}
			seen[one.address] = true
			s := before[one.address]
			if s == nil || s.entry != e {
				var err error
				if s, err = b.foundServer(e, one); err != nil {
					return err
				}
			} else if s.weight.Load() != int64(one.weight) || s.priority != one.priority {
				shares = true
				s.setShare(one)
			}
			list = append(list, s)
		}
	}
	if m := b.members.Load(); m != nil && !shares && slices.Equal(m.servers, list) {
		return nil
	}
	return b.setServers(list)
}

// setShare sets what an SRV record says about the use of a server. Until the balancers are made
// again, requests see it beside the shares of before: that distorts a choice, no more.
func (s *Server) setShare(one spec) {
	s.weight.Store(int64(one.weight))
	s.priority = one.priority
}

// foundServer makes a server that a name stands for.
func (b *Backend) foundServer(e *entry, one spec) (*Server, error) {
	s := b.emptyServer(e.options)
	s.Address, s.entry = one.address, e
	s.setShare(one)
	s.restore()
	if one.addr.IsValid() {
		s.addr, s.port = one.addr, one.addr.Port()
	} else {
		host, port, err := hostPort(one.address)
		if err != nil {
			return nil, err
		}
		// The dot means that the target of an SRV record is a whole name.
		s.names, s.port = b.options.Names.host(b.options.Resolve, host+"."), port
	}
	s.setTLS(e.tls)
	return s, nil
}

// reportServers reports which servers of a name came and went since the last report, at most every
// reportEvery.
func (b *Backend) reportServers(e *entry) {
	if b.options.Moved == nil || time.Since(e.at) < reportEvery {
		return
	}
	var now []string
	for _, s := range b.list() {
		if s.entry == e {
			now = append(now, s.Address)
		}
	}
	without := func(list, other []string) (rest []string) {
		for _, a := range list {
			if !slices.Contains(other, a) {
				rest = append(rest, a)
			}
		}
		return rest
	}
	added, removed := without(now, e.reported), without(e.reported, now)
	if added == nil && removed == nil {
		return
	}
	e.reported, e.at = now, time.Now()
	b.options.Moved(e.name(), added, removed)
}

// waitForServers waits, if there is no server because names have not been resolved yet, for the
// first answers about them. It returns false if there was nothing to wait for, or if ctx ended or
// connect_timeout was over.
func (b *Backend) waitForServers(ctx context.Context) bool {
	var timeout <-chan time.Time
	waited := false
	for _, e := range b.entries {
		if e.fixed != nil {
			continue
		}
		select {
		case <-e.answered():
			continue
		default:
		}
		if timeout == nil {
			timer := time.NewTimer(b.options.ConnectTimeout)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-e.answered():
			waited = true
		case <-timeout:
			return false
		case <-ctx.Done():
			return false
		}
	}
	if waited {
		_ = b.assemble() // the task that resolves the name may not have come to that yet
	}
	return waited
}

// noServer returns the error of a request for which there is no server.
func (b *Backend) noServer() error {
	if len(b.list()) > 0 {
		return ErrNoServer
	}
	for _, e := range b.entries {
		if e.fixed == nil {
			if status := e.status(); status.Err != nil {
				return fmt.Errorf("%w: %w", ErrNoServer, status.Err)
			}
		}
	}
	return ErrNoServer
}

func (e *entry) status() (s NameStatus) {
	switch {
	case e.all != nil:
		s = e.all.status("all", netip.Addr.String)
		s.Name = e.options.Address
	case e.srv != nil:
		s = e.srv.status("srv", serviceText)
	}
	return s
}

// NameStatus returns what is known about the names of servers.
func (b *Backend) NameStatus() (list []NameStatus) {
	for _, e := range b.entries {
		if e.fixed == nil {
			list = append(list, e.status())
		}
	}
	for _, s := range b.list() {
		if s.names != nil {
			one := s.names.status("address", netip.Addr.String)
			one.Name = s.Address
			list = append(list, one)
		}
	}
	return list
}

// hostPort divides host:port.
func hostPort(address string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("server %q: want host:port or unix:/path", address)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("server %q: want a port from 1 to 65535", address)
	}
	return host, uint16(n), nil
}
