package load

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"mpgate/bench/figures"
)

// BuiltinH2 makes requests at the rate of j over HTTP/2 and TLS. Every request is sent when it is
// due, on one of the connections in turn, whether those before it are answered or not, and its
// latency is counted from then on: none waits for another but in the proxy.
func BuiltinH2(ctx context.Context, j Job) (Outcome, error) {
	if _, err := netip.ParseAddrPort(j.Address); err != nil {
		return Outcome{}, fmt.Errorf("address (got %q); want IP:PORT", j.Address)
	}
	if j.Rate <= 0 || j.Connections < 1 {
		return Outcome{}, fmt.Errorf("rate and connections (got %v and %d); want both", j.Rate, j.Connections)
	}
	if j.Timeout == 0 {
		j.Timeout = timeout
	}
	conns := make([]*h2conn, j.Connections)
	var wg sync.WaitGroup
	for i := range conns {
		conns[i] = &h2conn{job: j}
		defer conns[i].close()
		if j.Warm {
			wg.Go(func() { conns[i].once(ctx, time.Now()) })
		}
	}
	wg.Wait()
	for _, c := range conns {
		// Errors of the warm-up count; its latencies do not.
		c.out, c.latency = Outcome{Errors: c.out.Errors, Opened: c.out.Opened}, figures.Histogram{}
	}
	if j.Begun != nil {
		j.Begun()
	}
	start := time.Now()
	tick := time.NewTimer(0)
	defer tick.Stop()
	due, every := start, time.Duration(float64(time.Second)/j.Rate)
	for n := 0; due.Before(start.Add(j.Duration)); n++ {
		tick.Reset(time.Until(due))
		select {
		case <-tick.C:
		case <-ctx.Done():
			wg.Wait()
			return Outcome{}, context.Cause(ctx)
		}
		at := due // which moves on
		wg.Go(func() { conns[n%len(conns)].once(ctx, at) })
		due = start.Add(time.Duration(n+1) * every)
	}
	wg.Wait()
	out := Outcome{Wall: time.Since(start)}
	var h figures.Histogram
	for _, c := range conns {
		out.Requests += c.out.Requests
		out.Bytes += c.out.Bytes
		out.Opened += c.out.Opened
		out.Errors = addErrors(out.Errors, c.out.Errors)
		h.Add(&c.latency)
	}
	out.Latency = latency(&h, true)
	return out, nil
}

// h2conn is a connection of HTTP/2, made again when it can take no more requests.
type h2conn struct {
	job Job

	dialing sync.Mutex // held while there is none

	mu      sync.Mutex
	conns   []*http.ClientConn // the last is in use
	out     Outcome
	latency figures.Histogram
}

func (c *h2conn) close() {
	for _, conn := range c.conns {
		conn.Close()
	}
}

// once makes one request that was due at a moment.
func (c *h2conn) once(ctx context.Context, due time.Time) {
	ctx, cancel := context.WithTimeout(ctx, c.job.Timeout)
	defer cancel()
	cc, err := c.get(ctx)
	if err != nil {
		c.mu.Lock()
		c.out.Errors.Connect++
		c.mu.Unlock()
		return
	}
	status, n, err := c.exchange(ctx, cc)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.Bytes += n
	switch {
	case ctx.Err() != nil:
		c.out.Errors.Timeout++
	case err != nil:
		c.out.Errors.Read++
	case status/100 != 2:
		c.out.Errors.Status++
	case n != c.job.Body:
		c.out.Errors.Length++
	default:
		c.out.Requests++
		c.latency.Record(time.Since(due))
	}
}

func (c *h2conn) exchange(ctx context.Context, cc *http.ClientConn) (status int, n int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("https://%s%s/bytes/%d", c.job.Address, c.job.Prefix, c.job.Body), nil)
	if err != nil {
		return 0, 0, err
	}
	resp, err := cc.RoundTrip(req)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	n, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, n, err
}

// get gives the connection, and makes it if there is none that takes requests.
func (c *h2conn) get(ctx context.Context) (*http.ClientConn, error) {
	c.dialing.Lock()
	defer c.dialing.Unlock()
	if n := len(c.conns); n > 0 && c.conns[n-1].Err() == nil && c.conns[n-1].Available() > 0 {
		return c.conns[n-1], nil
	}
	d := net.Dialer{KeepAlive: -1}
	d.SetMultipathTCP(c.job.MPTCP)
	t := http.Transport{DialContext: d.DialContext, Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Protocols.SetHTTP2(true)
	cc, err := t.NewClientConn(ctx, "https", c.job.Address)
	if err != nil {
		return nil, err
	}
	c.conns = append(c.conns, cc)
	c.mu.Lock()
	c.out.Opened++
	c.mu.Unlock()
	return cc, nil
}
