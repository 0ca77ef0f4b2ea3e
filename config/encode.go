package config

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/netip"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// hidden stands for a secret.
const hidden = "(hidden)"

// Encode writes the configuration as TOML, with every default, paths absolute and secrets hidden. But for the secrets it can be loaded again and
// says the same.
func (c *Config) Encode(w io.Writer) error {
	var e encoder
	e.table("", reflect.ValueOf(c.raw()).Elem())
	_, err := io.WriteString(w, strings.TrimLeft(e.b.String(), "\n"))
	return err
}

// raw is the way back from the exported values.
func (c *Config) raw() *rawConfig {
	r := &rawConfig{StateDir: s(c.StateDir)}
	r.Log = rawLog{Level: s(strings.ToLower(c.Log.Level.String())), Format: s(c.Log.Format), Access: s(c.Log.Access)}
	r.Admin.Address = s(c.Admin.Address.String())
	if c.Admin.Off {
		r.Admin.Address = s("off")
	}
	r.Shutdown.Drain = duration(c.Shutdown.Drain)
	r.Limits = rawLimits{
		HeaderBytes:          s(formatSize(c.Limits.HeaderBytes)),
		HeaderFields:         num{V: int64(c.Limits.HeaderFields)},
		HeaderTime:           duration(c.Limits.HeaderTime),
		IdleTime:             duration(c.Limits.IdleTime),
		MinRate:              s(formatSize(c.Limits.MinRate)),
		Connections:          num{V: int64(c.Limits.Connections)},
		ConnectionsPerClient: num{V: int64(c.Limits.ConnectionsPerClient)},
	}
	m := &c.MPTCP
	r.MPTCP = rawMPTCP{
		Enabled: flag{V: m.Enabled}, Manage: s(m.Manage), Adopt: flag{V: m.Adopt}, Keep: flag{V: m.Keep},
		Failover: s(m.Failover), Fullmesh: flag{V: m.Fullmesh},
		Limits: rawMPTCPLimits{Subflows: num{V: int64(m.Limits.Subflows)}, AddAddrAccepted: num{V: int64(m.Limits.AddAddrAccepted)}},
	}
	for _, p := range m.Paths {
		rp := &rawPath{
			Name: s(p.Name), Interface: s(p.Interface), Address: addr(p.Address), Role: s(p.Role),
			Backup: flag{V: p.Backup}, Announce: flag{V: p.Announce}, Port: num{V: int64(p.Port)},
		}
		if !isName(p.Name) { // it is the interface or the address
			rp.Name = str{}
		}
		r.MPTCP.Paths = append(r.MPTCP.Paths, rp)
	}
	for i := range c.Listeners {
		r.Listeners = append(r.Listeners, c.Listeners[i].raw())
	}
	for _, rt := range c.Routes {
		r.Routes = append(r.Routes, &rawRoute{
			Name: s(rt.Name), Backend: s(rt.Backend), EncodedSlash: s(rt.EncodedSlash),
			DuplicateSlashes: s(rt.DuplicateSlashes), UnsafeHeaderNames: s(rt.UnsafeHeaderNames),
			Match: rawMatch{Host: s(rt.Match.Host), Path: s(rt.Match.Path), Listener: s(rt.Match.Listener), SNI: s(rt.Match.SNI)},
		})
	}
	for i := range c.Backends {
		r.Backends = append(r.Backends, c.Backends[i].raw())
	}
	return r
}

func (ln *Listener) raw() *rawListener {
	r := &rawListener{
		Name: s(ln.Name), Mode: mode(ln.Mode), Systemd: s(ln.Systemd), MPTCP: s(ln.MPTCP), Interface: s(ln.Interface),
		Address: strs(ln.Addresses, Address.String), Protocols: strs(ln.Protocols, func(p Protocol) string { return string(p) }),
		TrustedProxies: strs(ln.TrustedProxies, netip.Prefix.String), ProxyProtocolFrom: strs(ln.ProxyProtocolFrom, netip.Prefix.String),
		ProxyProtocol: s(ln.ProxyProtocol), RedirectHTTPS: flag{V: ln.RedirectHTTPS}, HealthPath: s(ln.HealthPath),
	}
	if ln.TrustUnix {
		r.TrustedProxies.V = append(r.TrustedProxies.V, s(trustedUnix))
	}
	if ln.TLS == nil {
		return r
	}
	r.TLS = &rawTLS{RefuseUnknown: flag{V: ln.TLS.RefuseUnknown}, rawTLSKeys: ln.TLS.TLSPolicy.raw()}
	for i := range ln.TLS.Policies {
		p := &ln.TLS.Policies[i]
		r.TLS.Policies = append(r.TLS.Policies, &rawPolicy{Hosts: plain(p.Hosts), rawTLSKeys: p.raw()})
	}
	return r
}

func (p *TLSPolicy) raw() rawTLSKeys {
	h := p.ClientHeaders
	r := rawTLSKeys{
		Local: flag{V: p.Local}, LocalNames: plain(p.LocalNames), MinVersion: s("1.2"), HSTS: s(p.HSTS),
		ClientAuth: s(p.ClientAuth), ClientCA: s(p.ClientCA), ClientSAN: plain(p.ClientSAN),
		ClientHeaders: rawClientHeaders{
			Subject: s(h.Subject), Issuer: s(h.Issuer), Serial: s(h.Serial), SAN: s(h.SAN), Fingerprint: s(h.Fingerprint), Certificate: s(h.Certificate),
		},
	}
	if p.MinVersion == tls.VersionTLS13 {
		r.MinVersion = s("1.3")
	}
	for _, c := range p.Certificates {
		r.Certificates = append(r.Certificates, &rawKeyPair{Cert: s(c.Cert), Key: s(c.Key)})
	}
	a := p.ACME
	if a == nil {
		return r
	}
	r.ACME = &rawACME{
		Domains: plain(a.Domains), Email: s(a.Email), CA: s(a.CA), CARoot: s(a.CARoot), KeyType: s(a.KeyType), Profile: s(a.Profile),
		Challenges: strs(a.Challenges, func(c Challenge) string { return string(c) }),
	}
	if a.EAB != nil {
		r.ACME.EAB = &rawEAB{KID: s(a.EAB.KID), Key: s(a.EAB.Key)}
	}
	if d := a.DNS; d != nil {
		r.ACME.DNS = &rawDNS{
			Exec: plain(d.Exec), Webhook: s(withoutSecrets(d.Webhook)), WebhookToken: s(d.WebhookToken),
			Resolvers: strs(d.Resolvers, Address.String), Delay: duration(d.Delay), Timeout: duration(d.Timeout),
		}
		if u := d.RFC2136; u != nil {
			r.ACME.DNS.RFC2136 = &rawRFC2136{
				Server: s(u.Server.String()), KeyName: s(u.KeyName), KeyAlg: s(u.KeyAlg), KeySecret: s(u.KeySecret),
			}
		}
	}
	return r
}

func (b *Backend) raw() *rawBackend {
	r := &rawBackend{
		Name: s(b.Name), Balance: s(b.Balance), Protocol: s(b.Protocol), MPTCP: s(b.MPTCP),
		ConnectTimeout: duration(b.ConnectTimeout), ResponseTimeout: duration(b.ResponseTimeout), IdleTimeout: duration(b.IdleTimeout),
		SendProxy: s(b.SendProxy), Source: addr(b.Source), Interface: s(b.Interface),
	}
	if t := b.TLS; t != nil {
		r.TLS = &rawBackendTLS{
			CA: s(t.CA), ServerName: s(t.ServerName), SAN: plain(t.SAN), Cert: s(t.Cert), Key: s(t.Key), Verify: flag{V: t.Verify},
		}
	}
	for _, srv := range b.Servers {
		rs := &rawServer{Address: s(srv.Address.String()), Weight: num{V: int64(srv.Weight)}, MPTCP: s(srv.MPTCP), Source: addr(srv.Source), Interface: s(srv.Interface)}
		r.Servers = append(r.Servers, rs)
	}
	return r
}

func s[T ~string](v T) str { return str{V: string(v)} }

func addr(a netip.Addr) str {
	if !a.IsValid() {
		return str{}
	}
	return s(a.String())
}

func mode(m os.FileMode) str { return s(fmt.Sprintf("%04o", m.Perm())) }

func plain(vs []string) list { return strs(vs, func(v string) string { return v }) }

func strs[T any](vs []T, text func(T) string) list {
	var l list
	for _, v := range vs {
		l.V = append(l.V, s(text(v)))
	}
	return l
}

// duration is d without the zero units of its String: 1m0s is 1m.
func duration(d time.Duration) str {
	t := d.String()
	if strings.HasSuffix(t, "m0s") {
		t = strings.TrimSuffix(t, "0s")
	}
	if strings.HasSuffix(t, "h0m") {
		t = strings.TrimSuffix(t, "0m")
	}
	return s(t)
}

// encoder prints raw tables.
type encoder struct{ b strings.Builder }

// table prints what a table says itself, then the tables in it.
func (e *encoder) table(key string, v reflect.Value) {
	fields := knownFields[v.Type()]
	for _, f := range fields {
		fv := v.FieldByIndex(f.index)
		if f.inline || isLeaf(fv.Type()) {
			if text, ok := e.value(f, fv, false); ok {
				fmt.Fprintf(&e.b, "%s = %s\n", f.key, text)
			}
		}
	}
	for _, f := range fields {
		fv := v.FieldByIndex(f.index)
		if f.inline || isLeaf(fv.Type()) {
			continue
		}
		sub := joinKey(key, f.key)
		switch fv.Kind() {
		case reflect.Struct:
			fmt.Fprintf(&e.b, "\n[%s]\n", sub)
			e.table(sub, fv)
		case reflect.Pointer:
			if !fv.IsNil() {
				fmt.Fprintf(&e.b, "\n[%s]\n", sub)
				e.table(sub, fv.Elem())
			}
		case reflect.Slice:
			for i := range fv.Len() {
				fmt.Fprintf(&e.b, "\n[[%s]]\n", sub)
				e.table(sub, fv.Index(i).Elem())
			}
		}
	}
}

// value is a leaf or an inline table as text; ok is false for what is not there. In an inline table (short) what is empty is left out.
func (e *encoder) value(f field, v reflect.Value, short bool) (text string, ok bool) {
	switch leaf := v.Interface().(type) {
	case str:
		if f.secret && leaf.V != "" {
			return quote(hidden), true
		}
		return quote(escape(leaf.V)), leaf.V != "" || !short
	case num:
		return strconv.FormatInt(leaf.V, 10), true
	case flag:
		return strconv.FormatBool(leaf.V), true
	case list:
		if f.key == "include" {
			return "", false // what was included is here
		}
		items := make([]string, len(leaf.V))
		for i, item := range leaf.V {
			items[i] = quote(escape(item.V))
		}
		return "[" + strings.Join(items, ", ") + "]", len(items) > 0 || !short
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return "", false
		}
		return e.inline(v.Elem()), true
	case reflect.Slice:
		if v.Len() == 0 {
			return "[]", !short
		}
		var b strings.Builder
		b.WriteString("[\n")
		for i := range v.Len() {
			fmt.Fprintf(&b, "\t%s,\n", e.inline(v.Index(i).Elem()))
		}
		b.WriteString("]")
		return b.String(), true
	}
	return e.inline(v), true
}

func (e *encoder) inline(v reflect.Value) string {
	var parts []string
	for _, f := range knownFields[v.Type()] {
		if text, ok := e.value(f, v.FieldByIndex(f.index), true); ok {
			parts = append(parts, f.key+" = "+text)
		}
	}
	if len(parts) == 0 {
		return "{}"
	}
	return "{ " + strings.Join(parts, ", ") + " }"
}
