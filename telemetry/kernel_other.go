//go:build !linux

package telemetry

// kernelMPTCP finds no counters: they are Linux's.
func kernelMPTCP(func(name string, value uint64)) error { return nil }
