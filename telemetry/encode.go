package telemetry

import (
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"
)

// appendJSON appends the record as one JSON object and a newline.
func appendJSON(b []byte, r *Record, redact []string) []byte {
	b = append(b, `{"time":"`...)
	b = appendTime(b, r.Time)
	b = append(b, `","id":"`...)
	b = appendEscaped(b, r.IDText())
	b = append(b, `","listener":"`...)
	b = appendEscaped(b, r.Listener)
	b = append(b, `","route":"`...)
	b = appendEscaped(b, r.Route)
	b = append(b, `","backend":"`...)
	b = appendEscaped(b, r.Backend)
	b = append(b, `","server":"`...)
	b = appendEscaped(b, r.Server)
	b = append(b, `","peer":"`...)
	b = appendPeer(b, r.Peer)
	b = append(b, `","client":"`...)
	b = appendAddr(b, r.Client)
	b = append(b, `","method":"`...)
	b = appendEscaped(b, r.Method)
	b = append(b, `","scheme":"`...)
	b = append(b, r.Scheme.String()...)
	b = append(b, `","host":"`...)
	b = appendEscaped(b, r.Host)
	b = append(b, `","path":"`...)
	b = appendPath(b, r.Path, redact)
	b = append(b, `","proto":"`...)
	b = append(b, r.Proto.String()...)
	b = append(b, '"')
	if r.Status != 0 {
		b = append(b, `,"status":`...)
		b = strconv.AppendInt(b, int64(r.Status), 10)
	}
	b = append(b, `,"bytes_in":`...)
	b = strconv.AppendInt(b, r.BytesIn, 10)
	b = append(b, `,"bytes_out":`...)
	b = strconv.AppendInt(b, r.BytesOut, 10)
	b = append(b, `,"duration_ms":`...)
	b = appendMillis(b, r.Duration)
	if r.BackendTime > 0 {
		b = append(b, `,"backend_ms":`...)
		b = appendMillis(b, r.BackendTime)
	}
	b = append(b, `,"tries":`...)
	b = strconv.AppendInt(b, int64(r.Tries), 10)
	b = append(b, `,"end":"`...)
	b = append(b, r.End.String()...)
	b = append(b, `","client_transport":"`...)
	b = appendEscaped(b, r.ClientTransport)
	b = append(b, `","server_transport":"`...)
	b = appendEscaped(b, r.ServerTransport)
	b = append(b, '"')
	b = appendRare(b, r)
	return append(b, '}', '\n')
}

// appendRare appends the fields that many exchanges do not have.
func appendRare(b []byte, r *Record) []byte {
	if r.ClientSubflows > 0 && r.ClientTransport == TransportMPTCP {
		b = append(b, `,"client_subflows":`...)
		b = strconv.AppendInt(b, int64(r.ClientSubflows), 10)
	}
	if r.ServerSubflows > 0 && r.ServerTransport == TransportMPTCP {
		b = append(b, `,"server_subflows":`...)
		b = strconv.AppendInt(b, int64(r.ServerSubflows), 10)
	}
	if r.TLSVersion != "" {
		b = append(b, `,"tls_version":"`...)
		b = appendEscaped(b, r.TLSVersion)
		b = append(b, `","tls_cipher":"`...)
		b = appendEscaped(b, r.TLSCipher)
		b = append(b, `","tls_group":"`...)
		b = appendEscaped(b, r.TLSGroup)
		b = append(b, `","tls_resumed":`...)
		b = strconv.AppendBool(b, r.TLSResumed)
	}
	if r.TLSVersion != "" || r.SNI != "" {
		b = append(b, `,"sni":"`...)
		b = appendEscaped(b, r.SNI)
		b = append(b, '"')
	}
	if r.Reason != "" {
		b = append(b, `,"reason":"`...)
		b = appendEscaped(b, r.Reason)
		b = append(b, '"')
	}
	if r.GRPCStatus >= 0 {
		b = append(b, `,"grpc_status":`...)
		b = strconv.AppendInt(b, int64(r.GRPCStatus), 10)
	}
	if r.DroppedFields > 0 {
		b = append(b, `,"dropped_fields":`...)
		b = strconv.AppendInt(b, int64(r.DroppedFields), 10)
	}
	return b
}

// appendTime appends RFC 3339 in UTC with all nine digits of the nanoseconds: lines then sort as
// text.
func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	b = appendDigits(b, year, 4)
	b = append(b, '-')
	b = appendDigits(b, int(month), 2)
	b = append(b, '-')
	b = appendDigits(b, day, 2)
	b = append(b, 'T')
	b = appendDigits(b, hour, 2)
	b = append(b, ':')
	b = appendDigits(b, minute, 2)
	b = append(b, ':')
	b = appendDigits(b, second, 2)
	b = append(b, '.')
	b = appendDigits(b, t.Nanosecond(), 9)
	return append(b, 'Z')
}

func appendDigits(b []byte, v, digits int) []byte {
	b = append(b, "000000000"[:digits]...)
	for i := len(b) - 1; v > 0 && digits > 0; i, digits = i-1, digits-1 {
		b[i] = byte('0' + v%10)
		v /= 10
	}
	return b
}

// appendMillis appends milliseconds with three decimals.
func appendMillis(b []byte, d time.Duration) []byte {
	us := max(d, 0).Microseconds()
	b = strconv.AppendInt(b, us/1000, 10)
	b = append(b, '.')
	return appendDigits(b, int(us%1000), 3)
}

// appendPeer appends address:port. A listener for both families sees IPv4 peers as mapped
// addresses; they are logged as what they are.
func appendPeer(b []byte, p netip.AddrPort) []byte {
	if !p.IsValid() {
		return b
	}
	if p.Addr().Zone() != "" { // an interface's name, which may hold anything
		return appendEscaped(b, p.String())
	}
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port()).AppendTo(b)
}

func appendAddr(b []byte, a netip.Addr) []byte {
	if !a.IsValid() {
		return b
	}
	if a.Zone() != "" {
		return appendEscaped(b, a.String())
	}
	return a.Unmap().AppendTo(b)
}

// plain has the bytes that stand for themselves in a JSON string and in a terminal.
var plain = func() (t [256]bool) {
	for c := 0x20; c < 0x7f; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

const hexDigits = "0123456789abcdef"

// appendEscaped appends the inside of a JSON string. As in encoding/json, a byte that is not part
// of valid UTF-8 becomes U+FFFD, and U+2028 and U+2029 are escaped; so are DEL and the C1 controls,
// which a terminal would act on.
func appendEscaped[S []byte | string](b []byte, s S) []byte {
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] {
			i++
			continue
		}
		b = append(b, s[start:i]...)
		if c < utf8.RuneSelf {
			b = appendEscapedByte(b, c)
			i++
		} else {
			r, size := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
			switch {
			case r == utf8.RuneError && size == 1:
				b = append(b, `\ufffd`...)
			case r < 0xa0 || r == 0x2028 || r == 0x2029:
				b = append(b, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
			default:
				b = append(b, s[i:i+size]...)
			}
			i += size
		}
		start = i
	}
	return append(b, s[start:]...)
}

func appendEscapedByte(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	}
	return append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}
