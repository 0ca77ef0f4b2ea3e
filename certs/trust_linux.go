package certs

import (
	"os"
	"strings"
)

// trustCommand returns the shell command that makes this system trust a CA.
func trustCommand(ca string) string {
	q := "'" + strings.ReplaceAll(ca, "'", `'\''`) + "'"
	for _, d := range []struct{ dir, after string }{
		// Debian, Alpine
		{"/usr/local/share/ca-certificates", "sudo update-ca-certificates"},
		{"/etc/pki/ca-trust/source/anchors", "sudo update-ca-trust"},               // Fedora
		{"/etc/ca-certificates/trust-source/anchors", "sudo trust extract-compat"}, // Arch
		{"/usr/share/pki/trust/anchors", "sudo update-ca-certificates"},            // SUSE
	} {
		if _, err := os.Stat(d.dir); err == nil {
			return "sudo install -m 0644 " + q + " " + d.dir + "/mpgate-local.crt && " + d.after
		}
	}
	return "sudo trust anchor " + q
}
