package http1

import (
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mpgate/proxy/message"
	"mpgate/proxy/netio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lines puts CRLF where tests write "|".
func lines(s string) string { return strings.ReplaceAll(s, "|", "\r\n") }

// pair gives the two ends of a TCP connection, one of them a netio.Conn.
func pair(t testing.TB) (*netio.Conn, *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	peer, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c, err := netio.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); peer.Close() })
	_ = peer.SetDeadline(time.Now().Add(20 * time.Second))
	return c, peer.(*net.TCPConn)
}

// peerConn is the other end of a connection.
type peerConn interface {
	net.Conn
	CloseWrite() error
}

// unixPair is pair without a trip through TCP, for tests that use up thousands of connections.
func unixPair(t testing.TB) (*netio.Conn, peerConn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		if ends[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	c, err := netio.New(ends[0])
	if err != nil {
		t.Fatal(err)
	}
	_ = ends[1].SetDeadline(time.Now().Add(20 * time.Second))
	return c, ends[1].(peerConn)
}

// feeder is a stream whose peer sends the next piece only when the codec has asked for it, so that
// every piece is read on its own. Behind the last one the peer ends its side.
type feeder struct {
	*netio.Conn
	peer   peerConn
	pieces []string
	fills  int
	open   bool // do not end after the last piece
}

func (f *feeder) Fill(b *netio.Buffer) error {
	f.fills++
	for len(f.pieces) > 0 && f.pieces[0] == "" {
		f.pieces = f.pieces[1:]
	}
	if len(f.pieces) > 0 {
		piece := f.pieces[0]
		f.pieces = f.pieces[1:]
		if _, err := io.WriteString(f.peer, piece); err != nil {
			return err
		}
	} else if !f.open {
		if err := f.peer.CloseWrite(); err != nil {
			return err
		}
	}
	return f.Conn.Fill(b)
}

// each calls f for every way to deliver s: whole, byte by byte, and cut in two at every place.
func each(s string, f func(pieces ...string)) {
	f(s)
	f(strings.Split(s, "")...)
	for i := 1; i < len(s); i++ {
		f(s[:i], s[i:])
	}
}

func dumpHeader(h *message.Header) string {
	var b strings.Builder
	for i := range h.Len() {
		if _, name, value, ok := h.At(i); ok {
			b.WriteString("|" + string(name) + ": " + string(value))
		}
	}
	return b.String()
}

var (
	testServer = ServerOptions{testLimits}
	testClient = ClientOptions{Limits: testLimits}
)

// readAll reads a body to its end, as bytes that are the caller's.
func readAll(b message.BodyReader) (string, error) {
	var all strings.Builder
	for {
		p, err := b.Next(true)
		all.Write(p)
		if err == io.EOF {
			return all.String(), nil
		}
		if err != nil {
			return all.String(), err
		}
	}
}
