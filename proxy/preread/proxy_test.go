package preread

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"
	"strings"
	"testing"
)

func proxy(b []byte) (any, int, error) {
	p, n, err := ParseProxy(b)
	return p, n, err
}

func ap(s string) netip.AddrPort {
	if s == "" {
		return netip.AddrPort{}
	}
	return netip.MustParseAddrPort(s)
}

func TestProxy1(t *testing.T) {
	long := "PROXY UNKNOWN " + strings.Repeat("x", 107-len("PROXY UNKNOWN \r\n"))
	for _, tt := range []struct{ in, source, destination, err string }{
		{"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", "192.168.0.1:56324", "192.168.0.11:443", ""},
		{"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535", "255.255.255.255:65535", ""},
		{"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", "0.0.0.0:0", "0.0.0.0:0", ""},
		{"PROXY TCP6 2001:DB8::1 ::1 1 2\r\n", "[2001:db8::1]:1", "[::1]:2", ""},
		{"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
			"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", ""},
		{"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c000:202 1 2\r\n", "192.0.2.1:1", "192.0.2.2:2", ""},
		{"PROXY UNKNOWN\r\n", "", "", ""},
		{"PROXY UNKNOWN \r\n", "", "", ""},
		{"PROXY UNKNOWN ffff::1 what\x00ever 1\r\n", "", "", ""},
		{long + "\r\n", "", "", ""},

		{"GET / HTTP/1.1\r\n", "", "", "PROXY header: there is none"},
		{"PRI * HTTP/2.0\r\n", "", "", "PROXY header: there is none"},
		{"proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "", "", "PROXY header: there is none"},
		{"\x16\x03\x01", "", "", "PROXY header: there is none"},
		{"PROXYTCP4", "", "", `PROXY header: got "PROXYTCP4"; want TCP4, TCP6 or UNKNOWN behind "PROXY "`},
		{"PROXY  TCP4", "", "", `PROXY header: got "PROXY  TCP4"; want TCP4, TCP6 or UNKNOWN behind "PROXY "`},
		{"PROXY\r\n", "", "", `PROXY header: got "PROXY\r\n"; want TCP4, TCP6 or UNKNOWN behind "PROXY "`},
		{"PROXY UDP4", "", "", `PROXY header: got "PROXY UDP4"; want TCP4, TCP6 or UNKNOWN behind "PROXY "`},
		{"PROXY UNKNOWN\n", "", "", `PROXY header: got "PROXY UNKNOWN\n"; want TCP4, TCP6 or UNKNOWN behind "PROXY "`},
		{"PROXY UNKNOWNX\r\n", "", "", `PROXY header: got "PROXY UNKNOWNX\r\n"; want TCP4, TCP6 or UNKNOWN behind "PROXY "`},
		{"PROXY UNKNOWN a\n", "", "", `PROXY header: got "PROXY UNKNOWN a\n"; the line has to end with CR and LF, and has neither within`},
		{"PROXY UNKNOWN a\rb", "", "", `PROXY header: got "PROXY UNKNOWN a\rb"; the line has to end with CR and LF, and has neither within`},
		{long + "xx", "", "", `PROXY header: got "` + long + `xx"; the line has to end within 107 bytes`},
		{"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", "", "", `PROXY header: got "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n"; the line has to end with CR and LF, and has neither within`},
		{"PROXY TCP4 1.2.3.4 g", "", "", `PROXY header: got "PROXY TCP4 1.2.3.4 g"; want addresses and ports behind the protocol`},
		{"PROXY TCP6 fe80::1%1 ::1 1 2\r\n", "", "", `PROXY header: got "PROXY TCP6 fe80::1%1 ::1 1 2\r\n"; want addresses and ports behind the protocol`},
		{"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "", "", `PROXY header: got "PROXY TCP4 1.2.3.4 1.2.3.4 1"; want a protocol, two addresses and two ports, each behind one space`},
		{"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", "", "", `PROXY header: got "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 "; want a protocol, two addresses and two ports, each behind one space`},
		{"PROXY TCP4 1.2.3.4  1.2.3.4 1 2\r\n", "", "", `PROXY header: got "PROXY TCP4 1.2.3.4  1.2.3.4 1 2"; want a protocol, two addresses and two ports, each behind one space`},
		{"PROXY TCP4 \r\n", "", "", `PROXY header: got "PROXY TCP4 "; want a protocol, two addresses and two ports, each behind one space`},
		{"PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n", "", "", `PROXY header: got "01.2.3.4"; want an IPv4 address`},
		{"PROXY TCP4 1.2.3.4 1.2.3.256 1 2\r\n", "", "", `PROXY header: got "1.2.3.256"; want an IPv4 address`},
		{"PROXY TCP4 ::1 ::1 1 2\r\n", "", "", `PROXY header: got "::1"; want an IPv4 address`},
		{"PROXY TCP6 1.2.3.4 ::1 1 2\r\n", "", "", `PROXY header: got "1.2.3.4"; want an IPv6 address`},
		{"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", "", "", `PROXY header: got "01"; want a port up to 65535 without leading zeros`},
		{"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", "", "", `PROXY header: got "65536"; want a port up to 65535 without leading zeros`},
		{"PROXY TCP4 1.2.3.4 1.2.3.4 1 a\r\n", "", "", `PROXY header: got "a"; want a port up to 65535 without leading zeros`},
	} {
		b := []byte(tt.in)
		p, n, err := ParseProxy(b)
		if tt.err != "" {
			if err == nil || err.Error() != tt.err || n != 0 {
				t.Errorf("ParseProxy(%q):\n got %d, %v\nwant %s", tt.in, n, err, tt.err)
			}
		} else if want := (Proxy{Version: 1, Source: ap(tt.source), Destination: ap(tt.destination)}); p != want || n != len(b) || err != nil {
			t.Errorf("ParseProxy(%q) = %+v, %d, %v; want %+v, %d", tt.in, p, n, err, want, len(b))
		} else if _, n, err := ParseProxy(append(b, "GET / HTTP/1.1\r\n"...)); n != len(b) || err != nil {
			t.Errorf("ParseProxy(%q) with a request behind: %d, %v", tt.in, n, err)
		}
		checkPieces(t, b, proxy)
	}
}

// head2 makes a version 2 header of its two bytes behind the signature and what follows.
func head2(command, family byte, rest ...string) string {
	body := strings.Join(rest, "")
	return string(binary.BigEndian.AppendUint16([]byte(signature2+string([]byte{command, family})), uint16(len(body)))) + body
}

// withChecksum puts the right checksum in place of the zeros behind "\x03\x00\x04".
func withChecksum(header string) string {
	i := strings.Index(header, "\x03\x00\x04") + 3
	sum := crc32.Checksum([]byte(header), crc32.MakeTable(crc32.Castagnoli))
	return header[:i] + string(binary.BigEndian.AppendUint32(nil, sum)) + header[i+4:]
}

func path108(s string) string { return s + strings.Repeat("\x00", pathLength-len(s)) }

var proxy2Tests = []struct {
	name, in string
	want     Proxy
	err      string
}{
	{"IPv4", head2(0x21, 0x11, "\xc0\x00\x02\x01\xc0\x00\x02\x02\x12\x34\x01\xbb"),
		Proxy{Source: ap("192.0.2.1:4660"), Destination: ap("192.0.2.2:443")}, ""},
	{"IPv4 datagrams", head2(0x21, 0x12, "\xc0\x00\x02\x01\xc0\x00\x02\x02\x12\x34\x01\xbb"),
		Proxy{Datagram: true, Source: ap("192.0.2.1:4660"), Destination: ap("192.0.2.2:443")}, ""},
	{"IPv6", head2(0x21, 0x21, "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01", "\x12\x34\x01\xbb"),
		Proxy{Source: ap("[2001:db8::1]:4660"), Destination: ap("[::1]:443")}, ""},
	{"IPv4 in IPv6", head2(0x21, 0x21, strings.Repeat("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x01", 2), "\x12\x34\x01\xbb"),
		Proxy{Source: ap("192.0.2.1:4660"), Destination: ap("192.0.2.1:443")}, ""},
	{"Unix", head2(0x21, 0x31, path108("/run/a"), path108("/run/b")), Proxy{Unix: true, SourcePath: "/run/a", DestinationPath: "/run/b"}, ""},
	{"Unix, files that look abstract", head2(0x21, 0x31, path108("@abc"), path108("@")), Proxy{Unix: true, SourcePath: "./@abc", DestinationPath: "./@"}, ""},
	{"Unix, abstract and unnamed", head2(0x21, 0x32, path108("\x00abc"), path108("")), Proxy{Unix: true, Datagram: true, SourcePath: "@abc"}, ""},
	{"Unix, full length", head2(0x21, 0x31, strings.Repeat("p", 108), path108("x\x00junk")), Proxy{Unix: true, SourcePath: strings.Repeat("p", 108), DestinationPath: "x"}, ""},
	{"LOCAL", head2(0x20, 0x00), Proxy{Local: true}, ""},
	{"LOCAL with a block", head2(0x20, 0x11, "\x01"), Proxy{Local: true}, ""},
	{"unknown", head2(0x21, 0x00), Proxy{}, ""},
	{"unknown with a block", head2(0x21, 0x00, "junk"), Proxy{}, ""},
	{"unknown protocol", head2(0x21, 0x10, "junk"), Proxy{}, ""},
	{"unknown family", head2(0x21, 0x01, "junk"), Proxy{}, ""},
	{"values", head2(0x21, 0x11, "\xc0\x00\x02\x01\xc0\x00\x02\x02\x12\x34\x01\xbb", "\x02\x00\x03a.b", "\x04\x00\x00", "\xea\x00\x01\x00"),
		Proxy{Source: ap("192.0.2.1:4660"), Destination: ap("192.0.2.2:443")}, ""},
	{"checksum", withChecksum(head2(0x21, 0x11, "\xc0\x00\x02\x01\xc0\x00\x02\x02\x12\x34\x01\xbb", "\x03\x00\x04\x00\x00\x00\x00", "\x02\x00\x03a.b")),
		Proxy{Source: ap("192.0.2.1:4660"), Destination: ap("192.0.2.2:443")}, ""},
	{"16 KiB", head2(0x20, 0x00, strings.Repeat("x", 16<<10-16)), Proxy{Local: true}, ""},

	{"wrong checksum", head2(0x21, 0x11, "\xc0\x00\x02\x01\xc0\x00\x02\x02\x12\x34\x01\xbb", "\x03\x00\x04\x00\x00\x00\x00"), Proxy{},
		"PROXY header: got checksum 00000000; that of its bytes is 0027802c"},
	{"short checksum", head2(0x21, 0x11, "\xc0\x00\x02\x01\xc0\x00\x02\x02\x12\x34\x01\xbb", "\x03\x00\x02\x00\x00"), Proxy{},
		"PROXY header: want one checksum of 4 bytes, got another or one of 2"},
	{"two checksums", head2(0x21, 0x11, "\xc0\x00\x02\x01\xc0\x00\x02\x02\x12\x34\x01\xbb", strings.Repeat("\x03\x00\x04\x00\x00\x00\x00", 2)), Proxy{},
		"PROXY header: want one checksum of 4 bytes, got another or one of 4"},
	{"value too long", head2(0x21, 0x11, "\xc0\x00\x02\x01\xc0\x00\x02\x02\x12\x34\x01\xbb", "\x02\x00\x05a.b"), Proxy{},
		"PROXY header: a value of 5 bytes runs over its end; 3 are left"},
	{"half a value", head2(0x21, 0x11, "\xc0\x00\x02\x01\xc0\x00\x02\x02\x12\x34\x01\xbb", "\x02\x00"), Proxy{},
		"PROXY header: 2 bytes are left at its end; want a type, a length and a value"},
	{"16 KiB and a byte", head2(0x20, 0x00, strings.Repeat("x", 16<<10-15)), Proxy{}, "PROXY header: it announces 16385 bytes; at most 16384 are read"},
	{"short IPv4", head2(0x21, 0x11, "\xc0\x00\x02\x01\xc0\x00\x02\x02\x12\x34\x01"), Proxy{}, "PROXY header: it is too short for the addresses that it announces"},
	{"short IPv6", head2(0x21, 0x21, strings.Repeat("x", 35)), Proxy{}, "PROXY header: it is too short for the addresses that it announces"},
	{"short Unix", head2(0x21, 0x31, strings.Repeat("x", 215)), Proxy{}, "PROXY header: it is too short for the addresses that it announces"},
	{"version", head2(0x11, 0x11), Proxy{}, "PROXY header: got version 1, command 1; want version 2, command 0 (LOCAL) or 1 (PROXY)"},
	{"command", head2(0x22, 0x11), Proxy{}, "PROXY header: got version 2, command 2; want version 2, command 0 (LOCAL) or 1 (PROXY)"},
	{"family", head2(0x21, 0x41), Proxy{}, "PROXY header: got family 4, protocol 1; want a family up to 3, a protocol up to 2"},
	{"protocol", head2(0x21, 0x13), Proxy{}, "PROXY header: got family 1, protocol 3; want a family up to 3, a protocol up to 2"},
	{"signature", "\r\n\r\nGET / HTTP/1.1\r\n", Proxy{}, "PROXY header: there is none"},
}

func TestProxy2(t *testing.T) {
	for _, tt := range proxy2Tests {
		t.Run(tt.name, func(t *testing.T) {
			b := []byte(tt.in)
			p, n, err := ParseProxy(b)
			checkPieces(t, b, proxy)
			if tt.err != "" {
				if err == nil || err.Error() != tt.err || n != 0 {
					t.Errorf("got %d, %v\nwant %s", n, err, tt.err)
				}
				return
			}
			tt.want.Version = 2
			if p != tt.want || n != len(b) || err != nil {
				t.Errorf("got %+v, %d, %v; want %+v, %d", p, n, err, tt.want, len(b))
			}
			if known := p.Source.IsValid() || p.Unix; p.Known() != known {
				t.Errorf("Known() = %v", p.Known())
			}
			if _, n, err := ParseProxy(append(b, "GET"...)); n != len(b) || err != nil {
				t.Errorf("with a request behind: %d, %v", n, err)
			}
		})
	}
}

// A header is refused at the first byte that is wrong.
func TestProxyDecidesEarly(t *testing.T) {
	for _, tt := range []struct {
		in      string
		decided int
	}{
		{"GET / HTTP/1.1\r\n", 1},
		{"PUT / HTTP/1.1\r\n", 2},
		{"PROPFIND / HTTP/1.1\r\n", 4},
		{"\r\nGET /", 3},
		{"\x16\x03\x01", 1},
		{"PROXY UDP4 1.2.3.4", 8},
		{"PROXY TCP5 1.2.3.4", 10},
		{"PROXY TCP4 example", 13},
		{head2(0x31, 0x11, "x"), 13},
		{head2(0x21, 0x51, "x"), 14},
		{head2(0x21, 0x11, strings.Repeat("x", 17000)), 16},
		{head2(0x21, 0x11, "x"), 16},
	} {
		if decided := checkPieces(t, []byte(tt.in), proxy); decided != tt.decided {
			t.Errorf("%q: decided after %d bytes, want %d", tt.in[:min(len(tt.in), 30)], decided, tt.decided)
		}
	}
}

func TestAppend(t *testing.T) {
	four, six := ap("192.0.2.1:4660"), ap("[2001:db8::1]:443")
	mapped := netip.AddrPortFrom(netip.MustParseAddr("::ffff:192.0.2.1"), 4660)
	for _, tt := range []struct {
		name string
		p    Proxy
		want string
	}{
		{"v1 IPv4", Proxy{Version: 1, Source: four, Destination: four}, "PROXY TCP4 192.0.2.1 192.0.2.1 4660 4660\r\n"},
		{"v1 by default", Proxy{Source: four, Destination: four}, "PROXY TCP4 192.0.2.1 192.0.2.1 4660 4660\r\n"},
		{"v1 IPv6", Proxy{Version: 1, Source: six, Destination: six}, "PROXY TCP6 2001:db8::1 2001:db8::1 443 443\r\n"},
		{"v1 IPv4 in IPv6", Proxy{Version: 1, Source: mapped, Destination: four}, "PROXY TCP4 192.0.2.1 192.0.2.1 4660 4660\r\n"},
		{"v1 both", Proxy{Version: 1, Source: four, Destination: six}, "PROXY TCP6 ::ffff:c000:201 2001:db8::1 4660 443\r\n"},
		{"v1 zone", Proxy{Version: 1, Source: ap("[fe80::1%eth0]:1"), Destination: six}, "PROXY TCP6 fe80::1 2001:db8::1 1 443\r\n"},
		{"v1 unknown", Proxy{Version: 1}, "PROXY UNKNOWN\r\n"},
		{"v1 local", Proxy{Version: 1, Local: true, Source: four, Destination: four}, "PROXY UNKNOWN\r\n"},
		{"v1 Unix", Proxy{Version: 1, Unix: true}, "PROXY UNKNOWN\r\n"},
		{"v2 IPv4", Proxy{Version: 2, Source: four, Destination: mapped}, head2(0x21, 0x11, "\xc0\x00\x02\x01\xc0\x00\x02\x01\x12\x34\x12\x34")},
		{"v2 IPv6", Proxy{Version: 2, Source: six, Destination: four},
			head2(0x21, 0x21, "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x01\x01\xbb\x12\x34")},
		{"v2 local", Proxy{Version: 2, Local: true, Source: four, Destination: four}, head2(0x20, 0x00)},
		{"v2 unknown", Proxy{Version: 2, Source: four}, head2(0x21, 0x00)},
		{"v2 Unix", Proxy{Version: 2, Unix: true, SourcePath: "/run/a", DestinationPath: "@b"}, head2(0x21, 0x31, path108("/run/a"), path108("\x00b"))},
		{"v2 Unix, too long", Proxy{Version: 2, Unix: true, SourcePath: strings.Repeat("x", 200)}, head2(0x21, 0x31, strings.Repeat("x", 108), path108(""))},
	} {
		if got := tt.p.Append([]byte("before")); string(got) != "before"+tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
		if _, n, err := ParseProxy([]byte(tt.want)); n != len(tt.want) || err != nil {
			t.Errorf("%s: what was written cannot be read: %d, %v", tt.name, n, err)
		}
	}
}

func FuzzProxy(f *testing.F) {
	for _, tt := range proxy2Tests {
		f.Add([]byte(tt.in[:min(len(tt.in), 300)]))
	}
	for _, s := range []string{"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", "PROXY TCP6 ::1 2001:db8::1 1 2\r\n", "PROXY UNKNOWN x\r\n", "PROXY UNKNOWN\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), 600)] // all prefixes are tried
		checkPieces(t, b, proxy)
		p, n, err := ParseProxy(b)
		if err != nil {
			if p != (Proxy{}) || n != 0 {
				t.Fatalf("ParseProxy(%q) = %+v, %d beside %v", b, p, n, err)
			}
			return
		}
		if n < 15 || n > MaxProxy || p.Version == 1 && n > maxLine1 {
			t.Fatalf("ParseProxy(%q) = %d bytes", b, n)
		}
		// What is said again says the same.
		written := p.Append(nil)
		again, m, err := ParseProxy(written)
		if err != nil || m != len(written) || again != p {
			t.Fatalf("ParseProxy(%q) = %+v, written as %q, read as %+v, %d, %v", b, p, written, again, m, err)
		}
	})
}

func TestErrNoProxyCanBeToldApart(t *testing.T) {
	if _, _, err := ParseProxy([]byte("GET /")); !errors.Is(err, ErrNoProxy) {
		t.Errorf("got %v, want %v", err, ErrNoProxy)
	}
	if _, _, err := ParseProxy([]byte("PROXY X")); errors.Is(err, ErrNoProxy) || errors.Is(err, ErrMore) {
		t.Errorf("got %v for a header that is one, but wrong", err)
	}
}
