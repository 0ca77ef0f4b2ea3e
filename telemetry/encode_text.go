package telemetry

import (
	"bytes"
	"strconv"
)

// appendText appends the record as key=value pairs and a newline: the fields of the JSON form under
// the same names, without the empty ones, quoted like JSON strings where that is needed to read
// them back.
func appendText(b []byte, r *Record, redact []string) []byte {
	b = append(b, "time="...)
	b = appendTime(b, r.Time)
	b = appendPair(b, " id=", r.IDText())
	b = appendPair(b, " listener=", r.Listener)
	b = appendPair(b, " route=", r.Route)
	b = appendPair(b, " backend=", r.Backend)
	b = appendPair(b, " server=", r.Server)
	if r.Peer.IsValid() {
		var room [80]byte
		b = appendPair(b, " peer=", appendPeer(room[:0], r.Peer))
	}
	if r.Client.IsValid() {
		var room [80]byte
		b = appendPair(b, " client=", appendAddr(room[:0], r.Client))
	}
	b = appendPair(b, " method=", r.Method)
	b = appendPair(b, " scheme=", r.Scheme.String())
	b = appendPair(b, " host=", r.Host)
	if len(r.Path) > 0 {
		b = append(b, ` path="`...)
		b = appendPath(b, r.Path, redact)
		b = append(b, '"')
	}
	b = appendPair(b, " proto=", r.Proto.String())
	if r.Status != 0 {
		b = append(b, " status="...)
		b = strconv.AppendInt(b, int64(r.Status), 10)
	}
	b = append(b, " bytes_in="...)
	b = strconv.AppendInt(b, r.BytesIn, 10)
	b = append(b, " bytes_out="...)
	b = strconv.AppendInt(b, r.BytesOut, 10)
	b = append(b, " duration_ms="...)
	b = appendMillis(b, r.Duration)
	if r.BackendTime > 0 {
		b = append(b, " backend_ms="...)
		b = appendMillis(b, r.BackendTime)
	}
	b = append(b, " tries="...)
	b = strconv.AppendInt(b, int64(r.Tries), 10)
	b = append(b, " end="...)
	b = append(b, r.End.String()...)
	b = appendTextRare(b, r)
	return append(b, '\n')
}

func appendTextRare(b []byte, r *Record) []byte {
	b = appendPair(b, " client_transport=", r.ClientTransport)
	b = appendPair(b, " server_transport=", r.ServerTransport)
	if r.ClientSubflows > 0 && r.ClientTransport == TransportMPTCP {
		b = append(b, " client_subflows="...)
		b = strconv.AppendInt(b, int64(r.ClientSubflows), 10)
	}
	if r.ServerSubflows > 0 && r.ServerTransport == TransportMPTCP {
		b = append(b, " server_subflows="...)
		b = strconv.AppendInt(b, int64(r.ServerSubflows), 10)
	}
	if r.TLSVersion != "" {
		b = appendPair(b, " tls_version=", r.TLSVersion)
		b = appendPair(b, " tls_cipher=", r.TLSCipher)
		b = appendPair(b, " tls_group=", r.TLSGroup)
		b = append(b, " tls_resumed="...)
		b = strconv.AppendBool(b, r.TLSResumed)
	}
	b = appendPair(b, " sni=", r.SNI)
	b = appendPair(b, " reason=", r.Reason)
	if r.GRPCStatus >= 0 {
		b = append(b, " grpc_status="...)
		b = strconv.AppendInt(b, int64(r.GRPCStatus), 10)
	}
	if r.DroppedFields > 0 {
		b = append(b, " dropped_fields="...)
		b = strconv.AppendInt(b, int64(r.DroppedFields), 10)
	}
	return b
}

func appendPair[S []byte | string](b []byte, key string, value S) []byte {
	if len(value) == 0 {
		return b
	}
	b = append(b, key...)
	for i := 0; i < len(value); i++ {
		if c := value[i]; !plain[c] || c == ' ' || c == '=' {
			b = append(b, '"')
			b = appendEscaped(b, value)
			return append(b, '"')
		}
	}
	return append(b, value...)
}

// appendPath appends the target as received, less the values of the query parameters to hide.
func appendPath(b, path []byte, redact []string) []byte {
	query := -1
	if len(redact) > 0 {
		query = bytes.IndexByte(path, '?')
	}
	if query < 0 {
		return appendEscaped(b, path)
	}
	b = appendEscaped(b, path[:query+1])
	for rest := path[query+1:]; ; {
		pair, more, found := bytes.Cut(rest, []byte{'&'})
		if name, _, hasValue := bytes.Cut(pair, []byte{'='}); hasValue && hidden(name, redact) {
			b = appendEscaped(b, name)
			b = append(b, "=***"...)
		} else {
			b = appendEscaped(b, pair)
		}
		if !found {
			return b
		}
		b = append(b, '&')
		rest = more
	}
}

func hidden(name []byte, redact []string) bool {
	for _, want := range redact {
		if sameName(name, want) {
			return true
		}
	}
	return false
}

// sameName compares a parameter's name as a server would decode it, without regard to case.
func sameName(name []byte, want string) bool {
	for i := 0; i < len(want); i++ {
		if len(name) == 0 {
			return false
		}
		c, used := name[0], 1
		if c == '%' && len(name) >= 3 {
			if v, err := strconv.ParseUint(string(name[1:3]), 16, 8); err == nil {
				c, used = byte(v), 3
			}
		} else if c == '+' {
			c = ' '
		}
		if lower(c) != lower(want[i]) {
			return false
		}
		name = name[used:]
	}
	return len(name) == 0
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
