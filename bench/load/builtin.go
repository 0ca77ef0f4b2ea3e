package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mpgate/bench/figures"
	"mpgate/bench/result"
)

// Builtin makes the requests of j from this process. A round ends when the requests in flight at
// the end of the duration are answered: each that is counted was received whole and has the length
// it should have.
//
// With a rate, each connection has its own timetable, and a request's latency is counted from when
// it was due, not from when the connection was free to send it: a proxy that stalls is charged for
// all requests that it held up.
func Builtin(ctx context.Context, j Job) (Outcome, error) {
	if _, err := netip.ParseAddrPort(j.Address); err != nil {
		return Outcome{}, fmt.Errorf("address (got %q); want IP:PORT", j.Address)
	}
	if j.Timeout == 0 {
		j.Timeout = timeout
	}
	clients := make([]*client, j.Connections)
	var wg sync.WaitGroup
	var stop atomic.Bool
	for i := range clients {
		clients[i] = &client{job: j, ctx: ctx, stop: &stop, request: j.request(), in: make([]byte, readSize(j.Body))}
		if j.Warm {
			wg.Go(clients[i].warm)
		}
	}
	wg.Wait()
	if j.Begun != nil {
		j.Begun()
	}
	start := time.Now()
	for i, c := range clients {
		c.first = start
		if j.Rate > 0 {
			c.every = time.Duration(float64(j.Connections) / j.Rate * float64(time.Second))
			c.first = start.Add(time.Duration(float64(i) / j.Rate * float64(time.Second)))
		}
		wg.Go(c.run)
	}
	// The clock starts with the connections, as wrk's does.
	timer := time.NewTimer(j.Duration)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	stop.Store(true)
	over := time.Now()
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return Outcome{}, context.Cause(ctx)
	}
	out := Outcome{Wall: time.Since(start)}
	var h figures.Histogram
	for _, c := range clients {
		out.Requests += c.requests
		out.Bytes += c.bytes
		out.MPTCP += c.mptcp
		out.Opened += c.opened
		out.Errors = addErrors(out.Errors, c.errors)
		out.Missed += c.missed(over)
		h.Add(&c.latency)
	}
	out.Latency = latency(&h, j.Rate > 0)
	return out, nil
}

func addErrors(a, b result.Errors) result.Errors {
	return result.Errors{
		Connect: a.Connect + b.Connect, Read: a.Read + b.Read, Write: a.Write + b.Write,
		Status: a.Status + b.Status, Timeout: a.Timeout + b.Timeout, Length: a.Length + b.Length,
	}
}

// readSize is large for large bodies: what the client costs is not the question, but it shares the
// CPUs.
func readSize(body int64) int { return int(min(max(body+2048, 16<<10), 256<<10)) }

func (j Job) request() []byte {
	connection := ""
	if j.Close {
		connection = "Connection: close\r\n"
	}
	return fmt.Appendf(nil, "GET %s%s HTTP/1.1\r\nHost: %s\r\n%s%s\r\n", j.Prefix, j.path(), j.Address, connection, j.fields())
}

func (j *Job) fields() string {
	var b strings.Builder
	for _, f := range j.Fields {
		b.WriteString(f + "\r\n")
	}
	return b.String()
}

// anyRequest is for one of the hosts, or one of the paths, of the job.
func (j *Job) anyRequest(b []byte) []byte {
	if j.Hosts > 0 {
		return fmt.Appendf(b, "GET %s HTTP/1.1\r\nHost: r%d.example\r\n%s\r\n", j.path(), rand.IntN(j.Hosts), j.fields())
	}
	return fmt.Appendf(b, "GET /r%d%s HTTP/1.1\r\nHost: %s\r\n%s\r\n", rand.IntN(j.Paths), j.path(), j.Address, j.fields())
}

// timeout is how long a request may take, as long as wrk is told.
const timeout = 10 * time.Second

// client is one connection after the other.
type client struct {
	job     Job
	ctx     context.Context // of the whole run: its connections are made under it
	stop    *atomic.Bool
	request []byte
	in      []byte
	conn    net.Conn
	first   time.Time     // when its first request is due
	every   time.Duration // 0: as soon as the one before is answered

	requests, bytes, opened, mptcp int64
	tried                          int64 // requests whose turn came
	errors                         result.Errors
	latency                        figures.Histogram
}

func (c *client) run() {
	defer c.hangUp()
	for n := 0; !c.stop.Load(); n++ {
		due := time.Now()
		if c.every > 0 {
			due = c.first.Add(time.Duration(n) * c.every)
			if !c.waitUntil(due) {
				return
			}
		}
		c.tried++
		if c.once() {
			c.latency.Record(time.Since(due))
		}
	}
}

// warm makes the connection and has one request answered; only what goes wrong is counted.
func (c *client) warm() {
	c.once()
	c.requests, c.bytes = 0, 0
}

// once makes one request, and the connection for it where there is none; false: there was none to
// be had.
func (c *client) once() bool {
	if c.conn == nil {
		if c.conn = c.dial(); c.conn == nil {
			return false
		}
	}
	if !c.exchange(c.conn) || c.job.Close {
		c.hangUp()
	}
	return true
}

func (c *client) hangUp() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// missed counts requests that were due before a moment and did not get their turn. One that was
// just about to be sent is none.
func (c *client) missed(over time.Time) int64 {
	over = over.Add(-100 * time.Millisecond)
	if c.every == 0 || over.Before(c.first) {
		return 0
	}
	return max(0, int64(over.Sub(c.first)/c.every)+1-c.tried)
}

// waitUntil waits in short steps, so that a client with nothing due notices the end.
func (c *client) waitUntil(t time.Time) bool {
	for !c.stop.Load() {
		left := time.Until(t)
		if left <= 0 {
			return true
		}
		time.Sleep(min(left, 50*time.Millisecond))
	}
	return false
}

func (c *client) dial() net.Conn {
	ctx, cancel := context.WithTimeout(c.ctx, c.job.Timeout)
	defer cancel()
	conn, err := c.connect(ctx)
	if err != nil {
		c.errors.Connect++
		runtime.Gosched()
		return nil
	}
	c.opened++
	if t, ok := conn.(*net.TCPConn); ok {
		if is, err := t.MultipathTCP(); err == nil && is {
			c.mptcp++
		}
	}
	if !c.job.TLS {
		return conn
	}
	t := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	_ = t.SetDeadline(time.Now().Add(c.job.Timeout))
	if err := t.Handshake(); err != nil {
		c.errors.Connect++
		conn.Close()
		return nil
	}
	return t
}

func (c *client) connect(ctx context.Context) (net.Conn, error) {
	if c.job.Dial != nil {
		return c.job.Dial(ctx)
	}
	d := net.Dialer{KeepAlive: -1}
	d.SetMultipathTCP(c.job.MPTCP)
	return d.DialContext(ctx, "tcp", c.job.Address)
}

// exchange sends one request and reads its answer; false: the connection is of no further use.
func (c *client) exchange(conn net.Conn) bool {
	_ = conn.SetDeadline(time.Now().Add(c.job.Timeout))
	if c.job.Hosts > 0 || c.job.Paths > 0 {
		c.request = c.job.anyRequest(c.request[:0])
	}
	if _, err := conn.Write(c.request); err != nil {
		c.errors.Write++
		return false
	}
	a, err := ReadAnswer(conn, c.in)
	c.bytes += a.Wire
	var broken *AnswerError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.errors.Timeout++
		return false
	case errors.As(err, &broken), err == nil && a.Body != c.job.Body && a.Status/100 == 2:
		c.errors.Length++
		return false
	case err != nil:
		c.errors.Read++
		return false
	}
	c.requests++
	if a.Status/100 != 2 {
		c.errors.Status++
	}
	return !a.Close
}
