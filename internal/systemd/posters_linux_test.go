package systemd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// posters are clients that post on kept connections. A POST must not be sent again, so each is lost
// whose connection ends without a response.
type posters struct {
	s      *service
	ledger *postLedger
	wait   sync.WaitGroup
	stop   context.CancelFunc
}

// postLedger counts what clients and the server have seen of each POST.
type postLedger struct {
	made     atomic.Int64
	closed   atomic.Int64 // connections whose last response said so
	silently atomic.Int64 // connections that ended between two requests

	mu     sync.Mutex
	served map[string]int // by id
	lost   []string       // why
}

func (l *postLedger) lose(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost = append(l.lost, fmt.Sprintf(format, args...))
}

// serve is the server's part: it answers with the body, which is an id.
func (l *postLedger) serve(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	l.mu.Lock()
	l.served[string(b)]++
	l.mu.Unlock()
	_, _ = w.Write(b)
}

// judge reports the POSTs that were lost, or executed more than once.
func (l *postLedger) judge(t testing.TB) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	twice := 0
	for _, n := range l.served {
		if n > 1 {
			twice++
		}
	}
	t.Logf("%d POSTs: %d lost, %d executed twice; %d connections ended by a response, %d between two requests",
		l.made.Load(), len(l.lost), twice, l.closed.Load(), l.silently.Load())
	if len(l.lost)+twice > 0 {
		t.Errorf("%d POSTs were lost:\n%s", len(l.lost), strings.Join(l.lost[:min(len(l.lost), 10)], "\n"))
	}
}

// postKind is how some clients connect.
type postKind struct {
	clients int
	address string
	mptcp   bool
	tls     *tls.Config   // nil: none
	two     bool          // HTTP/2: all of them use one http.Client
	pause   time.Duration // between two requests at most
}

// startPosters lets clients post until end is called.
func (s *service) startPosters(kinds ...postKind) *posters {
	ctx, stop := context.WithCancel(context.Background())
	p := &posters{s: s, ledger: &postLedger{served: map[string]int{}}, stop: stop}
	s.posts.Store(p.ledger)
	for i, k := range kinds {
		if k.two {
			p.startHTTP2(ctx, i, k)
			continue
		}
		for j := range k.clients {
			c := &poster{p: p, kind: k, name: fmt.Sprintf("%d-%d", i, j)}
			p.wait.Go(func() { c.run(ctx) })
		}
	}
	return p
}

// end stops the clients, and reports the POSTs that were lost.
func (p *posters) end() {
	p.s.t.Helper()
	p.stop()
	p.wait.Wait()
	p.s.posts.Store(nil)
	p.ledger.judge(p.s.t)
}

// more waits until n further POSTs have been made.
func (p *posters) more(n int64) {
	p.s.t.Helper()
	until := p.ledger.made.Load() + n
	if !p.s.within(2*time.Minute, func() bool { return p.ledger.made.Load() >= until }) {
		p.stop()
		p.s.t.Fatalf("the clients do not post:\n%s", p.s.journal())
	}
}

func (k *postKind) think(ctx context.Context) {
	if k.pause == 0 {
		return
	}
	t := time.NewTimer(rand.N(k.pause))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// poster is one client that speaks HTTP/1.1.
type poster struct {
	p     *posters
	kind  postKind
	name  string
	raw   net.Conn // nil: none is kept
	conn  net.Conn // raw, or TLS above it
	r     *bufio.Reader
	posts int // on this connection
}

func (c *poster) run(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		if c.raw != nil && c.ended() {
			c.p.ledger.silently.Add(1)
			c.close()
		}
		if c.raw == nil {
			if err := c.connect(); err != nil {
				c.p.ledger.lose("client %s cannot connect: %v", c.name, err)
				c.close()
				continue
			}
		}
		if err := c.post(c.name + "-" + strconv.Itoa(n)); err != nil {
			c.p.ledger.lose("client %s, %s, POST %d of a connection: %v", c.name, time.Now().Format(time.StampMicro), c.posts+1, err)
			c.close()
		}
		c.kind.think(ctx)
	}
	c.close()
}

func (c *poster) connect() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	raw, err := c.p.s.Dial(ctx, c.kind.address, c.kind.mptcp)
	if err != nil {
		return err
	}
	c.raw, c.conn, c.posts = raw, raw, 0
	if c.kind.tls != nil {
		t := tls.Client(raw, c.kind.tls)
		c.conn = t
		_ = raw.SetDeadline(time.Now().Add(30 * time.Second))
		if err := t.HandshakeContext(ctx); err != nil {
			return err
		}
	}
	c.r = bufio.NewReader(c.conn)
	return nil
}

func (c *poster) close() {
	if c.raw != nil {
		c.raw.Close()
		c.raw = nil
	}
}

// ended reports whether the server has ended the connection, as far as this client knows.
func (c *poster) ended() bool {
	raw, err := c.raw.(syscall.Conn).SyscallConn()
	if err != nil {
		return true
	}
	ended := true
	_ = raw.Control(func(fd uintptr) {
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		ended = err != syscall.EAGAIN
	})
	return ended
}

func (c *poster) post(id string) error {
	_ = c.raw.SetDeadline(time.Now().Add(30 * time.Second))
	c.p.ledger.made.Add(1)
	if _, err := fmt.Fprintf(c.conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(id), id); err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != 200 || string(b) != id {
		return fmt.Errorf("got %d %q", resp.StatusCode, b)
	}
	c.posts++
	if resp.Close {
		c.p.ledger.closed.Add(1)
		c.close()
	}
	return nil
}

// startHTTP2 lets clients post with Go's HTTP/2, which sends again only what the server says that
// it has not processed.
func (p *posters) startHTTP2(ctx context.Context, i int, k postKind) {
	var protocols http.Protocols
	protocols.SetHTTP2(true)
	tr := &http.Transport{
		Protocols: &protocols, TLSClientConfig: k.tls,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return p.s.Dial(ctx, k.address, k.mptcp)
		},
	}
	p.s.t.Cleanup(tr.CloseIdleConnections)
	client := &http.Client{Transport: tr, Timeout: 30 * time.Second}
	for j := range k.clients {
		p.wait.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				id := fmt.Sprintf("%d-%d-%d", i, j, n)
				p.ledger.made.Add(1)
				if err := postHTTP2(client, k.address, id); err != nil {
					p.ledger.lose("HTTP/2 client %d-%d: %v", i, j, err)
				}
				k.think(ctx)
			}
		})
	}
}

func postHTTP2(client *http.Client, address, id string) error {
	resp, err := client.Post("https://"+address+"/", "text/plain", bytes.NewReader([]byte(id)))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != 200 || string(b) != id || resp.ProtoMajor != 2) {
		err = fmt.Errorf("got %s %d %q", resp.Proto, resp.StatusCode, b)
	}
	return err
}
