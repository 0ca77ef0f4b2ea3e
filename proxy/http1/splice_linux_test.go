package http1

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"mpgate/proxy/message"
	"mpgate/proxy/netio"
)

// splicePair gives a request whose body comes by splice, and the connection to a server that it
// goes to.
func splicePair(t *testing.T, o *ServerOptions, length int) (from io.Writer, c *ServerConn, up *ClientConn, to io.Reader, closeFrom func()) {
	t.Helper()
	c, peer := newServer(t, o)
	up, origin := newClient(t)
	send(t, peer, "POST / HTTP/1.1|Host: x|Content-Length: "+strconv.Itoa(length)+"||")
	var r message.Request
	if err := c.ReadRequest(&r, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := up.WriteHead(&r); err != nil {
		t.Fatal(err)
	}
	return peer, c, up, origin, func() { _ = peer.CloseWrite() }
}

func spliceAll(c *ServerConn, up *ClientConn) (n int64, err error) {
	for err == nil {
		k, ok, srcErr, dstErr := c.body.Splice(up, true)
		if !ok {
			break
		}
		n += k
		err = errors.Join(srcErr, dstErr)
	}
	if err == nil { // what is left is too little for a splice
		err = pass(c.Body(), up)
	}
	return n, err
}

// A spliced body ends where it should: the request behind it is read as its own.
func TestSplicedBody(t *testing.T) {
	const size = 1 << 20
	from, c, up, to, _ := splicePair(t, &testServer, size)
	body := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	go func() {
		_, _ = from.Write(body)
		_, _ = io.WriteString(from, wrkRequest)
	}()
	got := make(chan []byte, 1)
	go func() {
		b := make([]byte, len(lines("POST / HTTP/1.1|Host: x|Content-Length: 1048576||"))+size)
		_, _ = io.ReadFull(to, b)
		got <- b
	}()
	n, err := spliceAll(c, up)
	if err != nil || n == 0 || !c.BodyDone() || !c.BodyStarted() {
		t.Fatalf("spliced %d, %v, done %v", n, err, c.BodyDone())
	}
	if err := up.End(nil); err != nil {
		t.Fatal(err)
	}
	if err := up.Flush(); err != nil {
		t.Fatal(err)
	}
	if b := <-got; !bytes.HasSuffix(b, body) {
		t.Fatal("the body arrived changed")
	}
	respond(t, c, "")
	if !c.Next() {
		t.Fatal("no further request may be read")
	}
	if got := readRequest(t, c); got != "GET / HTTP/1.1 host=127.0.0.1:8080" {
		t.Fatalf("got %q", got)
	}
}

func TestSplicedBodyBrokenOff(t *testing.T) {
	from, c, up, to, closeFrom := splicePair(t, &testServer, 1<<20)
	go func() { _, _ = io.Copy(io.Discard, to) }()
	send(t, from, "only this")
	closeFrom()
	if _, err := spliceAll(c, up); !errors.Is(err, io.ErrUnexpectedEOF) || c.BodyDone() {
		t.Errorf("got %v, want unexpected EOF", err)
	}
	if err := up.End(nil); err != ErrBodyLength {
		t.Errorf("the body looks complete to the server: %v", err)
	}
}

// A client that sends a little now and then is as slow for a splice as for a read.
func TestSplicedBodyKeepsThePace(t *testing.T) {
	o := testServer
	o.IdleTime, o.MinRate = 100*time.Millisecond, 1<<20
	from, c, up, to, closeFrom := splicePair(t, &o, 1<<20)
	go func() { _, _ = io.Copy(io.Discard, to) }()
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_, _ = io.WriteString(from, "x")
			case <-stop:
				return
			}
		}
	}()
	_, err := spliceAll(c, up)
	if !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "bytes a second") {
		t.Errorf("got %v, want an error that names the rate", err)
	}
	close(stop)
	<-stopped
	closeFrom()
}

func TestSpliceAppliesToPlainLengths(t *testing.T) {
	_, c, up, _, _ := splicePair(t, &testServer, netio.SpliceMin-1)
	if _, ok, _, _ := c.body.Splice(up, false); ok {
		t.Error("a short body is spliced")
	}
	_, c, up, _, _ = splicePair(t, &testServer, 1<<20)
	up.bodyWriter.reset(chunked, message.Unknown)
	if _, ok, _, _ := c.body.Splice(up, false); ok {
		t.Error("a body is spliced into chunks")
	}
	up.bodyWriter.reset(byLength, 1<<19)
	if _, ok, _, _ := c.body.Splice(up, false); ok {
		t.Error("more is spliced than the head said")
	}
}

// A filter gets every byte: nothing is spliced past it.
func TestNoSplicePastFilter(t *testing.T) {
	from, c, up, _, _ := splicePair(t, &testServer, 64<<10)
	if _, err := from.Write(make([]byte, 64<<10)); err != nil {
		t.Fatal(err)
	}
	if n, ok, srcErr, dstErr := c.body.Splice(struct{ message.BodyWriter }{up}, true); ok || n != 0 || srcErr != nil || dstErr != nil {
		t.Errorf("spliced %d bytes to a filter, %v, %v, %v", n, ok, srcErr, dstErr)
	}
	if n, ok, srcErr, dstErr := c.body.Splice(up, true); !ok || n == 0 || srcErr != nil || dstErr != nil {
		t.Errorf("spliced %d bytes to the connection itself, %v, %v, %v", n, ok, srcErr, dstErr)
	}
}
