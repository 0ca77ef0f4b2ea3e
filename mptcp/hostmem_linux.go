package mptcp

import (
	"bytes"
	"os"
	"sync/atomic"
	"time"
)

// hostMemory says whether the TCP and MPTCP sockets of this host have nearly used up the memory
// that the kernel allows them, as last read.
var hostMemory struct {
	short atomic.Bool
	read  atomic.Int64 // ns since the epoch of the clock
}

// hostMemoryAge is how old an answer may be when a dial asks. Reading it again takes 50 us.
const hostMemoryAge = 100 * time.Millisecond

// HostMemoryShort reports whether the kernel was short of memory for TCP sockets (net.ipv4.tcp_mem,
// "pressure") when a dial or CheckHostMemory last looked. Beyond the limit, MPTCP connections of
// Linux 6.18 drop what they receive and stall for up to 30 s; TCP continues.
func HostMemoryShort() bool { return hostMemory.short.Load() }

// CheckHostMemory reads it now.
func CheckHostMemory() bool {
	hostMemory.read.Store(time.Now().UnixNano())
	// This file exists in every namespace, net.ipv4.tcp_mem only in the initial one.
	b, err := os.ReadFile("/proc/net/protocols")
	short := err == nil && underPressure(b)
	hostMemory.short.Store(short)
	return short
}

// hostMemoryShort is for a dial.
func hostMemoryShort() bool {
	if age := time.Now().UnixNano() - hostMemory.read.Load(); age < 0 || age >= int64(hostMemoryAge) {
		return CheckHostMemory()
	}
	return HostMemoryShort()
}

// underPressure reads it from /proc/net/protocols: protocol, size, sockets, memory, press.
func underPressure(protocols []byte) bool {
	for line := range bytes.Lines(protocols) {
		if f := bytes.Fields(line); len(f) > 4 && string(f[0]) == "TCP" {
			return string(f[4]) == "yes"
		}
	}
	return false
}
