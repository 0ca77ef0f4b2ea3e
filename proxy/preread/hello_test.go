package preread

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

func hello(b []byte) (any, int, error) {
	h, n, err := ParseHello(b)
	return fmt.Sprintf("%q", h), n, err
}

// script is a connection that has in to read and keeps what is written.
type script struct {
	in  io.Reader
	out bytes.Buffer
}

func (s *script) Read(b []byte) (int, error)       { return s.in.Read(b) }
func (s *script) Write(b []byte) (int, error)      { return s.out.Write(b) }
func (s *script) Close() error                     { return nil }
func (s *script) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// clientHelloOf is what crypto/tls sends first.
func clientHelloOf(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	if config.ServerName == "" && config.EncryptedClientHelloConfigList == nil {
		config.InsecureSkipVerify = true
	}
	s := &script{in: strings.NewReader("")}
	if err := tls.Client(s, config).Handshake(); !errors.Is(err, io.EOF) {
		t.Fatalf("handshake without a server: %v", err)
	}
	return s.out.Bytes()
}

// split puts a ClientHello of one record into records of at most size bytes.
func split(b []byte, size int) (records []byte) {
	for payload := range slices.Chunk(b[recordHead:], size) {
		records = append(records, recordHandshake, 3, 1, byte(len(payload)>>8), byte(len(payload)))
		records = append(records, payload...)
	}
	return records
}

// withExtensions edits a ClientHello: it appends extensions and fixes the three lengths.
func withExtensions(b []byte, extensions ...string) []byte {
	b = bytes.Clone(b)
	body := b[recordHead+handshakeHead:]
	at := 2 + 32
	at += 1 + int(body[at])
	at += 2 + int(body[at])<<8 + int(body[at+1])
	at += 1 + int(body[at])
	add := strings.Join(extensions, "")
	grow := func(i int) {
		n := int(b[i])<<8 + int(b[i+1]) + len(add)
		b[i], b[i+1] = byte(n>>8), byte(n)
	}
	grow(3)
	grow(recordHead + 2)
	grow(recordHead + handshakeHead + at)
	return append(b, add...)
}

// echList is a configuration for Encrypted Client Hello with the public name "outer.example" (RFC
// 9849 4).
func echList(t *testing.T) []byte {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const publicName = "outer.example"
	contents := []byte{1, 0, 0x20, 0, 32}
	contents = append(contents, key.PublicKey().Bytes()...)
	contents = append(contents, 0, 4, 0, 1, 0, 1, 0, byte(len(publicName)))
	contents = append(contents, publicName...)
	contents = append(contents, 0, 0)
	config := append([]byte{0xfe, 0x0d, 0, byte(len(contents))}, contents...)
	return append([]byte{0, byte(len(config))}, config...)
}

func TestHello(t *testing.T) {
	plain := clientHelloOf(t, &tls.Config{ServerName: "Example.ORG", NextProtos: []string{"h2", "http/1.1"}})
	want := Hello{ServerName: "example.org", Protocols: []string{"h2", "http/1.1"}}
	for _, tt := range []struct {
		name string
		in   []byte
		want Hello
	}{
		{"plain", plain, want},
		{"TLS 1.2", clientHelloOf(t, &tls.Config{ServerName: "a", MaxVersion: tls.VersionTLS12}), Hello{ServerName: "a"}},
		{"no name", clientHelloOf(t, &tls.Config{}), Hello{}},
		{"an address is no name", clientHelloOf(t, &tls.Config{ServerName: "192.0.2.1"}), Hello{}},
		{"records of 1 byte", split(plain, 1), want},
		{"records of 3 bytes", split(plain, 3), want},
		{"records of 100 bytes", split(plain, 100), want},
		{"GREASE", withExtensions(plain, "\x0a\x0a\x00\x00", "\xfa\xfa\x00\x01\x00"), want},
		{"encrypted: the outer one", clientHelloOf(t, &tls.Config{ServerName: "secret.example", EncryptedClientHelloConfigList: echList(t)}), Hello{ServerName: "outer.example"}},
		{"no extensions", append([]byte{22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3}, append(make([]byte, 33), 0, 2, 0, 47, 1, 0)...), Hello{}},
		{"other kinds of names", withExtensions(clientHelloOf(t, &tls.Config{}), "\x00\x00\x00\x0b\x00\x09\x01\x00\x01x\x00\x00\x02Ab"), Hello{ServerName: "ab"}},
		{"bytes that are not ASCII", withExtensions(clientHelloOf(t, &tls.Config{}), "\x00\x00\x00\x07\x00\x05\x00\x00\x02A\xff"), Hello{ServerName: "a\xff"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, n, err := ParseHello(tt.in)
			if h.ServerName != tt.want.ServerName || !slices.Equal(h.Protocols, tt.want.Protocols) || n != len(tt.in) || err != nil {
				t.Fatalf("got %q, %d, %v; want %q, %d", h, n, err, tt.want, len(tt.in))
			}
			if decided := checkPieces(t, tt.in, hello); decided != len(tt.in) {
				t.Errorf("decided after %d bytes of %d", decided, len(tt.in))
			}
			if _, n, err := ParseHello(append(bytes.Clone(tt.in), "more"...)); n != len(tt.in) || err != nil {
				t.Errorf("with more behind: %d, %v", n, err)
			}
			compare(t, tt.in)
		})
	}
}

func TestHelloErrors(t *testing.T) {
	plain := clientHelloOf(t, &tls.Config{ServerName: "example.org"})
	nameless := clientHelloOf(t, &tls.Config{})
	long := bytes.Repeat([]byte{22, 3, 1, 0, 1, 0}, 4000)
	for i, c := range []byte{1, 0, 0x20, 0} {
		long[6*i+5] = c
	}
	for _, tt := range []struct {
		name    string
		in      []byte
		want    string
		decided int // after so many bytes, 0 for all
	}{
		{"HTTP", []byte("GET / HTTP/1.1\r\n"), "ClientHello: this is not TLS", 1},
		{"alert", []byte{21, 3, 1}, "ClientHello: this is not TLS", 1},
		{"version", []byte{22, 4, 1}, "ClientHello: this is not TLS", 2},
		{"SSL 2", []byte{0x80, 0x2e, 1, 3, 1}, "ClientHello: this is not TLS", 1},
		{"another record within", append(split(plain, 50)[:55], 23, 3, 3), "ClientHello: this is not TLS", 56},
		{"empty record", []byte{22, 3, 1, 0, 0}, "ClientHello: got a record of 0 bytes; want 1 to 16384", 5},
		{"long record", []byte{22, 3, 1, 0x40, 1}, "ClientHello: got a record of 16385 bytes; want 1 to 16384", 5},
		{"record over the bound", []byte{22, 3, 1, 0x40, 0, 1}, "ClientHello: longer than 16384 bytes", 5},
		{"ServerHello", []byte{22, 3, 1, 0, 100, 2}, "ClientHello: got a handshake message of type 2; want 1", 6},
		{"long hello", []byte{22, 3, 1, 0, 100, 1, 0, 0x40, 0}, "ClientHello: longer than 16384 bytes", 9},
		{"long hello in small records", long, "ClientHello: longer than 16384 bytes", 16380},
		{"empty hello", []byte{22, 3, 1, 0, 4, 1, 0, 0, 0}, "ClientHello: malformed", 0},
		{"two names", withExtensions(nameless, "\x00\x00\x00\x0a\x00\x08\x00\x00\x01a\x00\x00\x01b"), "ClientHello: malformed", 0},
		{"two name extensions", withExtensions(plain, "\x00\x00\x00\x06\x00\x04\x00\x00\x01a"), "ClientHello: malformed", 0},
		{"empty name", withExtensions(nameless, "\x00\x00\x00\x05\x00\x03\x00\x00\x00"), "ClientHello: malformed", 0},
		{"no names", withExtensions(nameless, "\x00\x00\x00\x02\x00\x00"), "ClientHello: malformed", 0},
		{"trailing dot", withExtensions(nameless, "\x00\x00\x00\x07\x00\x05\x00\x00\x02a."), "ClientHello: malformed", 0},
		{"more behind the names", withExtensions(nameless, "\x00\x00\x00\x07\x00\x04\x00\x00\x01ab"), "ClientHello: malformed", 0},
		{"empty protocol", withExtensions(nameless, "\x00\x10\x00\x03\x00\x01\x00"), "ClientHello: malformed", 0},
		{"no protocols", withExtensions(nameless, "\x00\x10\x00\x02\x00\x00"), "ClientHello: malformed", 0},
		{"extension too long", withExtensions(nameless, "\x00\x00\x00\xff\x00"), "ClientHello: malformed", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, n, err := ParseHello(tt.in)
			if err == nil || err.Error() != tt.want || n != 0 || h.ServerName != "" || h.Protocols != nil {
				t.Fatalf("got %q, %d, %v; want %s", h, n, err, tt.want)
			}
			if tt.decided == 0 {
				tt.decided = len(tt.in)
			}
			if len(tt.in) > 10_000 {
				tt.in = tt.in[:tt.decided] // all its prefixes would take a while
				if _, _, err := ParseHello(tt.in[:len(tt.in)-1]); err != ErrMore {
					t.Errorf("got %v for one byte less", err)
				}
			} else if decided := checkPieces(t, tt.in, hello); decided != tt.decided {
				t.Errorf("decided after %d bytes, want %d", decided, tt.decided)
			}
		})
	}
}

var errSeen = errors.New("seen")

// seen returns what crypto/tls, as a server, finds in a ClientHello; ok is false when it refuses
// it.
func seen(b []byte) (h Hello, ok bool) {
	server := tls.Server(&script{in: bytes.NewReader(b)}, &tls.Config{GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
		h, ok = Hello{ServerName: info.ServerName, Protocols: info.SupportedProtos}, true
		return nil, errSeen
	}})
	_ = server.HandshakeContext(context.Background())
	return h, ok
}

// compare holds ParseHello to crypto/tls: who reads a ClientHello at all reads the same name and
// protocols. What crypto/tls reads may be refused for its length or its records only.
func compare(t *testing.T, b []byte) {
	t.Helper()
	theirs, ok := seen(b)
	ours, _, err := ParseHello(b)
	switch {
	case !ok:
		// It looks at more extensions.
	case errors.Is(err, ErrMore), errors.Is(err, ErrHello):
		t.Fatalf("crypto/tls reads %q in %x, ParseHello says %v", theirs, b, err)
	case err == nil && (lower([]byte(theirs.ServerName)) != ours.ServerName || !slices.Equal(theirs.Protocols, ours.Protocols)):
		t.Fatalf("crypto/tls reads %q in %x, ParseHello %q", theirs, b, ours)
	}
}

func FuzzHello(f *testing.F) {
	plain := clientHelloOf(f, &tls.Config{ServerName: "Example.org", NextProtos: []string{"h2", "http/1.1"}, CurvePreferences: []tls.CurveID{tls.X25519}})
	f.Add(plain, uint16(0))
	f.Add(plain, uint16(1))
	f.Add(plain, uint16(100))
	f.Add(withExtensions(plain, "\x0a\x0a\x00\x00", "\xfe\x0d\x00\x00"), uint16(7))
	f.Add(withExtensions(clientHelloOf(f, &tls.Config{MaxVersion: tls.VersionTLS12}), "\x00\x00\x00\x0b\x00\x09\x01\x00\x01x\x00\x00\x02ab"), uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, size uint16) {
		b = b[:min(len(b), 2000)]
		if size > 0 && len(b) > recordHead {
			b = split(b, int(size))
		}
		compare(t, b)
		if len(b) < 400 {
			checkPieces(t, b, hello)
		}
	})
}

func BenchmarkHello(b *testing.B) {
	plain := clientHelloOf(b, &tls.Config{ServerName: "example.org", NextProtos: []string{"h2", "http/1.1"}})
	for name, in := range map[string][]byte{"one record": plain, "records of 1 byte": split(plain, 1), "incomplete": split(plain, 1)[:8000]} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _, _ = ParseHello(in)
			}
		})
	}
}
