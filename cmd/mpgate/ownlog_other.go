//go:build !linux

package main

// neverBlock does nothing except on Linux.
func neverBlock(uintptr) {}
