package proxy_test

import (
	"crypto/tls"
	"net"
	"runtime"
	"testing"
	"time"

	"mpgate/internal/proxytest"
	"mpgate/mptcp"
	"mpgate/proxy"
)

// neverReads is a connection whose client reads nothing.
type neverReads struct {
	net.Conn
	over <-chan struct{}
}

func (d neverReads) Read([]byte) (int, error) {
	<-d.over
	return 0, net.ErrClosed
}

// Clients that do not take a long certificate chain keep none of the turns that handshakes have,
// and end with their time.
func TestUnreadHandshakeDelaysNoOtherClient(t *testing.T) {
	m := mode{name: "tcp tls inherited", inherited: true, tls: true}
	p := onePolicy(t)
	chain := p.config.Certificates[0]
	for len(chain.Certificate)*len(chain.Certificate[0]) < 200<<10 { // a client takes 256 KiB
		chain.Certificate = append(chain.Certificate, chain.Certificate[0])
	}
	p.config.Certificates = []tls.Certificate{chain}
	s := setup{mode: m, sendBuf: 8 << 10, listener: proxy.ListenerOptions{TLS: p}}
	s.options.HeaderTime = 4 * time.Second
	g := start(t, s, m.origin(t, proxytest.Echo))
	over := make(chan struct{})
	defer close(over)
	n := runtime.GOMAXPROCS(0)
	for range n {
		c := proxytest.Dial(t, g.addr, mptcp.Off)
		_ = c.Conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		go func() {
			_ = tls.Client(neverReads{c.Conn, over}, &tls.Config{ServerName: testHost,
				RootCAs: testCert(t).roots}).Handshake()
		}()
	}
	began := time.Now()
	want(t, "body", g.client().Get("/x").Body, "GET /x ")
	if took := time.Since(began); took > s.options.HeaderTime {
		t.Errorf("a handshake took %v beside those", took)
	}
	g.waitMetric(float64(n), "mpgate_connections_total", "end", "timeout")
}
