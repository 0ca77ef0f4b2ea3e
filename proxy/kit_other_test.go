//go:build !linux

package proxy_test

import "testing"

func fullQueue(t *testing.T) string {
	t.Skip("a queue that stays full wants Linux")
	return ""
}
