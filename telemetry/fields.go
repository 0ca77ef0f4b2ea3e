package telemetry

import "strconv"

// field is one field of the access log. Both formats, and the table in docs/access-log.md, are made
// from the fields that accessFields returns, in that order.
type field struct {
	name string
	doc  string // its meaning in docs/access-log.md; adjacent fields with the same text share a row
	form form
	when trait // what the exchange must have; 0: nothing
	// append appends the value, escaped like the inside of a JSON string. It does not allocate.
	append func(b []byte, r *Record) []byte

	json, text prefix // what precedes the value in a line; set by accessFields
}

// form is how the value of a field is written.
type form uint8

const (
	// JSON: a string, also an empty one; text: quoted if it needs to be, left out if empty
	formString form = iota
	formQuoted      // like formString, and always quoted in text
	formWord        // like formString, and never needs quotes in text
	formBare        // a number or a boolean
)

// trait is a set of properties of an exchange.
type trait uint16

const (
	hasStatus trait = 1 << iota
	hasBackendTime
	hasQueueTime
	hasHedged
	hasClientSubflows
	hasServerSubflows
	hasTLS
	hasSNI
	hasReason
	hasFilter
	hasInternalRoute
	hasDryRun
	hasGRPCStatus
	hasDroppedFields
)

func traitsOf(r *Record) (t trait) {
	if r.Status != 0 {
		t |= hasStatus
	}
	if r.BackendTime > 0 {
		t |= hasBackendTime
	}
	if r.QueueTime > 0 {
		t |= hasQueueTime
	}
	if r.Hedged != HedgeNone {
		t |= hasHedged
	}
	if r.ClientSubflows > 0 && r.ClientTransport == TransportMPTCP {
		t |= hasClientSubflows
	}
	if r.ServerSubflows > 0 && r.ServerTransport == TransportMPTCP {
		t |= hasServerSubflows
	}
	if r.TLSVersion != "" {
		t |= hasTLS | hasSNI
	}
	if r.SNI != "" {
		t |= hasSNI
	}
	if r.Reason != "" {
		t |= hasReason
	}
	if r.Filter != "" {
		t |= hasFilter
	}
	if r.InternalRoute != "" {
		t |= hasInternalRoute
	}
	if r.DryRun != "" {
		t |= hasDryRun
	}
	if r.GRPCStatus >= 0 {
		t |= hasGRPCStatus
	}
	if r.DroppedFields > 0 {
		t |= hasDroppedFields
	}
	return t
}

// accessFields are the fields of the access log. redact is AccessLogOptions.Redact; further fields
// follow the others.
func accessFields(redact []string, further ...LogField) []field {
	fields := []field{
		{name: "time", doc: "time of the request's first byte, RFC 3339 with nanoseconds", form: formWord,
			append: func(b []byte, r *Record) []byte { return appendTime(b, r.Time) }},
		{name: "id", doc: docID,
			append: appendID},
		{name: "listener", doc: docNames,
			append: func(b []byte, r *Record) []byte { return appendEscaped(b, r.Listener) }},
		{name: "route", doc: docNames,
			append: func(b []byte, r *Record) []byte { return appendEscaped(b, r.Route) }},
		{name: "backend", doc: docNames,
			append: func(b []byte, r *Record) []byte { return appendEscaped(b, r.Backend) }},
		{name: "server", doc: "address of the last server tried",
			append: func(b []byte, r *Record) []byte { return appendEscaped(b, r.Server) }},
		{name: "peer", doc: docPeer,
			append: func(b []byte, r *Record) []byte { return appendPeer(b, r.Peer) }},
		{name: "client", doc: "the client's address, after the PROXY header and the X-Forwarded-For of trusted proxies",
			append: func(b []byte, r *Record) []byte { return appendAddr(b, r.Client) }},
		{name: "method", doc: docRequest,
			append: func(b []byte, r *Record) []byte { return appendEscaped(b, r.Method) }},
		{name: "scheme", doc: docRequest, form: formWord,
			append: func(b []byte, r *Record) []byte { return append(b, r.Scheme.String()...) }},
		{name: "host", doc: docRequest,
			append: func(b []byte, r *Record) []byte { return appendEscaped(b, r.Host) }},
		{name: "path", doc: "path as received, with the query", form: formQuoted,
			append: func(b []byte, r *Record) []byte { return appendPath(b, r.Path, redact) }},
		{name: "proto", doc: "`HTTP/1.0`, `HTTP/1.1`, `HTTP/2.0`; `TLS` for a connection that is passed through by its server name, `TCP` for one of a [TCP listener](tcp.md)", form: formWord,
			append: func(b []byte, r *Record) []byte { return append(b, r.Proto.String()...) }},
		{name: "status", doc: "status sent to the client", form: formBare,
			when:   hasStatus,
			append: func(b []byte, r *Record) []byte { return appendInt(b, int64(r.Status)) }},
		{name: "bytes_in", doc: docBytes, form: formBare,
			append: func(b []byte, r *Record) []byte { return appendInt(b, r.BytesIn) }},
		{name: "bytes_out", doc: docBytes, form: formBare,
			append: func(b []byte, r *Record) []byte { return appendInt(b, r.BytesOut) }},
		{name: "duration_ms", doc: "from the first byte to the end of the exchange", form: formBare,
			append: func(b []byte, r *Record) []byte { return appendMillis(b, r.Duration) }},
		{name: "backend_ms", doc: "from the choice of a server to the head of its final response", form: formBare,
			when:   hasBackendTime,
			append: func(b []byte, r *Record) []byte { return appendMillis(b, r.BackendTime) }},
		{name: "queue_ms", doc: docQueue, form: formBare,
			when:   hasQueueTime,
			append: func(b []byte, r *Record) []byte { return appendMillis(b, r.QueueTime) }},
		{name: "tries", doc: "how often the request was sent to a server, or could not be sent because a connect failed", form: formBare,
			append: func(b []byte, r *Record) []byte { return appendInt(b, int64(r.Tries)) }},
		{name: "hedged", doc: docHedged, form: formWord,
			when:   hasHedged,
			append: func(b []byte, r *Record) []byte { return append(b, r.Hedged.String()...) }},
		{name: "end", doc: "how the exchange ended, see below", form: formWord,
			append: func(b []byte, r *Record) []byte { return append(b, r.End.String()...) }},
		{name: "client_transport", doc: docTransport, form: formWord,
			append: func(b []byte, r *Record) []byte { return appendEscaped(b, r.ClientTransport) }},
		{name: "server_transport", doc: docTransport, form: formWord,
			append: func(b []byte, r *Record) []byte { return appendEscaped(b, r.ServerTransport) }},
		{name: "client_subflows", doc: docSubflows, form: formBare,
			when:   hasClientSubflows,
			append: func(b []byte, r *Record) []byte { return appendInt(b, int64(r.ClientSubflows)) }},
		{name: "server_subflows", doc: docSubflows, form: formBare,
			when:   hasServerSubflows,
			append: func(b []byte, r *Record) []byte { return appendInt(b, int64(r.ServerSubflows)) }},
		{name: "tls_version", doc: docTLS, when: hasTLS,
			append: func(b []byte, r *Record) []byte { return appendEscaped(b, r.TLSVersion) }},
		{name: "tls_cipher", doc: docTLS, when: hasTLS, form: formWord,
			append: func(b []byte, r *Record) []byte { return appendEscaped(b, r.TLSCipher) }},
		{name: "tls_group", doc: docTLS, when: hasTLS, form: formWord,
			append: func(b []byte, r *Record) []byte { return appendEscaped(b, r.TLSGroup) }},
		{name: "tls_resumed", doc: docTLS, when: hasTLS, form: formBare,
			append: func(b []byte, r *Record) []byte { return strconv.AppendBool(b, r.TLSResumed) }},
		{name: "sni", doc: "server name that the client requested",
			when:   hasSNI,
			append: func(b []byte, r *Record) []byte { return appendEscaped(b, r.SNI) }},
		{name: "reason", doc: docReason,
			when:   hasReason,
			append: func(b []byte, r *Record) []byte { return appendEscaped(b, r.Reason) }},
		{name: "filter", doc: "if a filter of the route ended the exchange: its key in the configuration",
			when:   hasFilter,
			append: func(b []byte, r *Record) []byte { return appendEscaped(b, r.Filter) }},
		{name: "internal_route", doc: "route to which the [X-Accel-Redirect](filters/accel_redirect.md) of a server led",
			when:   hasInternalRoute,
			append: func(b []byte, r *Record) []byte { return appendEscaped(b, r.InternalRoute) }},
		{name: "dry_run", doc: docDryRun, form: formWord,
			when:   hasDryRun,
			append: func(b []byte, r *Record) []byte { return append(b, r.DryRun...) }},
		{name: "grpc_status", doc: "status of a gRPC response", form: formBare,
			when:   hasGRPCStatus,
			append: func(b []byte, r *Record) []byte { return appendInt(b, int64(r.GRPCStatus)) }},
		{name: "dropped_fields", doc: docDropped, form: formBare,
			when:   hasDroppedFields,
			append: func(b []byte, r *Record) []byte { return appendInt(b, int64(r.DroppedFields)) }},
	}
	for _, f := range further {
		fields = append(fields, headerField(f, redact))
	}
	for i := range fields {
		fields[i].setPrefixes(i == 0)
	}
	return fields
}

// The meanings that several fields share, or that are too long for the table.
const (
	docID = "identifier of the exchange, sent to the server as X-Request-ID and shown in error responses of mpgate. " +
		"A peer in `trusted_proxies` may set it by an X-Request-ID of up to 128 letters, digits and `-_.:+/=`"
	docNames = "names from the configuration. When mpgate answers a request itself, `route` and `backend` are still " +
		"those of the route that matches, and `server` is empty"
	docPeer = "address and port at the other end of the client's connection: of the client, or of a proxy in between; " +
		"a link-local address has its zone (`fe80::1%eth0`) in this field only"
	docRequest   = "of the request"
	docBytes     = "body bytes received from and sent to the client"
	docTransport = "`mptcp`, `tcp`, `unix`, or `fallback`: MPTCP was requested and the connection uses TCP"
	docHedged    = "if a [second copy](backends.md#hedged-requests) of the request was sent: `won` if it was answered first, otherwise `lost`"
	docQueue     = "time that the request waited because all servers were [busy](backends.md#queues-and-limits)"
	docSubflows  = "with `mptcp`: number of subflows, read at most one second before"
	docTLS       = "with TLS: what was negotiated with the client"
	docReason    = "for an error response of mpgate: its text, for example `the path matches another route without its parameters`"
	docDryRun    = "key of the first [limit](filters/limit.md) that the exchange exceeded, and that would have ended it without `dry_run`"
	docDropped   = "number of header fields removed because their names have characters other than letters, digits and `-`"
)
