package config

import (
	"encoding/base64"
	"net/url"
	"strings"
	"time"
)

func (l *loader) dns(r *rawDNS) *DNS {
	out := &DNS{
		Exec: values(r.Exec), Webhook: l.url(r.Webhook, "https", "http"), WebhookToken: r.WebhookToken.V,
		Delay: l.duration(r.Delay, 0), Timeout: l.duration(r.Timeout, time.Second),
	}
	for _, s := range r.Resolvers.V {
		out.Resolvers = append(out.Resolvers, l.dnsServer(s))
	}
	if r.WebhookToken.V != "" && r.Webhook.V == "" {
		l.fault(r.WebhookToken.At, "is set without webhook; leave it out")
	}
	n := 0
	if len(r.Exec.V) > 0 {
		n++
		out.Exec[0] = l.program(r.Exec.V[0])
	}
	if r.Webhook.V != "" {
		n++
	}
	if r.RFC2136 != nil {
		n++
		out.RFC2136 = l.rfc2136(r.RFC2136)
	}
	if n != 1 && !r.Exec.At.unset && !r.Webhook.At.unset {
		l.fault(r.At, "names %d solvers; must be exactly one of rfc2136, exec and webhook", n)
	}
	return out
}

// program is a file to run; a bare name is looked up in PATH by who runs it.
func (l *loader) program(s str) string {
	if s.V == "" {
		l.fault(s.At, "is empty; must be the program to run")
		return ""
	}
	if !strings.Contains(s.V, "/") {
		return s.V
	}
	return l.filePath(s)
}

func (l *loader) rfc2136(r *rawRFC2136) *RFC2136 {
	out := &RFC2136{KeySecret: r.KeySecret.V, KeyAlg: oneOf(l, r.KeyAlg, "hmac-sha256", "hmac-sha384", "hmac-sha512", "hmac-sha224", "hmac-sha1")}
	if r.Server.V == "" {
		l.fault(r.Server.At, `is missing; name the server that takes updates, for example server = "192.0.2.53:53"`)
	} else {
		out.Server = l.dnsServer(r.Server)
	}
	if r.KeyName.V != "" {
		out.KeyName = l.absoluteName(r.KeyName)
	}
	if r.KeyName.V == "" {
		l.fault(r.KeyName.At, `is missing; updates are signed: name the TSIG key, for example key_name = "mpgate."`)
	}
	switch {
	case r.KeySecret.V == "":
		l.fault(r.KeySecret.At, "is missing; updates are signed: give the TSIG key as tsig-keygen prints it")
	case !isBase64(r.KeySecret.V, false):
		l.fault(r.KeySecret.At, "is no base64; must be the TSIG key as tsig-keygen prints it")
	}
	return out
}

func (l *loader) dnsServer(s str) Address {
	a := l.address(s, dialAddress)
	if a.IsUnix() {
		l.fault(s.At, "is a unix socket%s; must be host and port of a DNS server", s.got())
	}
	return a
}

// absoluteName is a DNS name with the dot at its end.
func (l *loader) absoluteName(s str) string {
	name, problem := hostName(strings.TrimSuffix(s.V, "."), false)
	if problem != "" {
		l.wrong(s, problem)
		return ""
	}
	return name + "."
}

func isBase64(s string, forURLs bool) bool {
	enc := base64.StdEncoding
	if forURLs {
		enc = base64.URLEncoding
	}
	if !strings.HasSuffix(s, "=") {
		enc = enc.WithPadding(base64.NoPadding)
	}
	_, err := enc.DecodeString(s)
	return err == nil && s != ""
}

// url is an absolute URL with one of the schemes, "" for none.
func (l *loader) url(s str, schemes ...string) string {
	if s.V == "" {
		return ""
	}
	u, err := url.Parse(s.V)
	if err == nil && u.Host != "" {
		for _, scheme := range schemes {
			if u.Scheme == scheme {
				return s.V
			}
		}
	}
	shown := s.got()
	if err == nil && u.User != nil {
		shown = "" // it may hold a password
	}
	l.fault(s.At, "is no URL of the kind that is wanted%s; must be for example %q", shown, schemes[0]+"://host/path")
	return ""
}

// withoutSecrets hides the password of a URL, and the values of its query: many services take their key there.
func withoutSecrets(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return s
	}
	_, password := u.User.Password()
	if !password && u.RawQuery == "" {
		return s
	}
	if q := u.Query(); len(q) > 0 {
		for name := range q {
			q[name] = []string{"xxxxx"}
		}
		u.RawQuery = q.Encode()
	} else if u.RawQuery != "" {
		u.RawQuery = "xxxxx"
	}
	return u.Redacted()
}
