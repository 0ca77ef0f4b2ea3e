package proxy_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
)

// flights is a client's connection that looks at what the handshake brings, and lets a test change
// what it sends.
type flights struct {
	net.Conn
	read   bytes.Buffer
	writes int
	second func(p []byte) // called with the client's second flight before it leaves; nil: nothing
	hold   bool           // the second flight leaves with what follows it
	held   []byte
}

func (f *flights) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	f.read.Write(p[:n])
	return n, err
}

func (f *flights) Write(p []byte) (int, error) {
	f.writes++
	if f.writes == 2 {
		if f.second != nil {
			f.second(p)
		}
		if f.hold {
			f.held = bytes.Clone(p)
			return len(p), nil
		}
	}
	all := append(f.held, p...)
	f.held = nil
	_, err := f.Conn.Write(all)
	return len(p), err
}

// drain reads what has come already.
func (f *flights) drain(t *testing.T) {
	t.Helper()
	_ = f.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	_, err := io.Copy(io.Discard, struct{ io.Reader }{f})
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("before the Finished the connection gave %v", err)
	}
	_ = f.SetReadDeadline(time.Now().Add(proxytest.Patience))
}

// lastRecord returns the length of the last TLS record in p, with its header.
func lastRecord(t *testing.T, p []byte) (n int) {
	t.Helper()
	for ; len(p) > 0; p = p[n:] {
		if len(p) < 5 {
			t.Fatalf("%d bytes are left of a record", len(p))
		}
		if n = 5 + int(binary.BigEndian.Uint16(p[3:])); n > len(p) {
			t.Fatalf("a record of %d bytes is not whole", n)
		}
	}
	return n
}

// A session ticket follows the client's Finished and carries its acknowledgement: without that, a
// client that has no TCP_NODELAY waits for 40 ms until its request leaves.
func TestTicketFollowsTheFinished(t *testing.T) {
	for _, m := range modes {
		if !m.tls || m.inherited {
			continue
		}
		for name, suite := range map[string]tls.CurveID{"P-256": tls.CurveP256, "hybrid": tls.X25519MLKEM768} {
			t.Run(m.name+" "+name, func(t *testing.T) {
				t.Parallel()
				g := start(t, setup{mode: m}, m.origin(t, proxytest.Echo))
				cache := tls.NewLRUClientSessionCache(1)
				for i := range 2 {
					c := &flights{Conn: proxytest.Dial(t, g.addr, m.mptcp).Conn}
					c.second = func([]byte) {
						c.drain(t)
						if n := lastRecord(t, c.read.Bytes()); n != 58 && n != 74 {
							t.Errorf("the server's first flight ends with a record of %d bytes, which is no Finished", n)
						}
						c.read.Reset()
					}
					s := tls.Client(c, &tls.Config{ServerName: testHost, RootCAs: testCert(t).roots,
						CurvePreferences: []tls.CurveID{suite}, ClientSessionCache: cache})
					if err := s.Handshake(); err != nil {
						t.Fatal(err)
					}
					if s.ConnectionState().DidResume != (i == 1) {
						t.Errorf("connection %d resumed: %v", i+1, s.ConnectionState().DidResume)
					}
					// No request, and the ticket comes nevertheless.
					_ = s.SetReadDeadline(time.Now().Add(proxytest.Patience))
					first := make([]byte, 5)
					if _, err := io.ReadFull(c.Conn, first); err != nil || first[0] != 23 {
						t.Fatalf("behind the handshake came % x, %v; want a record", first, err)
					}
					c.Conn = &ahead{c.Conn, first}
					want(t, "body", get(t, s), "GET /x ")
				}
			})
		}
	}
}

// ahead returns again what was read from a connection.
type ahead struct {
	net.Conn
	first []byte
}

func (a *ahead) Read(p []byte) (int, error) {
	if len(a.first) > 0 {
		n := copy(p, a.first)
		a.first = a.first[n:]
		return n, nil
	}
	return a.Conn.Read(p)
}

func get(t *testing.T, c net.Conn) string {
	t.Helper()
	p := proxytest.NewClient(t, c)
	return p.Get("/x").Body
}

// An alert that comes after a ticket that was kept back can be read: records are numbered.
func TestAlertAfterATicket(t *testing.T) {
	t.Parallel()
	g := start(t, setup{mode: overTLS}, plain.origin(t, proxytest.Echo))
	c := &flights{Conn: proxytest.Dial(t, g.addr, g.mode.mptcp).Conn, second: func(p []byte) { p[len(p)-1] ^= 1 }}
	s := tls.Client(c, &tls.Config{ServerName: testHost, RootCAs: testCert(t).roots})
	if err := s.Handshake(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "bad record MAC") {
		t.Errorf("got %v, want the alert", err)
	}
}

// A client whose certificate is refused sees why, though it has sent a request behind its
// handshake.
func TestRefusedCertificateGetsAnAlert(t *testing.T) {
	for _, m := range modes {
		if !m.tls || m.inherited {
			continue
		}
		for _, protocol := range []string{"http/1.1", "h2"} {
			t.Run(m.name+" "+protocol, func(t *testing.T) {
				t.Parallel()
				p := onePolicy(t)
				p.config.ClientAuth, p.config.ClientCAs = tls.RequireAndVerifyClientCert, testCert(t).roots
				p.config.NextProtos = []string{"h2", "http/1.1"}
				g := start(t, setup{mode: m, listener: proxy.ListenerOptions{TLS: p}}, m.origin(t, proxytest.Echo))
				c := &flights{Conn: proxytest.Dial(t, g.addr, m.mptcp).Conn, hold: true}
				s := tls.Client(c, &tls.Config{ServerName: testHost, RootCAs: testCert(t).roots,
					NextProtos: []string{protocol}})
				if err := s.Handshake(); err != nil {
					t.Fatal(err)
				}
				request := strings.Repeat("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 100)
				if _, err := io.WriteString(s, request); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Read(make([]byte, 1)); err == nil ||
					!strings.Contains(err.Error(), "certificate required") {
					t.Errorf("got %v, want the alert", err)
				}
				if _, err := c.Conn.Write([]byte("more")); err != nil {
					t.Errorf("the client cannot go on sending: %v", err)
				}
				if _, err := c.Conn.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("behind the alert came %v, want an end in order", err)
				}
			})
		}
	}
}
