package proxy_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"io"
	"strings"
	"testing"
	"time"

	"mpgate/internal/proxytest"
)

// sealer makes the records of a client of TLS 1.3 with TLS_AES_128_GCM_SHA256 (RFC 8446 sections
// 5.2 and 7), as crypto/tls would not.
type sealer struct {
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

func (s *sealer) expand(label string, n int) []byte {
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	label = "tls13 " + label
	info = append(append(info, byte(len(label))), label...)
	b, err := hkdf.Expand(sha256.New, s.secret, string(append(info, 0)), n)
	if err != nil {
		panic(err)
	}
	return b
}

func (s *sealer) keys(secret []byte) {
	s.secret, s.seq = secret, 0
	block, err := aes.NewCipher(s.expand("key", 16))
	if err != nil {
		panic(err)
	}
	if s.aead, err = cipher.NewGCM(block); err != nil {
		panic(err)
	}
	s.iv = s.expand("iv", 12)
}

// record seals content of a type: 22 is a handshake message, 23 data.
func (s *sealer) record(kind byte, content string) []byte {
	nonce := bytes.Clone(s.iv)
	for i := range 8 {
		nonce[4+i] ^= byte(s.seq >> (56 - 8*i))
	}
	s.seq++
	head := []byte{23, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(head[3:], uint16(len(content)+1+16))
	return s.aead.Seal(bytes.Clone(head), nonce, append([]byte(content), kind), head)
}

// keyUpdate asks the peer for new keys, too.
func (s *sealer) keyUpdate() []byte {
	r := s.record(22, "\x18\x00\x00\x01\x01")
	s.keys(s.expand("traffic upd", 32))
	return r
}

// forge makes a handshake and returns what is needed to continue by hand.
func (g *gateway) forge() (*proxytest.Client, *sealer) {
	g.t.Helper()
	var log bytes.Buffer
	c := proxytest.Dial(g.t, g.addr, g.mode.mptcp)
	t := tls.Client(c.Conn, &tls.Config{ServerName: testHost, RootCAs: testCert(g.t).roots, KeyLogWriter: &log,
		MinVersion: tls.VersionTLS13})
	if err := t.Handshake(); err != nil {
		g.t.Fatal(err)
	}
	if s := t.ConnectionState().CipherSuite; s != tls.TLS_AES_128_GCM_SHA256 {
		g.t.Skipf("the suite is %s: this machine has no AES in hardware", tls.CipherSuiteName(s))
	}
	s := &sealer{}
	for line := range strings.Lines(log.String()) {
		if f := strings.Fields(line); f[0] == "CLIENT_TRAFFIC_SECRET_0" {
			secret, err := hex.DecodeString(f[2])
			if err != nil {
				g.t.Fatal(err)
			}
			s.keys(secret)
		}
	}
	return c, s
}

func TestKeyUpdates(t *testing.T) {
	t.Parallel()
	g := start(t, setup{mode: overTLS}, plain.origin(t, proxytest.Echo))
	request := "GET /x HTTP/1.1\r\n" + host + "\r\n"
	// A few are in order.
	c, s := g.forge()
	for range 5 {
		c.Send(string(s.keyUpdate()))
		c.Send(string(s.record(23, request)))
	}
	for range 5 {
		l := g.log.Next()
		want(t, "end", l.End, "ok")
	}
	c.Close()

	// Without end they end the connection, and so do empty records.
	for what, record := range map[string]func(*sealer) []byte{
		"KeyUpdates":    (*sealer).keyUpdate,
		"empty records": func(s *sealer) []byte { return s.record(23, "") },
	} {
		c, s := g.forge()
		read := make(chan struct{})
		go func() { // what the gateway says is read, so that this is not what stops it
			defer close(read)
			_, _ = io.Copy(io.Discard, c.Conn)
			_ = c.Conn.Close()
		}()
		const many = 100_000
		sent := 0
		for ; sent < many; sent++ {
			if _, err := c.Write(record(s)); err != nil {
				break
			}
		}
		if sent == many {
			t.Errorf("%d %s and still open", many, what)
		}
		<-read
	}
	g.bystander()
}

// Between bytes of a head they are allowed to crypto/tls: the time of a head ends them, and a
// client that reads none of the answers to them is not written to without bound.
func TestKeyUpdatesWithinAHead(t *testing.T) {
	t.Parallel()
	o := setup{mode: overTLS}
	// The bystander must manage a handshake within it, on a busy machine.
	o.options.HeaderTime = 2 * time.Second
	g := start(t, o, plain.origin(t, proxytest.Echo))
	c, s := g.forge()
	c.Send(string(s.record(23, "GET / HTTP/1.1\r\n"+host+"X: ")))
	began := time.Now()
	for {
		if _, err := c.Write(append(s.keyUpdate(), s.record(23, "x")...)); err != nil {
			break
		}
		if time.Since(began) > proxytest.Patience/2 {
			t.Fatal("KeyUpdates within a head are taken without end")
		}
	}
	g.bystander()
}
