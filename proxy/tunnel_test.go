package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/proxy/backend"
)

const switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Accept: x\r\n\r\n"

// switchingFor is a 101 that accepts the WebSocket of a client's key.
func switchingFor(key string) string {
	return strings.Replace(switching, "Accept: x", "Accept: "+acceptFor(key), 1)
}

const webSocketRequest = "GET /ws HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// tunnelled makes an origin that goes over to a tunnel, in which serve speaks.
func tunnelled(t *testing.T, m mode, serve func(c *proxytest.Conn)) *proxytest.Origin {
	return m.origin(t, func(c *proxytest.Conn) {
		for r := c.Request(); r != nil; r = c.Request() {
			if !r.Has("Upgrade") {
				c.Send(proxytest.EchoOf(r))
				continue
			}
			c.Send(switching)
			serve(c)
			return
		}
	})
}

func echoBytes(c *proxytest.Conn) {
	_, _ = io.Copy(c.Conn, c.R)
	c.CloseWrite()
}

// openTunnel returns a client in a tunnel.
func (g *gateway) openTunnel() *proxytest.Client {
	g.t.Helper()
	c := g.client()
	c.Send(upgrade)
	if a := c.ReadHead(); a.Status != 101 {
		g.t.Fatalf("got %q, want a 101", a.Head)
	}
	return c
}

func (g *gateway) echoes(c *proxytest.Client, s string) {
	g.t.Helper()
	c.Send(s)
	got := make([]byte, len(s))
	if _, err := io.ReadFull(c.R, got); err != nil || string(got) != s {
		g.t.Fatalf("the tunnel gave %q, %v; want %q", got, err, s)
	}
}

func TestTunnelHalfCloseFromTheClient(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := tunnelled(t, m, func(c *proxytest.Conn) {
			got, err := io.ReadAll(c.R) // until the client's half ends
			c.Send("all: " + string(got))
			if err != nil {
				t.Error(err)
			}
		})
		g := start(t, setup{mode: m}, o)
		c := g.openTunnel()
		c.Send("ping")
		c.CloseWrite()
		if rest, err := c.Rest(); rest != "all: ping" || err != nil {
			t.Errorf("got %q, %v", rest, err)
		}
		l := g.log.Next()
		want(t, "status", l.Status, 101)
		want(t, "end", l.End, "ok")
		want(t, "bytes in", l.BytesIn, 4)
		want(t, "bytes out", l.BytesOut, 9)
		g.bystander()
	})
}

func TestTunnelHalfCloseFromTheServer(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		got := make(chan string, 1)
		o := tunnelled(t, m, func(c *proxytest.Conn) {
			c.Send("bye")
			c.CloseWrite()
			b, _ := io.ReadAll(c.R)
			got <- string(b)
		})
		g := start(t, setup{mode: m}, o)
		c := g.openTunnel()
		if rest, err := c.Rest(); rest != "bye" || err != nil {
			t.Errorf("got %q, %v", rest, err)
		}
		c.Send("still here")
		c.CloseWrite()
		want(t, "what the server got after its half", <-got, "still here")
		want(t, "end", g.log.Next().End, "ok")
	})
}

func TestTunnelBytesRightAfterTheHeads(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := m.origin(t, func(c *proxytest.Conn) {
			c.Request()
			if n := c.R.Buffered(); n > 0 {
				t.Errorf("%d bytes of the tunnel came before the server had accepted it", n)
			}
			c.Send(switching + "server speaks first;")
			echoBytes(c)
		})
		g := start(t, setup{mode: m}, o)
		c := g.client()
		c.Send(upgrade + "client did not wait;")
		want(t, "status", c.ReadHead().Status, 101)
		c.CloseWrite()
		if rest, err := c.Rest(); rest != "server speaks first;client did not wait;" || err != nil {
			t.Errorf("got %q, %v", rest, err)
		}
	})
}

func TestTunnelCarriesLargeAmountsInBothDirections(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		o := tunnelled(t, m, echoBytes)
		g := start(t, setup{mode: m}, o)
		c := g.openTunnel()
		sent := bytes.Repeat([]byte("0123456789abcdef"), 512<<10) // 8 MiB
		done := make(chan error, 1)
		go func() {
			_, err := c.Write(sent)
			done <- errors.Join(err, c.Conn.(interface{ CloseWrite() error }).CloseWrite())
		}()
		got, err := io.ReadAll(c.R)
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d of %d bytes came back, %v", len(got), len(sent), err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		l := g.log.Next()
		want(t, "bytes in", l.BytesIn, int64(len(sent)))
		want(t, "bytes out", l.BytesOut, int64(len(sent)))
	})
}

func TestTunnelEndsWithItsIdleTime(t *testing.T) {
	eachPlainMode(t, func(t *testing.T, m mode) {
		gone := make(chan string, 1)
		o := tunnelled(t, m, func(c *proxytest.Conn) {
			b, _ := io.ReadAll(c.R)
			gone <- string(b)
		})
		g := start(t, setup{mode: m, backend: backend.Options{IdleTimeout: 500 * time.Millisecond}}, o)
		c := g.openTunnel()
		began := time.Now()
		c.Send("one")
		c.WantClosed()
		if took := time.Since(began); took < 500*time.Millisecond {
			t.Errorf("the tunnel ended after %v", took)
		}
		want(t, "what the server got", <-gone, "one")
		want(t, "end", g.log.Next().End, "client_timeout")
		g.bystander()
	})
}

func TestTunnelStaysWhileOneDirectionIsBusy(t *testing.T) {
	eachPlainMode(t, func(t *testing.T, m mode) {
		const idle = 1500 * time.Millisecond
		stop := make(chan struct{})
		o := tunnelled(t, m, func(c *proxytest.Conn) {
			tick := time.NewTicker(idle / 10)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					if !c.Send("x") {
						return
					}
				case <-stop:
					_, _ = io.CopyN(io.Discard, c.R, 10)
					return
				}
			}
		})
		s := setup{mode: m, backend: backend.Options{IdleTimeout: idle}}
		s.options.IdleTime = idle
		g := start(t, s, o)
		c := g.openTunnel()
		for began := time.Now(); time.Since(began) < 3*idle; { // the client is silent all the time
			if _, err := c.R.ReadByte(); err != nil {
				t.Fatalf("the tunnel ended after %v: %v", time.Since(began), err)
			}
		}
		c.Send("still open")
		close(stop)
		_, _ = c.Rest()
		want(t, "bytes in", g.log.Next().BytesIn, 10)
	})
}

func TestTunnelBrokenByEitherSide(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		gone := make(chan error, 1)
		o := tunnelled(t, m, func(c *proxytest.Conn) {
			b, _ := c.R.ReadByte()
			if b == 'r' {
				c.Reset()
				return
			}
			_, err := c.R.ReadByte()
			gone <- err
		})
		g := start(t, setup{mode: m}, o)
		c := g.openTunnel()
		c.Send("w")
		c.Reset()
		if err := <-gone; err == nil {
			t.Error("the server was not told that the client is gone")
		}
		want(t, "end after a client's reset", g.log.Next().End, "client_gone")
		c = g.openTunnel()
		c.Send("r")
		if _, err := c.Rest(); err == nil {
			t.Error("a reset of the server looks like an orderly end")
		}
		want(t, "end after a server's reset", g.log.Next().End, "backend_reset")
		g.bystander()
	})
}

// websocketOrigin echoes WebSocket messages, with net/http's server. It sends the status with which
// each connection ends.
func websocketOrigin(t *testing.T, m mode) (address string, ended chan websocket.StatusCode) {
	l := proxytest.Listen(t, m.mptcp)
	ended = make(chan websocket.StatusCode, 16)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"chat"}})
		if err != nil {
			t.Error(err)
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(2 << 20)
		for {
			kind, b, err := c.Read(r.Context())
			if err != nil {
				ended <- websocket.CloseStatus(err)
				return
			}
			if err := c.Write(r.Context(), kind, b); err != nil {
				return
			}
		}
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return l.Addr().String(), ended
}

func TestWebSocket(t *testing.T) {
	eachMode(t, func(t *testing.T, m mode) {
		address, _ := websocketOrigin(t, m)
		g := startBefore(t, setup{mode: m}, address)
		ctx, cancel := context.WithTimeout(context.Background(), proxytest.Patience)
		defer cancel()
		transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			var d net.Dialer
			d.SetMultipathTCP(m.mptcp != mptcp.Off)
			return d.DialContext(ctx, network, addr)
		}, TLSClientConfig: &tls.Config{ServerName: testHost, RootCAs: testCert(t).roots}}
		defer transport.CloseIdleConnections()
		ws, _, err := websocket.Dial(ctx, m.scheme()+"://"+g.addr+"/ws",
			&websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}, Subprotocols: []string{"chat"}})
		if err != nil {
			t.Fatal(err)
		}
		defer ws.CloseNow()
		want(t, "subprotocol", ws.Subprotocol(), "chat")
		ws.SetReadLimit(2 << 20)
		for _, text := range []string{"", "hello", strings.Repeat("x", 1<<20)} {
			if err := ws.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
				t.Fatal(err)
			}
			if _, got, err := ws.Read(ctx); err != nil || string(got) != text {
				t.Fatalf("%d bytes came back of %d, %v", len(got), len(text), err)
			}
		}
		if err := ws.Close(websocket.StatusNormalClosure, "done"); err != nil {
			t.Error(err)
		}
		l := g.log.Next()
		want(t, "status", l.Status, 101)
		want(t, "path", l.Path, "/ws")
		want(t, "end", l.End, "ok")
	})
}
