package proxy

import (
	"errors"
	"sync/atomic"
	"time"

	"mpgate/proxy/backend"
	"mpgate/telemetry"
)

// shortageText is the reason in the answer to a client.
var shortageText = [...]string{
	telemetry.ShortConnections: "the gateway has too many connections to servers",
	telemetry.ShortDescriptors: "the gateway has no file descriptor left",
	telemetry.ShortPorts:       "the gateway has no local port left for the server",
	telemetry.ShortBuffers:     "the gateway's host has no memory left for connections",
	telemetry.ShortMemory:      "the gateway has no memory left for the request",
}

// remedies tell operators what to do about a shortage.
var remedies = [...]string{
	telemetry.ShortConnections: "raise the file descriptor limit of the process " +
		"(RLIMIT_NOFILE, LimitNOFILE= of the unit), or lower limits.connections",
	telemetry.ShortDescriptors: "raise the file descriptor limit of the process " +
		"(RLIMIT_NOFILE, LimitNOFILE= of the unit) or of the system (fs.file-max)",
	telemetry.ShortPorts: "widen net.ipv4.ip_local_port_range, " +
		"give the backend more servers or addresses, or enable keep-alive on its servers",
	telemetry.ShortBuffers: "check net.ipv4.tcp_mem and the memory of the host",
	telemetry.ShortMemory: "raise the memory limit of the control group " +
		"(MemoryMax= of the unit, --memory of the container)",
}

// shortageLog counts exchanges that are refused for a shortage, and logs each kind at most once a
// minute.
type shortageLog struct {
	lastLogged [len(remedies)]atomic.Int64 // ns since 1970
	unlogged   [len(remedies)]atomic.Int64
}

// recordShortage counts and logs a refused exchange, if err is a shortage.
func (p *Proxy) recordShortage(err error) {
	var short *backend.ShortError
	if !errors.As(err, &short) {
		return
	}
	of := short.Of
	if m := p.options.Instruments; m != nil {
		m.Shed(of)
	}
	s := &p.shortages
	n := s.unlogged[of].Add(1)
	now, told := time.Now().UnixNano(), s.lastLogged[of].Load()
	if told != 0 && now-told < int64(time.Minute) || !s.lastLogged[of].CompareAndSwap(told, now) {
		return
	}
	s.unlogged[of].Add(-n)
	p.options.Logger.Warn("requests are refused with 503: "+shortageText[of],
		"reason", of.String(), "requests", n, "err", short.Err, "remedy", remedies[of])
}
