package telemetry

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func sample() *Record {
	r := new(Record)
	r.Reset()
	r.Time = time.Date(2026, 11, 24, 6, 3, 5, 42, time.FixedZone("", 3600))
	copy(r.ID[:], "0123456789abcdef0123456789abcdef")
	r.Listener, r.Route, r.Backend, r.Server = "web", "api", "app", "10.0.1.10:8080"
	r.Peer = netip.MustParseAddrPort("192.0.2.7:40000")
	r.Client = netip.MustParseAddr("2001:db8::1")
	r.Method, r.Host, r.Path = []byte("GET"), []byte("example.org"), []byte("/api/v1/things?q=1")
	r.Scheme, r.Proto = SchemeHTTPS, ProtoHTTP11
	r.Status, r.BytesIn, r.BytesOut = 200, 7, 1024
	r.Duration, r.BackendTime, r.Tries = 1234567*time.Nanosecond, 900*time.Microsecond, 1
	r.End = EndOK
	r.ClientTransport, r.ServerTransport, r.ClientSubflows = TransportMPTCP, TransportTCP, 2
	r.TLSVersion, r.TLSCipher, r.TLSGroup, r.SNI = "TLS 1.3", "TLS_AES_128_GCM_SHA256", "X25519MLKEM768", "example.org"
	return r
}

func TestJSONLine(t *testing.T) {
	const want = `{"time":"2026-11-24T05:03:05.000000042Z","id":"0123456789abcdef0123456789abcdef","listener":"web","route":"api",` +
		`"backend":"app","server":"10.0.1.10:8080","peer":"192.0.2.7:40000","client":"2001:db8::1","method":"GET","scheme":"https",` +
		`"host":"example.org","path":"/api/v1/things?q=1","proto":"HTTP/1.1","status":200,"bytes_in":7,"bytes_out":1024,` +
		`"duration_ms":1.234,"backend_ms":0.900,"tries":1,"end":"ok","client_transport":"mptcp","server_transport":"tcp",` +
		`"client_subflows":2,"tls_version":"TLS 1.3","tls_cipher":"TLS_AES_128_GCM_SHA256","tls_group":"X25519MLKEM768",` +
		`"tls_resumed":false,"sni":"example.org"}` + "\n"
	if got := string(appendJSON(nil, accessFields(nil), sample())); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestJSONLineOfNothing(t *testing.T) {
	var r Record
	r.Reset()
	const want = `{"time":"","id":"","listener":"","route":"","backend":"","server":"","peer":"","client":"","method":"","scheme":"",` +
		`"host":"","path":"","proto":"","bytes_in":0,"bytes_out":0,"duration_ms":0.000,"tries":0,"end":"internal",` +
		`"client_transport":"","server_transport":""}` + "\n"
	if got := string(appendJSON(nil, accessFields(nil), &r)); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestTextLine(t *testing.T) {
	r := sample()
	r.Host = []byte("a b=\"c\"\x1b[2J")
	r.GRPCStatus, r.DroppedFields, r.Reason, r.Filter = 0, 3, "nothing is served here", "allow"
	r.GivenID = []byte("7b3e:1=")
	const want = `time=2026-11-24T05:03:05.000000042Z id="7b3e:1=" listener=web route=api backend=app ` +
		`server=10.0.1.10:8080 peer=192.0.2.7:40000 client=2001:db8::1 method=GET scheme=https host="a b=\"c\"\u001b[2J" ` +
		`path="/api/v1/things?q=1" proto=HTTP/1.1 status=200 bytes_in=7 bytes_out=1024 duration_ms=1.234 backend_ms=0.900 tries=1 end=ok ` +
		`client_transport=mptcp server_transport=tcp client_subflows=2 tls_version="TLS 1.3" tls_cipher=TLS_AES_128_GCM_SHA256 ` +
		`tls_group=X25519MLKEM768 tls_resumed=false sni=example.org reason="nothing is served here" filter=allow grpc_status=0 dropped_fields=3` + "\n"
	if got := string(appendText(nil, accessFields(nil), r)); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestAddresses(t *testing.T) {
	for _, tt := range []struct{ peer, want string }{
		{"[::ffff:192.0.2.1]:80", "192.0.2.1:80"},
		{"[2001:db8::1]:443", "[2001:db8::1]:443"},
		{`[fe80::1%we"ird]:1`, `[fe80::1%we\"ird]:1`},
	} {
		p := netip.MustParseAddrPort(tt.peer)
		if got := string(appendPeer(nil, p)); got != tt.want {
			t.Errorf("peer %s: got %s, want %s", tt.peer, got, tt.want)
		}
	}
	if got := string(appendAddr(nil, netip.MustParseAddr("::ffff:192.0.2.1"))); got != "192.0.2.1" {
		t.Errorf("client: got %s", got)
	}
}

func TestRedact(t *testing.T) {
	names := []string{"token", "api key"}
	for _, tt := range []struct{ in, want string }{
		{"/a", "/a"},
		{"/a?", "/a?"},
		{"/a?x=1&token=secret&y=2", "/a?x=1&token=***&y=2"},
		{"/a?token=secret", "/a?token=***"},
		{"/a?TOKEN=s&t%6Fken=s&token", "/a?TOKEN=***&t%6Fken=***&token"},
		{"/a?api+key=s&api%20key=s", "/a?api+key=***&api%20key=***"},
		{"/a?tokens=1&toke=2&=3&&", "/a?tokens=1&toke=2&=3&&"},
		{"/a?x=token=1", "/a?x=token=1"},
		{"/token=1?%zz=1&%=2&token%=3", "/token=1?%zz=1&%=2&token%=3"},
	} {
		if got := string(appendPath(nil, []byte(tt.in), names)); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.in, got, tt.want)
		}
	}
}

// FuzzJSON holds every line to encoding/json: it parses, it is one line without controls, and what
// was put in comes out, as far as JSON can say it.
func FuzzJSON(f *testing.F) {
	f.Add("GET", "example.org", "/x?y=1", "name", int64(5), 200, uint8(1))
	f.Add("G\"\\T", "\x00\x1f\x7f\u0080\u009f\u00a0", "/\xff\xfe\xc3(\u2028\u2029\U0001F600\xed\xa0\x80", "\r\n\t", int64(-1), 0, uint8(99))
	f.Fuzz(func(t *testing.T, method, host, path, name string, n int64, status int, end uint8) {
		r := new(Record)
		r.Reset()
		r.Method, r.Host, r.Path = []byte(method), []byte(host), []byte(path)
		r.Listener, r.Route, r.Backend, r.Server, r.SNI = name, name, name, name, name
		r.ClientTransport, r.TLSVersion, r.TLSCipher = name, name, name
		r.Time, r.Duration, r.BytesIn, r.Status = time.Unix(0, n), time.Duration(n), n, status
		r.End, r.Proto, r.Scheme, r.GRPCStatus = End(end), Proto(end), Scheme(end), status
		line := appendJSON(nil, accessFields(nil), r)
		text := appendText(nil, accessFields(nil), r)
		for _, l := range [][]byte{line, text} {
			if !utf8.Valid(l) || bytes.IndexByte(l, '\n') != len(l)-1 || bytes.ContainsFunc(l[:len(l)-1], isControl) {
				t.Fatalf("not a clean line: %q", l)
			}
		}
		var got map[string]any
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		for field, in := range map[string]string{"method": method, "host": host, "path": path, "route": name, "client_transport": name} {
			if want := throughJSON(t, in); got[field] != want {
				t.Errorf("%s: got %q, want %q", field, got[field], want)
			}
		}
		if at, err := time.Parse(time.RFC3339Nano, got["time"].(string)); err != nil || !at.Equal(r.Time) {
			t.Errorf("time: got %v (%v), want %v", at, err, r.Time)
		}
		// The redacting way with nothing to redact says the same.
		if again := appendJSON(nil, accessFields([]string{"\x00\x01 no such name"}), r); !bytes.Equal(line, again) {
			t.Errorf("redacting changed %s to %s", line, again)
		}
	})
}

func isControl(r rune) bool { return r < 0x20 || 0x7f <= r && r < 0xa0 || r == 0x2028 || r == 0x2029 }

// throughJSON is the oracle: what encoding/json makes of a string, there and back.
func throughJSON(t *testing.T, s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back string
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	return back
}

// The two formats carry the same fields in the same order.
func TestFormatsAgree(t *testing.T) {
	r := sample()
	r.GRPCStatus, r.DroppedFields, r.ServerSubflows, r.ServerTransport = 2, 1, 3, TransportMPTCP
	r.TLSVersion = "TLS1.3" // without a blank, so that Fields cuts between pairs only
	var inText []string
	for _, pair := range strings.Fields(string(appendText(nil, accessFields(nil), r))) {
		key, _, _ := strings.Cut(pair, "=")
		inText = append(inText, key)
	}
	var inJSON []string
	d := json.NewDecoder(bytes.NewReader(appendJSON(nil, accessFields(nil), r)))
	for depth, key := 0, true; ; key = !key {
		tok, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		if tok == json.Delim('{') {
			depth, key = depth+1, false
			continue
		}
		if tok == json.Delim('}') {
			break
		}
		if key {
			inJSON = append(inJSON, tok.(string))
		}
	}
	if !reflect.DeepEqual(inText, inJSON) {
		t.Errorf("text has %v\nJSON has %v", inText, inJSON)
	}
	for _, field := range strings.Fields("time id listener route backend server peer client method scheme host path proto status bytes_in bytes_out " +
		"duration_ms backend_ms tries end client_transport server_transport client_subflows server_subflows tls_version tls_cipher tls_group tls_resumed sni") {
		if !strings.Contains(" "+strings.Join(inJSON, " ")+" ", " "+field+" ") {
			t.Errorf("the contract's field %s is missing", field)
		}
	}
}
