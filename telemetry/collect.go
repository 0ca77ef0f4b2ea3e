package telemetry

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("mpgate_"+name, help, labels, nil)
}

var (
	descRequests    = desc("http_requests_total", "HTTP requests, by status code sent; code is empty if none was sent.", "listener", "route", "method", "code")
	descDuration    = desc("http_request_duration_seconds", "Time from the first byte of a request to the end of its exchange.", "listener", "route")
	descInFlight    = desc("http_requests_in_flight", "HTTP exchanges in progress, including upgraded connections.", "listener", "route")
	descPassing     = desc("passthrough_connections_open", "Open connections that are passed through.", "listener", "route")
	descExchanges   = desc("exchanges_total", "Exchanges, including passed-through connections, by how they ended.", "listener", "route", "end")
	descBytes       = desc("exchange_body_bytes_total", "Body bytes received from clients (in) and sent to clients (out).", "listener", "route", "direction")
	descFilterEnded = desc("filter_ended_requests_total", "Requests that a filter of the route ended.", "listener", "route", "filter", "code")
	descDropped     = desc("header_fields_dropped_total", "Header fields removed from requests because of their names.", "listener", "route")

	descCompressed      = desc("compress_bytes_total", "Body bytes of responses that were compressed, before and after that.", "encoding", "stage")
	descCompressRefused = desc("compress_refused_total", "Responses that were not compressed because the memory for encoders was used up.")

	descConnections     = desc("connections_total", "Connections accepted, by how they ended; counted at their end.", "listener", "end")
	descConnectionsOpen = desc("connections_open", "Open client connections.", "listener")
	descHandshakes      = desc("tls_handshakes_total", "Successful TLS handshakes.", "listener", "version", "resumed")
	descTLSErrors       = desc("tls_handshake_errors_total", "Failed TLS handshakes, by reason.", "listener", "reason")

	descBackendRequests = desc("backend_requests_total", "Requests to servers, by status code received; code is empty if none was received.", "backend", "server", "code")
	descBackendInFlight = desc("backend_requests_in_flight", "Requests to servers in progress.", "backend", "server")
	descBackendFirst    = desc("backend_first_byte_seconds", "Time from the choice of a server to the head of its final response.", "backend", "server")
	descBackendRetries  = desc("backend_retries_total", "Requests sent to this server after another attempt had failed.", "backend", "server")
	descBackendConnects = desc("backend_connects_total", "Connection attempts to servers, by result and transport; for failed ones, the transport requested.", "backend", "server", "transport", "result")
	descBackendOpen     = desc("backend_connections_open", "Open connections to servers.", "backend", "server")
	descBackendIdle     = desc("backend_connections_idle", "Idle connections to servers.", "backend", "server")
	descBackendUp       = desc("backend_server_up", "0 while the server gets no requests because it cannot be reached, fails its checks or was ejected; otherwise 1.", "backend", "server")
	descBackendDrained  = desc("backend_server_drained", "1 if an operator has asked for no new requests to the server, otherwise 0.", "backend", "server")
	descBackendChanges  = desc("backend_server_changes_total", "Times that the server got requests again (up), none from then on (down) or no new clients (drain), by reason.", "backend", "server", "state", "reason")
	descBackendChecks   = desc("backend_server_checks_total", "Checks of the server, by result.", "backend", "server", "result")
	descBackendPanic    = desc("backend_panic", "1 while fewer than half of the servers are healthy, so that failed checks and ejections do not count; otherwise 0.", "backend")
	descQueueRequests   = desc("backend_queue_requests", "Requests that wait for a place at a server.", "backend")
	descQueueTime       = desc("backend_queue_seconds", "Time that requests waited for a place at a server, whatever the outcome.", "backend")
	descQueued          = desc("backend_queued_requests_total", "Requests that no server had a place for at once, by outcome.", "backend", "result")
	descNameFound       = desc("backend_name_addresses", "Addresses, or SRV records, that the name of servers stands for.", "backend", "name")
	descNameTime        = desc("backend_name_success_timestamp_seconds", "Time of the last lookup of the name that found something.", "backend", "name")
	descNameLookups     = desc("backend_name_lookups_total", "Lookups of the name, by result.", "backend", "name", "result")
	descRetriesRefused  = desc("backend_retries_refused_total", "Requests that were not sent again because the budget of retries was used up.", "backend")
	descHedged          = desc("backend_hedged_requests_total", "Second copies of requests that had no answer in time, by outcome; over_budget: not sent.", "backend", "result")

	descMPTCP         = desc("mptcp_connections_total", "Connections, by transport; counted at their end.", "side", "result")
	descFallbacks     = desc("mptcp_fallbacks_total", "Connections that should use MPTCP and do not, by inferred reason.", "side", "reason")
	descSubflows      = desc("mptcp_subflows", "Subflows of open MPTCP connections, as last read.", "side")
	descReceiveStalls = desc("mptcp_receive_stalls_total", "Stalls with a receive buffer full of out-of-order data that mpgate ended by enlarging the buffer.", "side")
	descPlainDials    = desc("mptcp_plain_dials_total", "Connection attempts that did not request MPTCP, because the server had answered without it or MPTCP SYNs were dropped.")

	descPathUp       = desc("path_up", "1 if the path is up, 0 if it is down, silent or unjoined.", "path")
	descPathBytes    = desc("path_bytes_total", "Bytes that subflows of the path sent (including retransmissions) and received.", "path", "direction")
	descPathRetrans  = desc("path_retransmitted_bytes_total", "Bytes that subflows of the path retransmitted.", "path")
	descPathSubflows = desc("path_subflows", "Open subflows of the path.", "path")
	descPathOpened   = desc("path_subflows_opened_total", "Subflows established on the path.", "path")
	descPathClosed   = desc("path_subflows_closed_total", "Subflows of the path that ended, for any reason.", "path")
	descPathFailed   = desc("path_subflows_failed_total", "Subflows of the path that ended with an error, including those ended by a fail-over.", "path")
	descPathCuts     = desc("path_cuts_total", "Fail-overs: the path was considered down and its subflows were ended.", "path")
	descPathReturns  = desc("path_returns_total", "Number of times the path came back.", "path")
	descPathGap      = desc("path_failover_gap_seconds", "Time that data was stuck on the path until a fail-over: from the last acknowledgement of a silent path, or from the notification that its link went down.", "path")

	descFailing       = desc("tls_certificate_failing", "1 if the last attempt to renew or reload the certificate failed, otherwise 0.", "name")
	descCertificate   = desc("tls_certificate_not_after_timestamp_seconds", "Time at which the certificate expires.", "name")
	descReloadOK      = desc("reload_success", "1 if the last load of the configuration succeeded, 0 if it failed.")
	descReloadTime    = desc("reload_success_timestamp_seconds", "Time of the last successful load of the configuration.")
	descReloadAttempt = desc("reload_attempt_timestamp_seconds", "Time of the last attempt to load the configuration.")
	descReloads       = desc("reloads_total", "Loads of the configuration, including the first one.", "result")
	descGeneration    = desc("config_generation", "Number of the active generation of the configuration.")
	descDraining      = desc("config_generations_draining", "Old generations that still have exchanges or connections to finish.")

	descLimitExceeded = desc("limit_exceeded_requests_total", "Requests beyond a limit of the route; with dry_run they were served.", "route", "limit", "dry_run")
	descLimitShared   = desc("limit_shared_requests_total", "Requests whose key found no room in the table of a limit and was counted together with others.", "route")
	descMirror        = desc("mirror_requests_total", "Copies of requests for another backend, by result.", "route", "backend", "result")

	descAuth           = desc("auth_requests_total", "Requests that a filter for authentication decided, by result.", "route", "filter", "result")
	descAuthSourceOK   = desc("auth_source_success", "1 if the last attempt to read the users or keys succeeded, otherwise 0.", "source")
	descAuthSourceTime = desc("auth_source_success_timestamp_seconds", "Time at which the users or keys in use were read.", "source")

	descLogDropped   = desc("log_dropped_total", "Access log lines dropped because the destination blocked or failed.")
	descLogErrors    = desc("log_errors_total", "Failed attempts to write or reopen the access log.")
	descOwnDropped   = desc("program_log_dropped_total", "Lines of the program's own log dropped because standard error blocked for 100 ms.")
	descPanics       = desc("panics_total", "Exchanges and connections that ended by a panic.")
	descTaskPanics   = desc("task_panics_total", "Panics in other tasks of the gateway.")
	descAcceptErrors = desc("accept_errors_total", "Failed accepts.")
	descShed         = desc("shed_total", "Exchanges refused because of a resource shortage of mpgate or its host, by reason.", "reason")
	descBuildInfo    = desc("build_info", "Always 1; the labels identify the build.", "version", "revision", "goversion")
)

var descs = []*prometheus.Desc{
	descRequests, descDuration, descInFlight, descPassing, descExchanges, descBytes, descFilterEnded, descDropped,
	descCompressed, descCompressRefused,
	descConnections, descConnectionsOpen, descHandshakes, descTLSErrors,
	descBackendRequests, descBackendInFlight, descBackendFirst, descBackendRetries, descBackendConnects, descBackendOpen, descBackendIdle, descBackendUp,
	descBackendDrained, descBackendChanges, descBackendChecks, descBackendPanic,
	descQueueRequests, descQueueTime, descQueued, descRetriesRefused, descHedged, descNameFound, descNameTime, descNameLookups,
	descMPTCP, descFallbacks, descSubflows, descReceiveStalls, descPlainDials,
	descPathUp, descPathBytes, descPathRetrans, descPathSubflows, descPathOpened, descPathClosed, descPathFailed, descPathCuts, descPathReturns, descPathGap,
	descFailing, descCertificate, descReloadOK, descReloadTime, descReloadAttempt, descReloads, descGeneration, descDraining,
	descLimitExceeded, descLimitShared, descMirror,
	descAuth, descAuthSourceOK, descAuthSourceTime,
	descLogDropped, descLogErrors, descOwnDropped, descPanics, descTaskPanics, descAcceptErrors, descShed, descBuildInfo,
}

// Describe implements prometheus.Collector.
func (in *Instruments) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descs {
		ch <- d
	}
}

// sink sends constant metrics to a scrape.
type sink chan<- prometheus.Metric

func (s sink) counter(d *prometheus.Desc, v uint64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func (s sink) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

// level sends a gauge if the configuration still has its subject, or if it is not zero.
func (s sink) level(d *prometheus.Desc, v int64, inUse bool, labels ...string) {
	if inUse || v != 0 {
		s.gauge(d, float64(v), labels...)
	}
}

func (s sink) histogram(d *prometheus.Desc, h *histogram, labels ...string) {
	count, sum, buckets := h.read()
	s <- prometheus.MustNewConstHistogram(d, count, sum, buckets, labels...)
}

// Collect implements prometheus.Collector.
func (in *Instruments) Collect(ch chan<- prometheus.Metric) {
	s := sink(ch)
	for _, e := range in.exchanges.all() {
		e.meter.collect(s, e.inUse)
	}
	for _, e := range in.servers.all() {
		e.meter.collect(s, e.inUse)
	}
	for _, e := range in.backends.all() {
		e.meter.collect(s, e.inUse)
	}
	for _, e := range in.healths.all() {
		e.meter.collect(s, e.inUse)
	}
	for _, e := range in.listeners.all() {
		e.meter.collect(s, e.inUse)
	}
	for _, e := range in.limits.all() {
		e.meter.collect(s)
	}
	for _, e := range in.mirrors.all() {
		e.meter.collect(s)
	}
	for _, e := range in.auths.all() {
		e.meter.collect(s)
	}
	for _, e := range in.authSources.all() {
		e.meter.collect(s)
	}
	for side := range in.mptcp {
		in.mptcp[side].collect(s, sideNames[side])
	}
	in.collectPaths(s)
	in.collectNames(s)
	in.collectState(s)
	s.counter(descLogDropped, in.LogDropped.Value())
	s.counter(descLogErrors, in.LogErrors.Value())
	s.counter(descPanics, in.Panics.Value())
	s.counter(descTaskPanics, in.TaskPanics.Value())
	s.counter(descAcceptErrors, in.AcceptErrors.Value())
	in.Compress.collect(s)
	for i := range in.shed {
		s.counter(descShed, in.shed[i].Value(), shortageNames[i])
	}
	ch <- in.buildInfo
}

// collect omits pairs without an exchange: with 10,000 routes that is most of them, with 20 series
// each.
func (m *ExchangeMeter) collect(s sink, inUse bool) {
	if !m.used() {
		return
	}
	l, r := m.key.listener, m.key.route
	for end := range m.ends {
		if n := m.ends[end].Load(); n > 0 {
			s.counter(descExchanges, n, l, r, ends[end].name)
		}
	}
	s.counter(descBytes, m.bytesIn.Load(), l, r, "in")
	s.counter(descBytes, m.bytesOut.Load(), l, r, "out")
	if m.key.passthrough {
		s.level(descPassing, m.InFlight(), inUse, l, r)
		return
	}
	s.level(descInFlight, m.InFlight(), inUse, l, r)
	s.histogram(descDuration, &m.duration, l, r)
	s.counter(descDropped, m.dropped.Load(), l, r)
	for i := range m.methods {
		if c := m.methods[i].Load(); c != nil {
			c.each(func(code int, n uint64) { s.counter(descRequests, n, l, r, methodNames[i], codeLabel(code)) })
		}
	}
	for name, c := range m.endedBy() {
		c.each(func(code int, n uint64) { s.counter(descFilterEnded, n, l, r, name, codeLabel(code)) })
	}
}

// collect sends only whether it is up for a server that was never dialled: with 500 backends that
// is most of them, with 20 series each.
func (m *ServerMeter) collect(s sink, inUse bool) {
	b, srv := m.key.backend, m.key.server
	m.health.collect(s, inUse, b, srv)
	if !m.used() {
		return
	}
	m.codes.each(func(code int, n uint64) { s.counter(descBackendRequests, n, b, srv, codeLabel(code)) })
	for t := range m.connects {
		for r := range m.connects[t] {
			if n := m.connects[t][r].Load(); n > 0 {
				s.counter(descBackendConnects, n, b, srv, transportNames[t], connectNames[r])
			}
		}
	}
	s.level(descBackendInFlight, m.inFlight.Load(), inUse, b, srv)
	s.level(descBackendOpen, m.open.Load(), inUse, b, srv)
	s.level(descBackendIdle, m.idle.Load(), inUse, b, srv)
	s.counter(descBackendRetries, m.retries.Load(), b, srv)
	s.histogram(descBackendFirst, &m.firstByte, b, srv)
}

func (m *ListenerMeter) collect(s sink, inUse bool) {
	s.level(descConnectionsOpen, m.open.Load(), inUse, m.name)
	for end := range m.ends {
		if n := m.ends[end].Load(); n > 0 || end == int(ConnOK) {
			s.counter(descConnections, n, m.name, connEndNames[end])
		}
	}
	for reason := range m.tlsErrors {
		if n := m.tlsErrors[reason].Load(); n > 0 {
			s.counter(descTLSErrors, n, m.name, tlsErrorNames[reason])
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, n := range m.handshakes {
		s.counter(descHandshakes, n, m.name, k.version, strconv.FormatBool(k.resumed))
	}
}

func (m *mptcpMeter) collect(s sink, side string) {
	for i := range m.results {
		s.counter(descMPTCP, m.results[i].Load(), side, mptcpResults[i])
	}
	for i := range m.reasons {
		s.counter(descFallbacks, m.reasons[i].Load(), side, fallbackReasons[i])
	}
	s.gauge(descSubflows, float64(m.subflows.Load()), side)
	s.counter(descReceiveStalls, m.receiveStalls.Load(), side)
}

// collectState sends what is set rather than counted.
func (in *Instruments) collectState(s sink) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for name, at := range in.certificates {
		s.gauge(descCertificate, seconds(at), name)
	}
	for name, failing := range in.failing {
		s.gauge(descFailing, boolValue(failing), name)
	}
	s.gauge(descDraining, float64(in.draining))
	s.counter(descOwnDropped, in.ownDropped.Value())
	r := in.reload
	if !r.tried {
		return
	}
	s.gauge(descReloadOK, boolValue(r.ok))
	s.gauge(descReloadAttempt, seconds(r.at))
	if !r.okAt.IsZero() {
		s.gauge(descReloadTime, seconds(r.okAt))
	}
	s.gauge(descGeneration, float64(r.generation))
	s.counter(descReloads, r.total[0], "refused")
	s.counter(descReloads, r.total[1], "ok")
}

func boolValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func codeLabel(code int) string {
	if code == 0 {
		return ""
	}
	return strconv.Itoa(code)
}
