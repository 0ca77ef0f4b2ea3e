//go:build !linux

package gateway

import "os/exec"

func (g *Gateway) makeSibling(*exec.Cmd) {}

func isSibling(*exec.Cmd) bool { return false }

func awaitEnd(cmd *exec.Cmd) { _ = cmd.Wait() }
