package abuse

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// longest that any attack lasts.
const longest = 2 * time.Minute

// Run attacks until the job's time is up.
func Run(ctx context.Context, j Job) (Outcome, error) {
	list, err := Find([]string{j.Attack})
	if err != nil {
		return Outcome{}, err
	}
	if to, err := netip.ParseAddrPort(j.Address); err != nil || !to.Addr().IsLoopback() {
		return Outcome{}, fmt.Errorf("address (got %q); want one of the loopback, with its port", j.Address)
	}
	if j.Duration <= 0 || j.Duration > longest {
		return Outcome{}, fmt.Errorf("duration (got %v); want at most %v", j.Duration, longest)
	}
	a := &attacker{Attack: list[0], address: j.Address, ends: make(map[string]int64)}
	begin, used := time.Now(), cpu()
	a.end = begin.Add(j.Duration)
	ctx, cancel := context.WithDeadline(ctx, a.end)
	defer cancel()
	var wg sync.WaitGroup
	for range a.Connections {
		wg.Go(func() { a.slot(ctx) })
	}
	wg.Wait()
	return Outcome{
		Wall: time.Since(begin), CPU: cpu() - used, Opened: a.opened.Load(), Refused: a.refused.Load(), Sent: a.sent.Load(), Bytes: a.bytes.Load(),
		Resets: a.resets.Load(), Answers: a.answers.Load(), Ends: a.ends,
	}, nil
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// attacker is an attack that runs.
type attacker struct {
	Attack
	address string
	end     time.Time

	tried, opened, refused, sent, bytes, resets, answers atomic.Int64

	mu   sync.Mutex
	ends map[string]int64
}

// slot makes one connection after the other.
func (a *attacker) slot(ctx context.Context) {
	for ctx.Err() == nil && a.tried.Add(1) <= int64(a.Most) {
		c, err := a.connect(ctx)
		if err != nil {
			if ctx.Err() == nil {
				a.refused.Add(1)
				pause(ctx, 10*time.Millisecond) // a door that is shut is not worth a CPU
			}
			continue
		}
		a.opened.Add(1)
		err = a.run(c)
		how := c.how(err)
		c.Close()
		a.mu.Lock()
		a.ends[how]++
		a.mu.Unlock()
		runtime.Gosched()
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (a *attacker) connect(ctx context.Context) (*conn, error) {
	d := net.Dialer{KeepAlive: -1}
	d.SetMultipathTCP(false)
	raw, err := d.DialContext(ctx, "tcp", a.address)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: raw, attacker: a, ctx: ctx}
	if a.protocol == "" {
		return c, raw.SetDeadline(a.end)
	}
	t := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{a.protocol}})
	c.Conn = t
	if err := errors.Join(raw.SetDeadline(a.end), t.HandshakeContext(ctx)); err != nil {
		raw.Close()
		return nil, err
	}
	if got := t.ConnectionState().NegotiatedProtocol; got != a.protocol && a.protocol == "h2" {
		raw.Close()
		return nil, fmt.Errorf("ALPN (got %q); want h2", got)
	}
	return c, nil
}

// conn is one connection of an attack. Its deadline is the attack's end.
type conn struct {
	net.Conn
	*attacker
	ctx context.Context

	said string // what the other side ended it with, once that is known
}

// send writes and counts.
func (c *conn) send(p []byte, units int) error {
	n, err := c.Write(p)
	c.bytes.Add(int64(n))
	if err == nil {
		c.sent.Add(int64(units))
	}
	return err
}

// how a connection ended, in a few words.
func (c *conn) how(err error) string {
	switch {
	case c.said != "":
		return c.said
	case errors.Is(err, os.ErrDeadlineExceeded) || c.ctx.Err() != nil:
		return "held"
	case errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE):
		return "closed"
	case errors.Is(err, syscall.ECONNRESET):
		return "reset"
	case err != nil && strings.Contains(err.Error(), "remote error: tls"):
		return "TLS alert"
	case err != nil:
		return err.Error()
	default:
		return "held"
	}
}
