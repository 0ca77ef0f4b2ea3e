//go:build race

package mptcp

// Under the race detector sync.Pool drops what is put back, at random.
const raceEnabled = true
