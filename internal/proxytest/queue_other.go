//go:build !linux

package proxytest

import (
	"net/netip"
	"testing"
)

// FullQueue is for Linux.
func FullQueue(t testing.TB, _ netip.AddrPort) string {
	t.Skip("a queue that stays full wants Linux")
	return ""
}
