package netio

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// gathering is a socket that keeps what is written back until it is told to send, so that records
// arrive together.
type gathering struct {
	net.Conn
	held bytes.Buffer
	hold bool
}

func (g *gathering) Write(p []byte) (int, error) {
	if g.hold {
		return g.held.Write(p)
	}
	return g.Conn.Write(p)
}

func (g *gathering) send() error {
	g.hold = false
	_, err := g.held.WriteTo(g.Conn)
	return err
}

// tlsPair is a stream of a TLS client, as to a server, and the server at its other end.
func tlsPair(t *testing.T) (s *TLS, peer *tls.Conn, socket *gathering) {
	t.Helper()
	c, nc := pair(t)
	socket = &gathering{Conn: nc}
	peer = tls.Server(socket, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}})
	done := make(chan error, 1)
	go func() { done <- peer.Handshake() }()
	client := tls.Client(c, &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1)})
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	// The client's last message of a handshake leaves with what comes next.
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return NewTLS(c, client), peer, socket
}

func TestTLSIdle(t *testing.T) {
	s, peer, socket := tlsPair(t)
	var b Buffer
	defer b.Release()
	answer := func(text string) {
		t.Helper()
		send(t, peer, text)
		if err := s.Fill(&b); err != nil || string(b.Take(b.Len())) != text {
			t.Fatal(err)
		}
	}
	answer("the session ticket came before this")
	for range 2 { // asking changes nothing
		if !s.Idle() {
			t.Fatal("a silent connection counts as one that is not")
		}
	}
	_ = s.Base().SetReadDeadline(time.Now().Add(-time.Second))
	if !s.Idle() {
		t.Fatal("a deadline of a read that is over counts against a silent connection")
	}
	answer("on it goes")

	// Two records at once: the second is in crypto/tls, and not in the socket.
	socket.hold = true
	send(t, peer, "answer")
	send(t, peer, "out of turn")
	if err := socket.send(); err != nil {
		t.Fatal(err)
	}
	if err := s.Fill(&b); err != nil || string(b.Take(b.Len())) != "answer" {
		t.Fatal(err)
	}
	if s.Idle() {
		t.Fatal("a record that came with another one was overlooked")
	}
}

func TestTLSIdleSeesTheEnd(t *testing.T) {
	for name, end := range map[string]func(*tls.Conn) error{
		"close_notify": (*tls.Conn).CloseWrite,
		"close":        (*tls.Conn).Close,
		"FIN":          func(c *tls.Conn) error { return c.NetConn().Close() },
	} {
		t.Run(name, func(t *testing.T) {
			s, peer, _ := tlsPair(t)
			if err := end(peer); err != nil {
				t.Fatal(err)
			}
			if err := s.Base().WaitReadable(); err != nil {
				t.Fatal(err)
			}
			if s.Idle() {
				t.Error("a connection that has ended counts as open")
			}
		})
	}
}

func TestTLSCloseWriteSendsWhatIsHeld(t *testing.T) {
	s, peer, _ := tlsPair(t)
	send(t, s, "last words")
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_ = peer.SetDeadline(time.Now().Add(20 * time.Second))
	got, err := io.ReadAll(peer) // to the close_notify
	if err != nil || string(got) != "last words" {
		t.Fatalf("got %q, %v", got, err)
	}
	// The other direction continues.
	send(t, peer, "and an answer")
	var b Buffer
	defer b.Release()
	if err := s.Fill(&b); err != nil || string(b.Bytes()) != "and an answer" {
		t.Fatalf("got %q, %v", b.Bytes(), err)
	}
}

// Interrupting a read must not leave crypto/tls with an error that stays, also in the middle of a
// record.
func TestTLSReadIsInterruptedInsideARecord(t *testing.T) {
	s, peer, socket := tlsPair(t)
	socket.hold = true
	send(t, peer, "whole")
	record := socket.held.Bytes()
	var b Buffer
	defer b.Release()
	for _, n := range []int{1, 4, 10} { // within the record's head, at its end, in its body
		if _, err := socket.Conn.Write(record[:n]); err != nil {
			t.Fatal(err)
		}
		record = record[n:]
		done := make(chan error, 1)
		go func() { done <- s.Fill(&b) }()
		s.Base().Interrupt()
		if err := <-done; !errors.Is(err, ErrInterrupted) {
			t.Fatalf("got %v, want an interruption", err)
		}
		s.Base().Resume()
	}
	if _, err := socket.Conn.Write(record); err != nil {
		t.Fatal(err)
	}
	if err := s.Fill(&b); err != nil || string(b.Bytes()) != "whole" {
		t.Fatalf("got %q, %v", b.Bytes(), err)
	}
}

// What belongs together leaves in one write: the records lie in the socket's buffer until a flush.
func TestTLSGathers(t *testing.T) {
	s, peer, _ := tlsPair(t)
	send(t, s, "head ")
	send(t, s, strings.Repeat("x", recordSize-5))
	if n := s.Base().Held(); n != 0 {
		t.Errorf("%d bytes of records before a record is full", n)
	}
	send(t, s, "tail")
	if n := s.Base().Held(); n < recordSize {
		t.Errorf("%d bytes of records are held, want a whole record", n)
	}
	go func() { _ = s.Flush() }()
	got := make([]byte, recordSize+4)
	if _, err := io.ReadFull(peer, got); err != nil || !bytes.HasPrefix(got, []byte("head xx")) || !bytes.HasSuffix(got, []byte("xxtail")) {
		t.Fatalf("%v", err)
	}
}

// A last record of one byte, or of many, with the close_notify right behind it.
func TestTLSLastBytesComeWithTheEnd(t *testing.T) {
	for _, text := range []string{"x", "xy", "the last words"} {
		s, peer, socket := tlsPair(t)
		s.NeedsCloseNotify()
		socket.hold = true
		send(t, peer, text)
		if err := peer.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		_ = socket.SetWriteDeadline(time.Time{}) // crypto/tls leaves one in the past behind
		if err := socket.send(); err != nil {
			t.Fatal(err)
		}
		var b Buffer
		var got []byte
		var err error
		for err == nil {
			err = s.Fill(&b)
			got = append(got, b.Take(b.Len())...)
		}
		if string(got) != text || err != io.EOF {
			t.Errorf("got %q, %v; want %q and the end", got, err, text)
		}
	}
}

func TestTLSEndWithoutCloseNotify(t *testing.T) {
	for _, strict := range []bool{false, true} {
		s, peer, _ := tlsPair(t)
		want := io.EOF
		if strict {
			s.NeedsCloseNotify()
			want = io.ErrUnexpectedEOF
		}
		send(t, peer, "half of it")
		_ = peer.NetConn().Close()
		var b Buffer
		if err := s.Fill(&b); err != nil {
			t.Fatal(err)
		}
		b.Discard(b.Len())
		if err := s.Fill(&b); err != want {
			t.Errorf("got %v, want %v", err, want)
		}
	}
}
