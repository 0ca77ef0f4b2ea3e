package netio

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair gives a Conn that uses TCP and the plain socket at its other end.
func pair(t testing.TB) (*Conn, *net.TCPConn) { return connect(t, false) }

func mptcpPair(t testing.TB) (*Conn, *net.TCPConn) { return connect(t, true) }

func connect(t testing.TB, mptcp bool) (*Conn, *net.TCPConn) {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(mptcp) // Go's own listeners would speak it
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var d net.Dialer
	d.SetMultipathTCP(mptcp)
	peer, err := d.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(nc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); peer.Close() })
	_ = peer.SetDeadline(time.Now().Add(20 * time.Second))
	return c, peer.(*net.TCPConn)
}

// onEach runs a test on a TCP pair and on an MPTCP pair.
func onEach(t *testing.T, f func(t *testing.T, c *Conn, peer *net.TCPConn)) {
	t.Run("tcp", func(t *testing.T) { c, p := pair(t); f(t, c, p) })
	t.Run("mptcp", func(t *testing.T) { c, p := mptcpPair(t); f(t, c, p) })
}

func wantRead(t *testing.T, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v; want %q", got, err, want)
	}
}

func send(t *testing.T, w io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		t.Error(err) // not Fatal: it is also called beside the test's goroutine
	}
}

func TestWriteIsHeldUntilReadAndCopied(t *testing.T) {
	onEach(t, func(t *testing.T, c *Conn, peer *net.TCPConn) {
		p := []byte("hello ")
		send(t, c, string(p))
		if _, err := c.Write(p); err != nil {
			t.Fatal(err)
		}
		copy(p, "other!") // crypto/tls recycles what it has handed to Write
		if c.Held() != 12 {
			t.Fatalf("%d bytes held, want 12", c.Held())
		}
		go send(t, peer, "answer")
		wantRead(t, c, "answer")
		wantRead(t, peer, "hello hello ")
	})
}

func TestReadFlushesBeforeItWaits(t *testing.T) {
	onEach(t, func(t *testing.T, c *Conn, peer *net.TCPConn) {
		send(t, c, "question")
		done := make(chan error, 1)
		go func() {
			var b Buffer
			done <- c.Fill(&b)
		}()
		wantRead(t, peer, "question") // arrives although nothing has come back yet
		send(t, peer, "x")
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func TestLargeWriteLeavesWithWhatWasHeld(t *testing.T) {
	onEach(t, func(t *testing.T, c *Conn, peer *net.TCPConn) {
		// 1 MiB: more than the socket takes at once.
		large := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		got := make(chan []byte)
		go func() {
			b, _ := io.ReadAll(peer)
			got <- b
		}()
		send(t, c, "head")
		if _, err := c.Write(large); err != nil {
			t.Fatal(err)
		}
		send(t, c, "tail")
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		b := <-got
		if want := "head" + string(large) + "tail"; string(b) != want {
			t.Fatalf("%d bytes arrived, want %d, or they differ", len(b), len(want))
		}
	})
}

// An edge that came between any two steps must not be lost: RawConn.Read forgets it.
func TestEdgesBetweenStepsAreNotLost(t *testing.T) {
	onEach(t, func(t *testing.T, c *Conn, peer *net.TCPConn) {
		var b Buffer
		send(t, peer, "one")
		fill(t, c, &b, "one")
		send(t, peer, "two") // arrives while nobody reads: a pipelined request
		waitReadable(t, c)
		send(t, c, "answer")
		fill(t, c, &b, "two")
		wantRead(t, peer, "answer")
		send(t, peer, "three") // data and FIN together
		if err := peer.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		waitReadable(t, c)
		send(t, c, "answer to a half-closed peer")
		fill(t, c, &b, "three")
		if err := c.Fill(&b); err != io.EOF {
			t.Fatalf("got %v, want EOF", err)
		}
		wantRead(t, peer, "answer to a half-closed peer")
		if err := c.Fill(&b); err != io.EOF { // and it stays so
			t.Fatalf("got %v, want EOF again", err)
		}
	})
}

func TestFullCloseWhileHolding(t *testing.T) {
	onEach(t, func(t *testing.T, c *Conn, peer *net.TCPConn) {
		send(t, peer, "last words")
		peer.Close()
		waitReadable(t, c)
		send(t, c, "to nobody")
		var b Buffer
		fill(t, c, &b, "last words") // still delivered, whatever the outcome of our write
		for err := error(nil); err == nil; err = c.Fill(&b) {
		}
	})
}

func fill(t *testing.T, c *Conn, b *Buffer, want string) {
	t.Helper()
	var got strings.Builder
	for got.Len() < len(want) {
		if err := c.Fill(b); err != nil {
			t.Fatalf("after %q: %v; want %q", got.String(), err, want)
		}
		got.Write(b.Take(b.Len()))
	}
	if got.String() != want {
		t.Fatalf("got %q, want %q", got.String(), want)
	}
}

// waitReadable returns once something lies in c's socket, without touching the state of c.
func waitReadable(t *testing.T, c *Conn) {
	t.Helper()
	other, err := c.sock.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(other.Fd()), b[:], syscall.MSG_PEEK)
		if err == syscall.EINTR || err == syscall.EAGAIN {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		// File makes the shared description blocking: undo it.
		if err := syscall.SetNonblock(int(other.Fd()), true); err != nil {
			t.Fatal(err)
		}
		return
	}
}

func TestExpiredDeadlineStillFlushes(t *testing.T) {
	onEach(t, func(t *testing.T, c *Conn, peer *net.TCPConn) {
		send(t, c, "408")
		_ = c.SetReadDeadline(time.Now().Add(-time.Second))
		var b Buffer
		if err := c.Fill(&b); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("got %v, want a deadline error", err)
		}
		wantRead(t, peer, "408")
	})
}

func TestDeadlineMovesBothWays(t *testing.T) {
	c, peer := pair(t)
	var b Buffer
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	// A store: the timer fires early and is set again.
	_ = c.SetReadDeadline(time.Now().Add(time.Hour))
	timer := time.AfterFunc(60*time.Millisecond, func() { send(t, peer, "late") })
	defer timer.Stop()
	fill(t, c, &b, "late")
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Millisecond)) // nearer: must take effect
	start := time.Now()
	if err := c.Fill(&b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v, want a deadline error", err)
	}
	if d := time.Since(start); d < 25*time.Millisecond {
		t.Fatalf("gave up after %v, want 30ms", d)
	}
	_ = c.SetReadDeadline(time.Time{})
	send(t, peer, "again")
	fill(t, c, &b, "again")
}

func TestInterruptAndResume(t *testing.T) {
	onEach(t, func(t *testing.T, c *Conn, peer *net.TCPConn) {
		var b Buffer
		_ = c.SetReadDeadline(time.Now().Add(time.Hour))
		done := make(chan error, 1)
		go func() { done <- c.Fill(&b) }()
		c.Interrupt()
		if err := <-done; err != ErrInterrupted {
			t.Fatalf("got %v, want ErrInterrupted", err)
		}
		if err := c.Fill(&b); err != ErrInterrupted {
			t.Fatalf("got %v, want ErrInterrupted until Resume", err)
		}
		c.Resume()
		send(t, peer, "on we go")
		fill(t, c, &b, "on we go")
	})
}

func TestReaderAndBlockedWriterDoNotDeadlock(t *testing.T) {
	onEach(t, func(t *testing.T, c *Conn, peer *net.TCPConn) {
		wrote := make(chan error, 1)
		go func() {
			_, err := c.Write(make([]byte, 16<<20)) // the peer reads nothing yet
			wrote <- err
		}()
		var b Buffer
		send(t, peer, "read this meanwhile")
		fill(t, c, &b, "read this meanwhile")
		if _, err := io.CopyN(io.Discard, peer, 16<<20); err != nil {
			t.Fatal(err)
		}
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
	})
}

// What a read cannot send at once is finished under the write deadline, then the read starts over.
func TestShortWriteInReadIsFinished(t *testing.T) {
	onEach(t, func(t *testing.T, c *Conn, peer *net.TCPConn) {
		n := stuff(t, c)
		send(t, c, "the rest")
		filled := make(chan error, 1)
		var b Buffer
		go func() { filled <- c.Fill(&b) }()
		if _, err := io.CopyN(io.Discard, peer, int64(n)); err != nil {
			t.Fatal(err)
		}
		wantRead(t, peer, "the rest")
		send(t, peer, "answer")
		if err := <-filled; err != nil || string(b.Bytes()) != "answer" {
			t.Fatalf("got %q, %v", b.Bytes(), err)
		}
	})
}

// stuff fills both sockets until they take no more, and says with how many bytes. What the peer's
// socket takes over comes a little later, so that it is tried until nothing has moved for a while.
func stuff(t *testing.T, c *Conn) (n int) {
	t.Helper()
	junk := make([]byte, 64<<10)
	for full := 0; full < 10; full++ {
		err := c.raw.Control(func(fd uintptr) {
			for _, size := range []int{len(junk), 1} {
				for {
					k, err := syscall.Write(int(fd), junk[:size])
					if err != nil && err != syscall.EINTR {
						break
					}
					n += max(k, 0)
					full = 0
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(5 * time.Millisecond)
	}
	return n
}

func TestWriteTimerIsTakenBack(t *testing.T) {
	c, peer := pair(t)
	c.SetPace(Pace{Window: 600 * time.Millisecond, MinRate: 1})
	read := make(chan struct{})
	go func() {
		_, _ = io.CopyN(io.Discard, peer, 8<<20)
		close(read)
	}()
	if _, err := c.Write(make([]byte, 8<<20)); err != nil { // waits, so the timer is set
		t.Fatal(err)
	}
	<-read
	<-time.After(700 * time.Millisecond) // the window of that wait is over
	send(t, c, "later")
	if err := c.Flush(); err != nil {
		t.Fatalf("a timer of an earlier wait fired: %v", err)
	}
	wantRead(t, peer, "later")
}

func TestIdle(t *testing.T) {
	onEach(t, func(t *testing.T, c *Conn, peer *net.TCPConn) {
		if !c.Idle() {
			t.Fatal("a silent connection is not idle")
		}
		send(t, peer, "out of turn")
		waitReadable(t, c)
		if c.Idle() {
			t.Fatal("a connection with something to read is idle")
		}
		var b Buffer
		fill(t, c, &b, "out of turn")
		if !c.Idle() {
			t.Fatal("a drained connection is not idle")
		}
		peer.Close()
		waitReadable(t, c)
		if c.Idle() {
			t.Fatal("a closed connection is idle")
		}
	})
}

func TestIdleConnectionHoldsNoBuffer(t *testing.T) {
	c, peer := pair(t)
	var b Buffer
	send(t, peer, "request")
	fill(t, c, &b, "request")
	send(t, c, "response")
	done := make(chan error, 1)
	go func() { done <- c.Fill(&b) }()
	wantRead(t, peer, "response")
	c.Interrupt()
	if err := <-done; err != ErrInterrupted {
		t.Fatal(err)
	}
	if b.data != nil || c.block != nil {
		t.Fatal("a parked connection holds a buffer")
	}
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	c, peer := pair(t)
	var b Buffer
	req, buf := make([]byte, 200), make([]byte, 1000)
	resp := make([]byte, 1000)
	if n := testing.AllocsPerRun(200, func() {
		_, _ = peer.Write(req)
		_ = c.SetReadDeadline(time.Now().Add(time.Hour))
		if err := c.Fill(&b); err != nil {
			t.Fatal(err)
		}
		b.Take(b.Len())
		_, _ = c.Write(resp)
		c.Flush()
		_ = c.Idle()
		_, _ = io.ReadFull(peer, buf)
	}); n != 0 {
		t.Errorf("%v allocations a round, want 0", n)
	}
}

func TestTLSAlertsAndCloseNotifyArrive(t *testing.T) {
	onEach(t, func(t *testing.T, c *Conn, peer *net.TCPConn) {
		server := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}})
		done := make(chan error, 1)
		go func() {
			if err := server.Handshake(); err != nil {
				done <- err
				return
			}
			_, err := server.Write([]byte("bye"))
			server.Close()
			done <- err
		}()
		client := tls.Client(peer, &tls.Config{InsecureSkipVerify: true})
		b, err := io.ReadAll(client) // an EOF without close_notify would be an error
		if err != nil || string(b) != "bye" {
			t.Fatalf("got %q, %v", b, err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
	t.Run("alert", func(t *testing.T) {
		c, peer := pair(t)
		server := tls.Server(c, &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return nil, errors.New("none")
		}})
		go func() {
			_ = server.Handshake()
			server.Close()
		}()
		err := tls.Client(peer, &tls.Config{InsecureSkipVerify: true}).Handshake()
		if err == nil || !strings.Contains(err.Error(), "remote error: tls:") {
			t.Fatalf("got %v, want the alert that the server sent", err)
		}
	})
}

func TestTLSCanBeAskedAgain(t *testing.T) {
	c, peer := pair(t)
	server := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}})
	client := tls.Client(peer, &tls.Config{InsecureSkipVerify: true})
	go client.Handshake()
	if err := server.Handshake(); err != nil {
		t.Fatal(err)
	}
	s := NewTLS(c, server)
	var b Buffer
	for range 3 {
		done := make(chan error, 1)
		go func() { done <- s.Fill(&b) }()
		send(t, client, "request")
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := string(b.Take(b.Len())); got != "request" {
			t.Fatalf("got %q", got)
		}
		send(t, s, "response")
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		wantRead(t, client, "response")
	}
}

// unixPair is both ends of a unix socket.
func unixPair(t *testing.T) (c *Conn, peer net.Conn) {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if peer, err = net.Dial("unix", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if c, err = New(nc); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, peer
}

func TestUnixSocket(t *testing.T) {
	c, peer := unixPair(t)
	send(t, peer, "hello")
	wantRead(t, c, "hello")
	send(t, c, "back")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(peer)
	if err != nil || string(b) != "back" {
		t.Fatalf("got %q, %v", b, err)
	}
}

func TestNewRefusesWhatIsNoSocket(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	_, err := New(a)
	if err == nil || err.Error() != "netio: *net.pipe is not a socket; want *net.TCPConn or *net.UnixConn" {
		t.Fatalf("got %v", err)
	}
}

func TestBufferGrowsToItsBound(t *testing.T) {
	c, peer := pair(t)
	go func() { _, _ = peer.Write(make([]byte, MaxBuffered+1)) }()
	var b Buffer
	var err error
	for err == nil {
		err = c.Fill(&b)
	}
	if err != ErrBufferFull || b.Len() != MaxBuffered {
		t.Fatalf("got %v with %d bytes held, want ErrBufferFull at %d", err, b.Len(), MaxBuffered)
	}
	b.Release()
}

// An interruption must not be lost to a deadline that is being set at the same moment, as when a
// connection becomes idle while a drain begins.
func TestInterruptBesideSettingADeadline(t *testing.T) {
	for range 300 {
		c, peer := pair(t)
		start := make(chan struct{})
		done := make(chan error, 1)
		go func() {
			var b Buffer
			<-start
			_ = c.SetReadDeadline(time.Now().Add(time.Hour)) // the first one: the timer is set
			done <- c.Fill(&b)
		}()
		close(start)
		c.Interrupt()
		select {
		case err := <-done:
			if err != ErrInterrupted {
				t.Fatalf("got %v, want ErrInterrupted", err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("an interruption was lost")
		}
		c.Close()
		peer.Close()
	}
}
