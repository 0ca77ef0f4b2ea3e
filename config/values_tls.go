package config

import (
	"crypto/tls"
	"strings"
)

// versions are the versions of TLS.
var versions = func() codec {
	values := []string{"1.2", "1.3"}
	c := of(func(s, _ string) (uint16, string) {
		switch s {
		case "1.2":
			return tls.VersionTLS12, ""
		case "1.3":
			return tls.VersionTLS13, ""
		}
		return 0, notOneOf(s, values)
	}, func(v uint16) string {
		if v == tls.VersionTLS13 {
			return "1.3"
		}
		return "1.2"
	})
	c.values = values
	return c
}()

// hsts parses a value of Strict-Transport-Security (RFC 6797).
func hsts(s, _ string) (string, string) { return s, hstsProblem(s) }

func hstsProblem(s string) string {
	if s == "" {
		return ""
	}
	found := false
	for _, d := range strings.Split(s, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(d), "=")
		if strings.EqualFold(name, "max-age") {
			v := strings.Trim(value, `"`)
			found = v != "" && strings.Trim(v, "0123456789") == ""
		}
	}
	if !found || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return `is not a valid Strict-Transport-Security value; must be for example "max-age=31536000; includeSubDomains"`
	}
	return ""
}
