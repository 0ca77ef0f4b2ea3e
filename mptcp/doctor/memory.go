package doctor

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// memory checks whether the TCP sockets of the host have used up their memory. The kernel then
// drops incoming data, and connections stall for seconds, on all paths.
func (e *examination) memory() {
	stat, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		return
	}
	e.checkMemory(string(stat), sysctl("net.ipv4.tcp_mem"))
}

func (e *examination) checkMemory(sockstat, tcpMem string) {
	limits := strings.Fields(tcpMem)
	if len(limits) != 3 {
		return
	}
	pressure, err := strconv.ParseUint(limits[1], 10, 63)
	used, ok := tcpPages(sockstat)
	if err != nil || !ok || used < pressure {
		return
	}
	e.add(Warning, "memory", "", fmt.Sprintf("TCP sockets of this host use %d pages; above %d the kernel is short of memory for them, drops incoming data, and connections stall for seconds", used, pressure),
		fmt.Sprintf(`sysctl -w net.ipv4.tcp_mem="%s %d %d"; ss -tm shows the memory of each socket`, limits[1], 2*pressure, 3*pressure))
}

// tcpPages returns how many pages TCP uses, by /proc/net/sockstat.
func tcpPages(sockstat string) (uint64, bool) {
	for line := range strings.Lines(sockstat) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "TCP:" {
			continue
		}
		for i := 1; i+1 < len(fields); i += 2 {
			if fields[i] == "mem" {
				n, err := strconv.ParseUint(fields[i+1], 10, 64)
				return n, err == nil
			}
		}
	}
	return 0, false
}
