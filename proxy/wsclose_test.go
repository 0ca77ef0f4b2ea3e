package proxy_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"

	"mpgate/internal/proxytest"
	"mpgate/proxy"
	"mpgate/proxy/backend"
	"mpgate/proxy/http2"
	"mpgate/proxy/route"
)

// At the end of a drain, both ends of a WebSocket get a close frame with a status.
func TestDrainSendsCloseFramesToWebSockets(t *testing.T) {
	t.Parallel()
	for _, m := range []mode{plain, modes[4]} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			address, ended := websocketOrigin(t, m)
			g := startBefore(t, setup{mode: m}, address)
			ctx, cancel := context.WithTimeout(context.Background(), proxytest.Patience)
			defer cancel()
			transport := &http.Transport{TLSClientConfig: &tls.Config{ServerName: testHost, RootCAs: testCert(t).roots}}
			defer transport.CloseIdleConnections()
			ws, _, err := websocket.Dial(ctx, m.scheme()+"://"+g.addr+"/ws",
				&websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
			if err != nil {
				t.Fatal(err)
			}
			defer ws.CloseNow()
			if err := ws.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
				t.Fatal(err)
			}
			if _, got, err := ws.Read(ctx); err != nil || string(got) != "hello" {
				t.Fatalf("got %q, %v", got, err)
			}
			over, end := context.WithCancel(ctx)
			end() // the drain's time is over at once
			down := make(chan struct{})
			go func() { defer close(down); g.proxy.Shutdown(over) }()
			if _, _, err := ws.Read(ctx); websocket.CloseStatus(err) != websocket.StatusGoingAway {
				t.Errorf("the client got %v, want status %v", err, websocket.StatusGoingAway)
			}
			want(t, "what the server was told", <-ended, websocket.StatusGoingAway)
			<-down
			l := g.log.Next()
			want(t, "status", l.Status, 101)
			want(t, "end", l.End, "drain")
		})
	}
}

// A message that is in progress at the end of a drain is forwarded completely first; a client that
// does not answer is cut.
func TestCloseFrameFollowsTheFrameInProgress(t *testing.T) {
	t.Parallel()
	goOn, gone := make(chan bool), make(chan string, 1)
	o := plain.origin(t, func(c *proxytest.Conn) {
		r := c.Request()
		if r == nil {
			return
		}
		c.Send(switchingFor(r.Header("Sec-WebSocket-Key")) + "\x82\x7e\x01\x00half")
		<-goOn
		c.Send(string(make([]byte, 252)) + "\x81\x03cut")
		b, _ := io.ReadAll(c.R)
		gone <- string(b)
	})
	g := start(t, setup{mode: plain, listener: proxy.ListenerOptions{H2C: true}}, o)
	s, resp := askHead(t, multiplexed(t, g.addr), webSocketTo("/ws"))
	defer s.Release()
	if resp.Status != 101 || readN(t, s, 8) != "\x82\x7e\x01\x00half" {
		t.Fatalf("got %d", resp.Status)
	}
	over, end := context.WithCancel(context.Background())
	end()
	began := time.Now()
	down := make(chan struct{})
	go func() { defer close(down); g.proxy.Shutdown(over) }()
	goOn <- true
	got := ""
	for {
		p, err := s.Body().Next(true)
		got += string(p)
		if err != nil {
			var reset *http2.ResetError
			if err != io.EOF && !errors.As(err, &reset) && len(got) < 256 {
				t.Error(err)
			}
			break
		}
	}
	<-down
	// The rest of the frame came either before the close frame was wanted, and then the next frame,
	// too, or after it.
	switch rest := got[min(252, len(got)):]; rest {
	case "\x88\x02\x03\xe9", "\x81\x03cut\x88\x02\x03\xe9":
	default:
		t.Errorf("behind the frame came %q, want a closing frame with status 1001", rest)
	}
	told := <-gone
	if len(told) != 8 || told[0] != 0x88 || told[1] != 0x82 ||
		binary.BigEndian.Uint16([]byte{told[6] ^ told[2], told[7] ^ told[3]}) != 1001 {
		t.Errorf("the server got %q, want a masked closing frame with status 1001", told)
	}
	if took := time.Since(began); took > proxytest.Patience {
		t.Errorf("the drain took %v", took)
	}
	want(t, "end", g.log.Next().End, "drain")
}

// When a route is removed, its WebSockets get close frames, and the other streams of the connection
// continue.
func TestExpireSendsCloseFramesToWebSockets(t *testing.T) {
	t.Parallel()
	o := plain.origin(t, webSocketEcho(func(key string) string {
		return switchingFor(key)
	}))
	var old, kept proxy.Lease
	g := start(t, setup{mode: plain, listener: proxy.ListenerOptions{H2C: true},
		routes: func(b *backend.Backend) []proxy.Route {
			return []proxy.Route{{Name: "old", Match: route.Match{Paths: []string{"/old"}},
				Action: &proxy.Forward{Backend: b}, Lease: &old},
				{Name: "kept", Match: route.Match{Paths: []string{"/kept"}}, Action: &proxy.Forward{Backend: b},
					Lease: &kept}}
		}}, o)
	c := multiplexed(t, g.addr)
	leaves, _ := askHead(t, c, webSocketTo("/old"))
	defer leaves.Release()
	stays, _ := askHead(t, c, webSocketTo("/kept"))
	defer stays.Release()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	expired := make(chan int, 1)
	go func() { expired <- g.proxy.Expire(ctx, proxy.Ending{Leases: []*proxy.Lease{&old}}) }()
	// The gateway's closing frame, or the server's, which is told at the same time and sends it
	// back.
	if got := readN(t, leaves, 4); got != "\x88\x02\x03\xe9" && got[:2] != "\x88\x82" {
		t.Errorf("got %q", got)
	}
	if err := errors.Join(leaves.WriteBody([]byte("\x88\x82abcd\x62\x8b")), leaves.Flush()); err != nil {
		t.Error(err)
	}
	want(t, "connections cut into", <-expired, 1)
	if err := errors.Join(stays.WriteBody([]byte("\x82\x81abcdx")), stays.Flush()); err != nil {
		t.Error(err)
	}
	want(t, "what came back on the other", readN(t, stays, 7), "\x82\x81abcdx")
}

// A server that ignores the close frame does not delay the drain of a client that has answered it.
func TestDrainDoesNotWaitForAServerThatIgnoresTheCloseFrame(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	o := plain.origin(t, func(c *proxytest.Conn) {
		r := c.Request()
		if r == nil {
			return
		}
		c.Send(switchingFor(r.Header("Sec-WebSocket-Key")))
		_, _ = io.Copy(io.Discard, c.R)
		<-hold // it says nothing, also once nothing more comes
	})
	t.Cleanup(func() { close(hold) })
	g := start(t, setup{mode: plain, backend: backend.Options{IdleTimeout: time.Hour}}, o)
	c := g.client()
	c.Send(webSocketRequest)
	if a := c.ReadHead(); a.Status != 101 {
		t.Fatalf("got %q, want a 101", a.Head)
	}
	over, end := context.WithCancel(context.Background())
	end()
	down := make(chan struct{})
	go func() { defer close(down); g.proxy.Shutdown(over) }()
	told := make([]byte, 4)
	if _, err := io.ReadFull(c.R, told); err != nil || string(told) != "\x88\x02\x03\xe9" {
		t.Errorf("the client was told %q, %v", told, err)
	}
	c.Send("\x88\x82abcd\x62\x8b")
	select {
	case <-down:
	case <-time.After(proxytest.Patience / 2):
		t.Error("the drain waits for the server")
	}
	want(t, "end", g.log.Next().End, "drain")
}
