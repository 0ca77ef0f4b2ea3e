//go:build !linux

package main

// neverBlock is for Linux alone.
func neverBlock(uintptr) {}
