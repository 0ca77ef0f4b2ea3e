//go:build !linux

package telemetry

// kernelMPTCP has no counters: only Linux has them.
func kernelMPTCP(func(name string, value uint64)) error { return nil }
