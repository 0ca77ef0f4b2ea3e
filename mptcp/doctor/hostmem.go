package doctor

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"mpgate/mptcp"
)

// hostMemory compares what the connections may hold in the kernel with what it allows all TCP
// sockets of the host.
func (e *examination) hostMemory() {
	const check = "memory"
	if mptcp.CheckHostMemory() {
		e.add(Warning, check, "", "the kernel is short of memory for TCP sockets: MPTCP connections can stall for up to 30 s; with mptcp = \"prefer\", connections to servers use TCP",
			"close connections with full buffers (ss -tm shows them), or raise net.ipv4.tcp_mem")
	}
	if what, remedy := tooManyConnections(e.Connections, sysctl("net.ipv4.tcp_rmem"), sysctl("net.ipv4.tcp_mem")); what != "" {
		e.add(Warning, check, "", what, remedy)
	}
}

// tooManyConnections says what is wrong with a limit of connections, "" where nothing is. A
// connection that nobody reads holds what tcp_rmem begins with, and each of a client may have
// one to a server.
func tooManyConnections(most int, rmem, mem string) (what, remedy string) {
	r, m := strings.Fields(rmem), strings.Fields(mem)
	if most == 0 || len(r) != 3 || len(m) != 3 {
		return "", "" // net.ipv4.tcp_mem is in the first namespace only
	}
	each, err := strconv.ParseInt(r[1], 10, 64)
	pages, err2 := strconv.ParseInt(m[1], 10, 64)
	if err != nil || err2 != nil || each <= 0 {
		return "", ""
	}
	each *= 2
	allowed := pages * int64(os.Getpagesize())
	if int64(most) <= allowed/each {
		return "", ""
	}
	return fmt.Sprintf("%d connections (limits.connections) with full buffers can use %d MiB in the kernel, which is short of memory above %d MiB (net.ipv4.tcp_mem)",
			most, int64(most)*each>>20, allowed>>20),
		fmt.Sprintf("limits.connections = %d, or raise net.ipv4.tcp_mem", allowed/each)
}
