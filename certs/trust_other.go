//go:build !linux

package certs

import "strings"

// trustCommand returns the shell command that makes macOS trust a CA.
func trustCommand(ca string) string {
	return "sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain '" + strings.ReplaceAll(ca, "'", `'\''`) + "'"
}
