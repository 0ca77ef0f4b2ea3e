//go:build linux

package paths

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"mpgate/internal/lab"
)

const backendPort = 9000

// endless is the Content-Length of transfers that the receiving or the sending end breaks off when
// its time is up.
const endless = 1 << 40

// content is what transfers carry: a pattern whose length divides no buffer's, so that bytes that
// are lost, doubled or out of order show.
var content = func() []byte {
	b := make([]byte, 65521)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	return bytes.Repeat(b, 8)
}()

const patternSize = 65521

// checker compares what arrives with content.
type checker struct{ at int }

func (c *checker) check(p []byte) error {
	if !bytes.Equal(p, content[c.at:c.at+len(p)]) {
		return errors.New("what arrived is not what was sent")
	}
	c.at = (c.at + len(p)) % patternSize
	return nil
}

// bufferSize of receivers; with an offset below patternSize it stays within content.
const bufferSize = 256 << 10

// backend is the server at the far end. It answers /…/bytes/N with N bytes, /…/stream without end,
// and reads /…/sink/ID without end.
type backend struct {
	server *http.Server

	mu sync.Mutex
	// A value is true once a request has arrived. mpgate's probes of a silent path send none, and
	// use plain TCP.
	conns map[net.Conn]bool
	empty chan struct{} // closed while there are no connections
	spoke seen
	sinks map[string]chan sunk
}

// seen counts connections by what they speak.
type seen struct{ MPTCP, Plain, FellBack int64 }

type sunk struct {
	*arrivals
	err error
}

func startBackend(ctx context.Context, p *lab.Place) (*backend, error) {
	l, err := p.Listen(ctx, lab.MPTCP, ":"+strconv.Itoa(backendPort))
	if err != nil {
		return nil, err
	}
	b := &backend{conns: make(map[net.Conn]bool), empty: make(chan struct{}), sinks: make(map[string]chan sunk)}
	close(b.empty)
	b.server = &http.Server{Handler: b, ConnState: b.state}
	go func() { _ = b.server.Serve(l) }() // ends with close
	return b, nil
}

func (b *backend) close() { b.server.Close() }

func (b *backend) state(c net.Conn, s http.ConnState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch s {
	case http.StateNew:
		if len(b.conns) == 0 {
			b.empty = make(chan struct{})
		}
		b.conns[c] = false
	case http.StateActive:
		if b.conns[c] {
			return
		}
		b.conns[c] = true
		if speaksMPTCP(c) {
			b.spoke.MPTCP++
		} else {
			b.spoke.Plain++
		}
	case http.StateClosed, http.StateHijacked:
		if _, ok := b.conns[c]; !ok {
			return
		}
		delete(b.conns, c)
		if len(b.conns) == 0 {
			close(b.empty)
		}
	}
}

// endRun closes all connections and gives what they spoke. The next run begins with none: it
// neither inherits a large window nor subflows.
func (b *backend) endRun(ctx context.Context) (seen, error) {
	b.mu.Lock()
	s := b.spoke
	b.spoke = seen{}
	for c := range b.conns {
		if protocolOf(c) == unix.IPPROTO_MPTCP && !speaksMPTCP(c) {
			s.FellBack++
		}
		c.Close()
	}
	empty := b.empty
	b.mu.Unlock()
	select {
	case <-empty:
		return s, nil
	case <-ctx.Done():
		return s, fmt.Errorf("the backend's connections did not end: %w", context.Cause(ctx))
	}
}

// put gives back what endRun took, for the one who asks next.
func (b *backend) put(s seen) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spoke.MPTCP += s.MPTCP
	b.spoke.Plain += s.Plain
	b.spoke.FellBack += s.FellBack
}

// sink prepares for an upload; what arrived comes when it ended.
func (b *backend) sink(id string) <-chan sunk {
	c := make(chan sunk, 1)
	b.mu.Lock()
	b.sinks[id] = c
	b.mu.Unlock()
	return c
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(r.URL.Path, "/") // "", way, what, argument
	if len(parts) < 3 {
		http.NotFound(w, r)
		return
	}
	argument := strings.Join(parts[3:], "/")
	switch parts[2] {
	case "bytes":
		n, err := strconv.Atoi(argument)
		if err != nil || n < 0 || n > len(content) {
			http.Error(w, fmt.Sprintf("/…/bytes/N (got %q); want at most %d", argument, len(content)), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", argument)
		_, _ = w.Write(content[:n])
	case "stream":
		w.Header().Set("Content-Length", strconv.Itoa(endless))
		for {
			if _, err := w.Write(content); err != nil {
				return
			}
		}
	case "sink":
		b.mu.Lock()
		done := b.sinks[argument]
		delete(b.sinks, argument)
		b.mu.Unlock()
		if done == nil {
			http.Error(w, "nobody waits for this upload", http.StatusNotFound)
			return
		}
		a, err := receive(r.Body)
		done <- sunk{a, err}
	default:
		http.NotFound(w, r)
	}
}

// receive reads until r ends, and says when what came. Only content that is not what was sent is an
// error of its own: that the other end breaks off is how transfers end here.
func receive(r io.Reader) (*arrivals, error) {
	a, buf, c := &arrivals{}, make([]byte, bufferSize), checker{}
	for {
		n, err := r.Read(buf)
		if n > 0 {
			a.add(n)
			if err := c.check(buf[:n]); err != nil {
				return a, err
			}
		}
		if err != nil {
			return a, nil
		}
	}
}

// speaksMPTCP asks the socket itself.
func speaksMPTCP(c net.Conn) bool {
	const tcpIsMPTCP = 43 // kernel 6.10
	if protocolOf(c) != unix.IPPROTO_MPTCP {
		return false
	}
	v, err := socketOption(c, unix.SOL_TCP, tcpIsMPTCP)
	return err != nil || v == 1
}

func protocolOf(c net.Conn) int {
	v, err := socketOption(c, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return 0
	}
	return v
}

func socketOption(c net.Conn, level, option int) (v int, err error) {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return 0, fmt.Errorf("%T is not a TCP connection", c)
	}
	rc, err := t.SyscallConn()
	if err != nil {
		return 0, err
	}
	if e := rc.Control(func(fd uintptr) { v, err = unix.GetsockoptInt(int(fd), level, option) }); e != nil {
		return 0, e
	}
	return v, err
}

// stall is how long a receiver may have had nothing at the end of a transfer before that counts as
// failed.
const stall = time.Second
