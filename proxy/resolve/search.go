package resolve

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"mpgate/task"
)

// Addresses returns the addresses of a host name, of both families. The names in /etc/hosts have
// precedence. A name without enough dots is looked up in the search domains, as resolv.conf(5)
// describes. found is the whole name that has the addresses.
//
// before is found of an earlier call, or "": while it is not known whether that name still has
// addresses, no other name of the search list takes its place.
func (r *Resolver) Addresses(ctx context.Context, host, before string) (v4, v6 Family, found string) {
	if list, ok := r.system.lookup(host); ok {
		v4, v6 = divide(list)
		return v4, v6, host
	}
	if err := r.enter(ctx); err != nil {
		e := failed(host, "", err.Error()).err
		return Family{Err: e}, Family{Err: e}, ""
	}
	defer r.leave()
	first := true
	for _, name := range r.system.config().search(host) {
		a, b := r.bothFamilies(ctx, name)
		if a.Err == nil || b.Err == nil {
			return a, b, name
		}
		if known := NotFound(a.Err) && NotFound(b.Err); first || !known {
			v4, v6, first = a, b, false
			if !known && (name == before || ctx.Err() != nil) {
				break
			}
		}
	}
	return v4, v6, ""
}

// otherWait is how long an answer with addresses of one family waits for the other one: there are
// servers that never answer questions for AAAA (RFC 4074).
const otherWait = time.Second

// bothFamilies asks for the addresses of one name.
func (r *Resolver) bothFamilies(ctx context.Context, name string) (v4, v6 Family) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	family := func(v6 bool) Family {
		f := r.family(ctx, name, v6)
		if f.Err == nil {
			task.AfterFunc(otherWait, "lookup: end", cancel) // without effect once both have ended
		}
		return f
	}
	var group task.Group
	group.Go("resolve "+name, func() { v6 = family(true) }, func(p *task.Panic) { v6 = Family{Err: p} })
	v4 = family(false)
	group.Wait()
	return v4, v6
}

func (r *Resolver) family(ctx context.Context, name string, v6 bool) Family {
	a := r.ask(ctx, name, typeOf(v6))
	f := Family{Addrs: a.addrs, TTL: a.ttl}
	if a.err != nil {
		f.Err = a.err
	}
	return f
}

// divide returns addresses by family.
func divide(list []netip.Addr) (v4, v6 Family) {
	for _, a := range list {
		f := &v4
		if a.Is6() {
			f = &v6
		}
		f.Addrs = append(f.Addrs, a)
	}
	for _, f := range []*Family{&v4, &v6} {
		f.TTL = hostsTTL
		if f.Addrs == nil {
			f.Err = notInHosts
		}
	}
	return v4, v6
}

// Services returns the servers that the SRV records of a name such as "_http._tcp.example.org"
// name, by priority. f has the TTL or the error.
func (r *Resolver) Services(ctx context.Context, name string) (list []Service, f Family) {
	if err := r.enter(ctx); err != nil {
		return nil, Family{Err: failed(name, "", err.Error()).err}
	}
	defer r.leave()
	first := true
	for _, full := range r.system.config().search(name) {
		a := r.ask(ctx, full, dnsmessage.TypeSRV)
		if a.err == nil {
			return a.services, Family{TTL: a.ttl}
		}
		if first || !a.err.IsNotFound {
			f, first = Family{TTL: a.ttl, Err: a.err}, false
		}
		if !a.err.IsNotFound {
			break
		}
	}
	return nil, f
}

// search returns the names to ask for.
func (c *config) search(host string) (names []string) {
	if absolute, ok := strings.CutSuffix(host, "."); ok {
		return []string{absolute}
	}
	asIs := strings.Count(host, ".") >= c.ndots
	if asIs {
		names = append(names, host)
	}
	for _, domain := range c.domains {
		names = append(names, host+"."+domain)
	}
	if !asIs {
		names = append(names, host)
	}
	return names
}
