package soak

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/coder/websocket"
)

// limit bounds one exchange: no client may ever hang.
const limit = 30 * time.Second

// client is one that makes requests, one after the other.
type client struct {
	name   string
	ledger *ledger
	base   string // URL
	http   *http.Client
	kind   kind
	routes []string
	fresh  bool // a new connection for each request
	leaves bool // before some answers are whole
}

// transport connects to a gateway's address by TCP or MPTCP.
func transport(two, multipath bool, t *tls.Config, address string) *http.Transport {
	var d net.Dialer
	d.SetMultipathTCP(multipath)
	var p http.Protocols
	p.SetHTTP1(!two)
	p.SetHTTP2(two && t != nil)
	p.SetUnencryptedHTTP2(two && t == nil)
	return &http.Transport{
		Protocols: &p, TLSClientConfig: t, DisableCompression: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return d.DialContext(ctx, network, address)
		},
	}
}

// localTLS trusts the gateway's local CA.
func (g *gateway) localTLS() *tls.Config {
	pool := x509.NewCertPool()
	pem, err := os.ReadFile(filepath.Join(g.dir, "state", "local", "ca.pem"))
	if err != nil || !pool.AppendCertsFromPEM(pem) {
		g.t.Fatalf("the gateway's CA: %v", err)
	}
	return &tls.Config{RootCAs: pool, ServerName: "localhost"}
}

// clients are of each kind one.
func (g *gateway) clients(through *tls.Config) []*client {
	routes := []string{"h1", "h2c", "auto", "tls"}
	badRoutes := []string{"bad/die", "bad/reset", "bad/hang", "bad/garbage", "bad/cut", "bad/chunks", "bad/twice", "bad/early", "bad/fine"}
	of := func(name string, k kind, tr *http.Transport, routes ...string) *client {
		scheme := "http"
		if tr.TLSClientConfig != nil {
			scheme = "https"
		}
		return &client{name: name, ledger: g.ledger, base: scheme + "://localhost/", http: &http.Client{Transport: tr}, kind: k, routes: routes}
	}
	list := []*client{
		of("h1", good, transport(false, false, nil, g.plain), routes...),
		of("h1 by MPTCP", good, transport(false, true, nil, g.plain), routes...),
		of("h2c", good, transport(true, false, nil, g.plain), routes...),
		of("h2c by MPTCP", good, transport(true, true, nil, g.plain), routes...),
		of("h1 by TLS", good, transport(false, true, g.localTLS(), g.secure), routes...),
		of("h2 by TLS", good, transport(true, false, g.localTLS(), g.secure), routes...),
		of("passed through", passed, transport(true, false, through, g.secure), "direct"),
		of("mortal, h1", flaky, transport(false, false, nil, g.plain), "mortal"),
		of("mortal, h2c", flaky, transport(true, false, nil, g.plain), "mortal"),
		of("bad, h1", bad, transport(false, false, nil, g.plain), badRoutes...),
		of("bad, h2c", bad, transport(true, false, nil, g.plain), badRoutes...),
		of("bad, h2 by TLS", bad, transport(true, true, g.localTLS(), g.secure), badRoutes...),
	}
	one := of("a connection each", good, transport(false, false, nil, g.plain), routes...)
	one.fresh = true
	for name, two := range map[string]bool{"leaving, h1": false, "leaving, h2c": true} {
		leaving := of(name, bad, transport(two, true, nil, g.plain), routes...)
		leaving.leaves = true
		list = append(list, leaving)
	}
	return append(list, one)
}

// run makes requests until ctx ends; what has begun by then is ended.
func (c *client) run(ctx context.Context) {
	defer c.http.CloseIdleConnections()
	for ctx.Err() == nil {
		switch {
		case c.kind == good && rand.IntN(20) == 0:
			c.webSocket()
		default:
			c.request()
		}
		if c.fresh || c.kind == passed && rand.IntN(10) == 0 {
			c.http.CloseIdleConnections()
		}
		wait(ctx, time.Duration(rand.IntN(10))*time.Millisecond)
	}
}

// request is one exchange.
func (c *client) request() {
	most := limit
	if c.leaves {
		most = time.Duration(rand.IntN(20)) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	method, size := "GET", 0
	if c.kind != flaky && rand.IntN(2) == 0 {
		method, size = "POST", rand.IntN(1<<(4+rand.IntN(14)))
	}
	n, id := c.ledger.open(c.kind, method == "POST")
	want := rand.IntN(1 << (4 + rand.IntN(14)))
	url := fmt.Sprintf("%s%s/%s?n=%d", c.base, c.routes[rand.IntN(len(c.routes))], id, want)
	if rand.IntN(3) == 0 {
		url += "&pieces=1"
	}
	sent := payload(id, size)
	var body io.Reader
	if method == "POST" {
		body = bytes.NewReader(sent)
		if rand.IntN(2) == 0 {
			body = io.MultiReader(body) // of a length that is not told
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		c.ledger.fail("%v", err)
		return
	}
	if method == "POST" {
		// A connection that the gateway closes between two requests, as it does when it is
		// replaced, may meet one that is on its way. Clients send it again then; net/http does so
		// only for what is marked. A server that gets it twice is found all the same.
		r.Header.Set("Idempotency-Key", id)
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(sent)), nil }
	}
	began := time.Now()
	err = c.exchange(r, n, id, sent, want)
	switch took := time.Since(began); {
	case took > limit*9/10:
		c.ledger.fail("%s: %s %s hung: %v", c.name, method, url, err)
	case err != nil && c.kind != bad:
		c.ledger.fail("%s: %s %s, %v: %v", c.name, method, url, took, err)
	}
}

var errWrong = errors.New("a wrong answer")

// exchange sends r and holds the answer to it.
func (c *client) exchange(r *http.Request, n int, id string, sent []byte, want int) error {
	resp, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if resp.StatusCode != 200 || err != nil {
		if c.kind == bad {
			if err == nil {
				c.ledger.answered(n)
			}
			return nil
		}
		return fmt.Errorf("status %d, %d bytes, %w", resp.StatusCode, len(got), err)
	}
	c.ledger.answered(n)
	if echoed := resp.Header.Get("X-Id"); echoed != id {
		c.ledger.fail("%s: %s got the answer of %q", c.name, id, echoed)
		return errWrong
	}
	if c.kind == bad && !c.leaves {
		if string(got) != "ok" {
			c.ledger.fail("%s: %s %s got %q as a whole answer", c.name, id, r.URL, got)
		}
		return nil
	}
	if !bytes.Equal(got, payload(id, want)) {
		c.ledger.fail("%s: %s got %d bytes that are not its own, want %d", c.name, id, len(got), want)
		return errWrong
	}
	if had, should := resp.Header.Get("X-Got"), fmt.Sprintf("%d %08x", len(sent), crc32.ChecksumIEEE(sent)); had != should {
		c.ledger.fail("%s: the server had %s of %s, want %s", c.name, had, id, should)
		return errWrong
	}
	return nil
}

// webSocket says a few things and wants them back.
func (c *client) webSocket() {
	tr := c.http.Transport.(*http.Transport)
	if tr.Protocols.HTTP2() || tr.Protocols.UnencryptedHTTP2() {
		return // the library uses HTTP/1
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	n, id := c.ledger.open(good, true)
	ws, _, err := websocket.Dial(ctx, c.base+"h1/"+id+"/ws", &websocket.DialOptions{HTTPClient: c.http})
	if err != nil {
		c.ledger.fail("%s: a WebSocket: %v", c.name, err)
		return
	}
	defer ws.CloseNow()
	for i := range 5 {
		text := fmt.Sprintf("%s %d", id, i)
		err := ws.Write(ctx, websocket.MessageText, []byte(text))
		if err == nil {
			var got []byte
			if _, got, err = ws.Read(ctx); err == nil && string(got) != text {
				c.ledger.fail("%s: a WebSocket said %q, want %q", c.name, got, text)
				return
			}
		}
		if websocket.CloseStatus(err) == websocket.StatusGoingAway {
			break // a drain says so
		}
		if err != nil {
			c.ledger.fail("%s: a WebSocket, after %d messages: %v", c.name, i, err)
			return
		}
	}
	_ = ws.Close(websocket.StatusNormalClosure, "")
	c.ledger.answered(n)
}
