package mptcp

import "os"

// /proc/net is that of the process's first thread; a thread may have been moved
// to another network namespace.
const netstatPath = "/proc/thread-self/net/netstat"

// ReadCounters reads the MPTCP counters of the calling thread's network namespace.
func ReadCounters() (Counters, error) {
	text, err := os.ReadFile(netstatPath)
	if err != nil {
		return nil, err
	}
	return parseCounters(text)
}

// Counters that move when MPTCP dialling is off in the namespace because SYNs
// that asked for it vanished, or when that is found out.
func readBlackhole() uint64 {
	text, err := os.ReadFile(netstatPath)
	if err != nil {
		return 0
	}
	return sumOf(text, "MPCapableSYNTXDisabled", "MPCapableSYNTXDrop", "Blackhole")
}
