package telemetry

import "github.com/prometheus/client_golang/prometheus"

var (
	descKernel      = desc("kernel_mptcp_total", "MPTcpExt counters of the kernel, for the whole network namespace.", "counter")
	descEstablished = desc("kernel_mptcp_established", "Established MPTCP connections in the network namespace (MPCurrEstab).")
)

// kernelCollector reads the kernel's counters at scrape.
type kernelCollector struct{}

func (kernelCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- descKernel
	ch <- descEstablished
}

func (kernelCollector) Collect(ch chan<- prometheus.Metric) {
	s := sink(ch)
	// An error omits them: if /proc/net is hidden, the other metrics are still useful.
	_ = kernelMPTCP(func(name string, value uint64) {
		if name == "MPCurrEstab" { // the only one that can decrease
			s.gauge(descEstablished, float64(value))
			return
		}
		s.counter(descKernel, value, name)
	})
}
