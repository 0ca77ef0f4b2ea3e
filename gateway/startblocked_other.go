//go:build !linux

package gateway

import "os/exec"

// startBlocked is Start where signals cannot be blocked.
func startBlocked(cmd *exec.Cmd) error { return cmd.Start() }
