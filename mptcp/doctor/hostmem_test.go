package doctor

import (
	"fmt"
	"os"
	"testing"
)

func TestConnectionsThatTheHostIsTooSmallFor(t *testing.T) {
	const rmem = "4096\t131072\t33554432"
	mem := fmt.Sprintf("1\t%d\t1000000", (512<<20)/os.Getpagesize())
	for _, tt := range []struct {
		most         int
		rmem, mem    string
		what, remedy string
	}{
		{2048, rmem, mem, "", ""},
		{2049, rmem, mem, "2049 connections (limits.connections) with full buffers can use 512 MiB in the kernel, which is short of memory above 512 MiB (net.ipv4.tcp_mem)",
			"limits.connections = 2048, or raise net.ipv4.tcp_mem"},
		{0, rmem, mem, "", ""},
		{1 << 20, rmem, "", "", ""},
		{1 << 20, "", mem, "", ""},
		{1 << 20, "a b c", mem, "", ""},
	} {
		if what, remedy := tooManyConnections(tt.most, tt.rmem, tt.mem); what != tt.what || remedy != tt.remedy {
			t.Errorf("%d connections, tcp_rmem %q, tcp_mem %q: %q, remedy %q", tt.most, tt.rmem, tt.mem, what, remedy)
		}
	}
}
