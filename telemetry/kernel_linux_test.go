package telemetry

import (
	"maps"
	"os"
	"strings"
	"testing"

	"mpgate/internal/need"
)

func TestParseNetstat(t *testing.T) {
	const text = "TcpExt: A B\nTcpExt: 1 2\nMPTcpExt: MPCapableSYNRX MPCapableSYNTX Odd New\nMPTcpExt: 3 18446744073709551615 -1 7 8\n"
	got := map[string]uint64{}
	parseNetstat([]byte(text), "MPTcpExt:", func(n string, v uint64) { got[n] = v })
	if want := map[string]uint64{"MPCapableSYNRX": 3, "MPCapableSYNTX": 1<<64 - 1, "New": 7}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	parseNetstat([]byte("MPTcpExt: A B\n"), "MPTcpExt:", func(n string, v uint64) { t.Errorf("%s=%d without values", n, v) })
}

func TestKernelMPTCP(t *testing.T) {
	text, err := os.ReadFile("/proc/net/netstat")
	if err != nil || !strings.Contains(string(text), "MPTcpExt:") {
		need.Missing(t, "this kernel has no MPTcpExt counters (%v): it does not support MPTCP", err)
	}
	got := map[string]uint64{}
	if err := kernelMPTCP(func(n string, v uint64) { got[n] = v }); err != nil {
		t.Fatal(err)
	}
	if _, ok := got["MPCapableSYNRX"]; !ok {
		t.Errorf("MPCapableSYNRX is not among %v", got)
	}
	series := gather(t, NewInstruments("1"))
	if _, ok := series[`kernel_mptcp_total{counter="MPCapableSYNRX"}`]; !ok {
		t.Error("kernel_mptcp_total is missing")
	}
}
