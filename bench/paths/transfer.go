//go:build linux

package paths

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"time"

	"mpgate/bench/load"
	"mpgate/internal/lab"
)

// caller dials the gateway as a variant does, and remembers its connections.
type caller struct {
	site    *site
	mptcp   bool
	from    netip.Addr
	to      netip.AddrPort
	segment string

	mu    sync.Mutex
	noted []*noting
	spoke seen
}

func (s *site) caller(v variant) *caller {
	c := &caller{site: s, mptcp: v.mptcp && s.side.front() && !s.scenario.PlainClient}
	c.from, c.to, c.segment = s.way(v)
	return c
}

func (c *caller) dial(ctx context.Context) (net.Conn, error) {
	conn, err := c.site.lab.Place("client").Dial(ctx, lab.Proto(c.mptcp), c.from, c.to.String())
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if speaksMPTCP(conn) {
		c.spoke.MPTCP++
	} else {
		c.spoke.Plain++
	}
	return conn, nil
}

// leave looks once more at what a connection speaks, and closes it.
func (c *caller) leave(conn net.Conn, was bool) {
	if was && !speaksMPTCP(conn) {
		c.mu.Lock()
		c.spoke.FellBack++
		c.mu.Unlock()
	}
	conn.Close()
}

// transfer is one large download or upload as its receiver saw it.
type transfer struct {
	*arrivals
	begin, end time.Time
	ttfb       time.Duration // of the download, its connection's making included
}

// download takes what comes until its time is up.
func (c *caller) download(ctx context.Context, d time.Duration) (transfer, error) {
	begin := time.Now()
	t := transfer{arrivals: &arrivals{}, begin: begin, end: begin.Add(d)}
	ctx, cancel := context.WithDeadline(ctx, t.end)
	defer cancel()
	conn, err := c.dial(ctx)
	if err != nil {
		return t, err
	}
	defer c.leave(conn, speaksMPTCP(conn))
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := fmt.Fprintf(conn, "GET /%s/stream HTTP/1.1\r\nHost: gateway\r\n\r\n", c.segment); err != nil {
		return t, err
	}
	buf := make([]byte, bufferSize)
	rest, err := readHead(conn, buf)
	if err != nil {
		return t, err
	}
	t.ttfb = time.Since(begin)
	check := checker{}
	for n := len(rest); ; {
		if n > 0 {
			t.add(n)
			if err := check.check(rest[:n]); err != nil {
				return t, err
			}
		}
		if n, err = conn.Read(buf); err != nil && n == 0 {
			break
		}
		rest = buf
	}
	return t, ended(err, t.end)
}

// ended judges why a transfer stopped: because its time was up, or before.
func ended(err error, end time.Time) error {
	if errors.Is(err, os.ErrDeadlineExceeded) && !time.Now().Before(end) {
		return nil
	}
	return fmt.Errorf("it ended before its time: %w", err)
}

// readHead reads a response's head and gives what came behind it.
func readHead(r io.Reader, buf []byte) (rest []byte, err error) {
	for n := 0; n < len(buf); {
		m, err := r.Read(buf[n:])
		n += m
		if end := bytes.Index(buf[:n], []byte("\r\n\r\n")); end >= 0 {
			if !bytes.HasPrefix(buf, []byte("HTTP/1.1 200 ")) {
				line, _, _ := bytes.Cut(buf[:end], []byte("\r\n"))
				return nil, fmt.Errorf("status line (got %q); want 200", line)
			}
			return buf[end+4 : n], nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, errors.New("the response's head does not end")
}

// upload sends until its time is up; the arrivals are the backend's.
func (c *caller) upload(ctx context.Context, d time.Duration) (transfer, error) {
	begin := time.Now()
	t := transfer{arrivals: &arrivals{}, begin: begin, end: begin.Add(d)}
	id := strconv.FormatInt(begin.UnixNano(), 36)
	received := c.site.backend.sink(id)
	sent := c.send(ctx, t.end, id)
	// Where a path is dead, the backend does not learn that the sender left: its connections are
	// closed here.
	stop, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	spoke, err := c.site.backend.endRun(stop)
	c.site.backend.put(spoke)
	if err != nil {
		return t, errors.Join(sent, err)
	}
	select {
	case r := <-received:
		t.arrivals = r.arrivals
		return t, errors.Join(sent, r.err)
	case <-stop.Done():
		return t, errors.Join(sent, errors.New("the upload never reached the backend"))
	}
}

func (c *caller) send(ctx context.Context, end time.Time, id string) error {
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	conn, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer c.leave(conn, speaksMPTCP(conn))
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err = fmt.Fprintf(conn, "POST /%s/sink/%s HTTP/1.1\r\nHost: gateway\r\nContent-Length: %d\r\n\r\n", c.segment, id, endless)
	for err == nil {
		_, err = conn.Write(content[:patternSize])
	}
	return ended(err, end)
}

// firstBytes times connections that are made for one small request each, one after the other.
func (c *caller) firstBytes(ctx context.Context, n int) (times []time.Duration, failed int) {
	buf := make([]byte, 16<<10)
	for range n {
		if ctx.Err() != nil {
			return times, failed
		}
		begin := time.Now()
		err := func() error {
			ctx, cancel := context.WithTimeout(ctx, smallTimeout)
			defer cancel()
			conn, err := c.dial(ctx)
			if err != nil {
				return err
			}
			defer c.leave(conn, speaksMPTCP(conn))
			_ = conn.SetDeadline(begin.Add(smallTimeout))
			if _, err := fmt.Fprintf(conn, "GET /%s/bytes/%d HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n", c.segment, smallBody); err != nil {
				return err
			}
			_, err = readHead(conn, buf)
			return err
		}()
		if err != nil {
			failed++
			continue
		}
		times = append(times, time.Since(begin))
	}
	return times, failed
}

const (
	smallBody        = 1 << 10
	smallConnections = 64
	smallTimeout     = 3 * time.Second
	parallelBody     = 256 << 10
	parallelClients  = 100
)

// requests is load on kept connections: at a fixed rate, or (rate 0) each request as soon as the
// one before is answered.
func (c *caller) requests(ctx context.Context, body int64, connections int, rate float64, d time.Duration) (load.Outcome, error) {
	j := load.Job{
		Address: c.to.String(), Prefix: "/" + c.segment, Body: body, Connections: connections, Duration: d, Rate: rate,
		Dial: c.dialNoting,
	}
	if rate > 0 {
		j.Timeout, j.Warm = smallTimeout, true
	}
	return load.Builtin(ctx, j)
}

// noting is a connection that notes what is read from it, and when.
type noting struct {
	*net.TCPConn
	arrivals
}

func (n *noting) Read(p []byte) (int, error) {
	m, err := n.TCPConn.Read(p)
	if m > 0 {
		n.add(m)
	}
	return m, err
}

func (c *caller) dialNoting(ctx context.Context) (net.Conn, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	n := &noting{TCPConn: conn.(*net.TCPConn)}
	c.mu.Lock()
	c.noted = append(c.noted, n)
	c.mu.Unlock()
	return n, nil
}

// received is what all connections together read, once the load is over.
func (c *caller) received() *arrivals {
	all := &arrivals{}
	for _, n := range c.noted {
		all.at = append(all.at, n.at...)
		all.size = append(all.size, n.size...)
	}
	return all
}
