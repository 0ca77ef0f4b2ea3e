//go:build !linux

package mptcp

// HostMemoryShort is for Linux.
func HostMemoryShort() bool { return false }

// CheckHostMemory is for Linux.
func CheckHostMemory() bool { return false }
